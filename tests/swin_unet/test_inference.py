from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from swin_unet.config import DataConfig, UserError
from swin_unet.imaging import Preprocessing, Volume
from swin_unet.inference import VolumeSegmenter


class Threshold(nn.Module):
    """Logits that are a function of the pixel alone: the right answer is known."""

    def forward(self, image):
        middle = image[:, image.shape[1] // 2]
        return torch.stack([0.5 - middle, middle - 0.5], dim=1)


def preprocessing(**changes):
    options = {"intensity": "window", "window": (0, 100), "image_size": (16, 16)}
    return Preprocessing.from_config(DataConfig(**{**options, **changes}))


def blocks(shape=(20, 18, 5)):
    """A volume of large bright and dark blocks, int16."""
    grid = np.indices(shape).sum(axis=0) // 8 % 2
    return Volume((grid * 100).astype(np.int16), np.diag([1.0, 1.5, 4.0, 1.0]))


def segmenter(settings, **options):
    return VolumeSegmenter(Threshold(), settings, num_channels=1, classes=("bright",), **options)


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("axes", [(1, 1, 1), (-1, 1, -1)])
def test_native_crop_gives_every_voxel_back_in_its_place(plane, axes):
    volume = blocks()
    volume = Volume(volume.array, volume.affine @ np.diag([*axes, 1.0]))
    settings = preprocessing(plane=plane, fit="crop", image_size=(8, 8))
    labels = segmenter(settings).segment(volume)
    assert labels.array.dtype == np.uint8
    assert np.array_equal(labels.array, volume.array // 100)
    assert np.array_equal(labels.affine, volume.affine)


def test_resize_brings_logits_and_not_labels_back():
    """A tilted edge seen at a quarter of the resolution is still straight to the pixel."""
    rows, columns = np.indices((64, 64))
    ramp = (rows + 0.25 * columns - 40) * 2 + 50
    volume = Volume(ramp[..., None].astype(np.float32), np.eye(4))
    labels = segmenter(preprocessing(window=(0, 100))).segment(volume)
    wrong = labels.array != (volume.array > 50)
    assert wrong.mean() < 0.01


@pytest.mark.parametrize("fit", ["resize", "crop"])
def test_batch_size_changes_nothing(fit):
    volume = blocks()
    spacing = (2.0, 2.0) if fit == "crop" else None
    settings = preprocessing(fit=fit, spacing_mm=spacing, context_slices=3)
    results = [segmenter(settings, batch_size=n).segment(volume).array for n in (1, 2, 5)]
    assert all(np.array_equal(result, results[0]) for result in results)


def test_other_channels_than_trained_are_refused():
    volume = blocks()
    two = Volume(np.stack([volume.array] * 2, axis=-1), volume.affine)
    with pytest.raises(UserError, match=r"1 image channel\(s\), as in training, found 2"):
        segmenter(preprocessing()).segment(two)


def test_many_classes_need_two_bytes():
    class Last(nn.Module):
        def forward(self, image):
            logits = torch.zeros(len(image), 300, *image.shape[2:])
            logits[:, 299] = 1
            return logits

    classes = tuple(str(label) for label in range(1, 300))
    labels = VolumeSegmenter(Last(), preprocessing(), num_channels=1, classes=classes).segment(
        blocks()
    )
    assert labels.array.dtype == np.uint16
    assert (labels.array == 299).all()


def test_the_model_is_left_in_the_mode_it_was_in():
    model = Threshold().train()
    VolumeSegmenter(model, preprocessing(), num_channels=1, classes=("a",)).segment(blocks())
    assert model.training
