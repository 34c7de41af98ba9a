from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from swin_unet.config import DataConfig, UserError
from swin_unet.imaging import Preprocessing, Volume
from swin_unet.inference import VolumeSegmenter
from swin_unet.two_stage import TwoStageSegmenter, region_of


class Threshold(nn.Module):
    """Logits that are a function of the pixel alone, and a count of the pixels seen."""

    def __init__(self):
        super().__init__()
        self.num_pixels = 0

    def forward(self, image):
        self.num_pixels += image[:, 0].numel()
        middle = image[:, image.shape[1] // 2]
        return torch.stack([0.5 - middle, middle - 0.5], dim=1)


class Nothing(nn.Module):
    def forward(self, image):
        return torch.stack([image[:, 0] * 0 + 1, image[:, 0] * 0], dim=1)


def segmenter(model=None, classes=("organ",), num_channels=1, **changes):
    options = {"intensity": "window", "window": (0, 100), "fit": "crop", "image_size": (8, 8)}
    settings = Preprocessing.from_config(DataConfig(**{**options, **changes}))
    return VolumeSegmenter(
        model or Threshold(), settings, num_channels=num_channels, classes=classes
    )


def coarse(**changes):
    return segmenter(**{"fit": "resize", "image_size": (16, 16), **changes})


def with_organ(shape=(40, 36, 10), axes=(1, 1, 1), specks=()):
    """A bright box, and bright single voxels elsewhere."""
    array = np.zeros(shape, dtype=np.int16)
    array[22:30, 5:15, 3:7] = 100
    for place in specks:
        array[place] = 100
    return Volume(array, np.diag([1.0, 1.0, 4.0, 1.0]) @ np.diag([*axes, 1.0]))


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("axes", [(1, 1, 1), (-1, 1, -1)])
@pytest.mark.parametrize("context", [1, 3])
def test_the_organ_is_back_in_its_place(plane, axes, context):
    image = with_organ(axes=axes)
    fine = segmenter(plane=plane, context_slices=context)
    labels, box = TwoStageSegmenter(fine, coarse()).segment_with_box(image)
    assert np.array_equal(labels.array, image.array // 100)
    assert np.array_equal(labels.affine, image.affine)
    prepared = fine.preprocessing.prepare(image)
    assert np.prod([part.stop - part.start for part in box]) < 0.6 * prepared.voxels[0].size
    restored = prepared.to_working(Volume(image.array, image.affine))[box]
    assert restored.sum() == image.array.sum()  # nothing of the organ is outside


def test_the_fine_model_sees_the_box_only():
    image = with_organ()
    fine = segmenter()
    TwoStageSegmenter(fine, coarse()).segment(image)
    alone = segmenter()
    alone.segment(image)
    assert fine.model.num_pixels < 0.3 * alone.model.num_pixels


def test_what_lies_outside_the_box_is_background():
    """The coarse model, at a third of the resolution, loses the specks that the fine one sees."""
    image = with_organ(specks=[(3, 30, 1), (38, 2, 9)])
    fine = segmenter()
    two_stage = TwoStageSegmenter(fine, coarse()).segment(image).array
    assert fine.segment(image).array.sum() == two_stage.sum() + 2
    assert np.array_equal(two_stage, with_organ().array // 100)


def test_context_slices_beyond_the_box_are_real_ones():
    """The slice of the organ's end depends on its neighbour outside of the box."""

    class Upper(nn.Module):
        def forward(self, image):
            return torch.stack([0.5 - image[:, 2], image[:, 2] - 0.5], dim=1)

    image = with_organ()
    image.array[25, 10, 7:] = 100  # grows on above the organ
    fine = segmenter(Upper(), context_slices=3)
    two_stage = TwoStageSegmenter(fine, coarse(image_size=(9, 9)), margin=0.0)
    labels, box = two_stage.segment_with_box(image)
    whole = np.zeros_like(labels.array)
    shifted = np.roll(image.array // 100, -1, axis=2)
    shifted[..., -1] = image.array[..., -1] // 100
    rows, columns, slices = box
    # Working orientation of this volume: rows and columns run along -y and -x.
    keep = np.zeros((36, 40, 10), dtype=bool)
    keep[rows, columns, slices] = True
    keep = keep[::-1, ::-1].transpose(1, 0, 2)
    whole[keep] = shifted[keep]
    assert np.array_equal(labels.array, whole)


def test_without_a_finding_the_fine_model_looks_at_everything():
    image = with_organ()
    two_stage = TwoStageSegmenter(segmenter(), coarse(model=Nothing()))
    labels, box = two_stage.segment_with_box(image)
    assert np.array_equal(labels.array, image.array // 100)
    assert [part.stop - part.start for part in box] == [36, 40, 10]


def test_the_box_is_never_smaller_than_a_training_crop():
    image = with_organ()
    fine = segmenter(image_size=(24, 32))
    _, box = TwoStageSegmenter(fine, coarse()).segment_with_box(image)
    assert box[0].stop - box[0].start >= 24
    assert box[1].stop - box[1].start >= 32
    halved = segmenter(image_size=(12, 12), spacing_mm=(2.0, 2.0))
    _, box = TwoStageSegmenter(halved, coarse()).segment_with_box(image)
    assert box[0].stop - box[0].start >= 24


def test_a_region_is_around_the_largest_part_of_every_label():
    labels = np.zeros((9, 9, 4), dtype=np.uint8)
    labels[1:4, 2:5, 1:3] = 1
    labels[8, 8, 3] = 1
    labels[5:7, 0:2, 0] = 2
    assert region_of(labels, [1]) == (slice(1, 4), slice(2, 5), slice(1, 3))
    assert region_of(labels, [1, 2]) == (slice(1, 7), slice(0, 5), slice(0, 3))
    assert region_of(labels, [3]) is None


def test_only_classes_that_both_know_make_the_region():
    two_stage = TwoStageSegmenter(
        segmenter(classes=("b", "c")), coarse(classes=("a", "b"), model=Nothing())
    )
    assert two_stage.coarse_labels == [2]
    unrelated = TwoStageSegmenter(segmenter(classes=("c",)), coarse(classes=("a", "b")))
    assert unrelated.coarse_labels == [1, 2]


@pytest.mark.parametrize(
    ("fine", "message"),
    [(coarse, "data.fit crop"), (lambda: segmenter(num_channels=2), r"2 image channel\(s\)")],
)
def test_models_that_do_not_fit_are_refused(fine, message):
    with pytest.raises(UserError, match=message):
        TwoStageSegmenter(fine(), coarse())
