from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from torch import nn

from swin_unet.config import UserError
from swin_unet.imaging import Volume, read_image, write_labels
from swin_unet.inference import Segmenter, VolumeSegmenter
from tests.imaging_checks import AXIS_CODES, affines
from tests.inference_checks import (
    Threshold,
    blocks,
    noise,
    preprocessing,
    random_checkpoint,
    segmenter,
)


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


@pytest.mark.parametrize("fit", ["resize", "crop"])
def test_a_compiled_network_gives_the_labels(monkeypatch, tmp_path, fit):
    calls = []

    def compile_network(model):
        return lambda image: (calls.append(len(image)), model(image))[1]

    path = random_checkpoint(tmp_path / "best.pt", fit=fit)
    plain = Segmenter(path, device="cpu").segment(blocks()).array
    assert len(np.unique(plain)) > 1
    monkeypatch.setattr(torch, "compile", compile_network)
    compiled = Segmenter(path, device="cpu", compile=True).segment(blocks()).array
    assert calls
    assert np.mean(compiled == plain) > 0.999  # packed weights round in another way


def test_a_network_that_does_not_compile_runs_as_it_is(monkeypatch, tmp_path, capsys):
    def fail(model):
        raise RuntimeError("no compiler here")

    path = random_checkpoint(tmp_path / "best.pt")
    plain = Segmenter(path, device="cpu").segment(blocks()).array
    monkeypatch.setattr(torch, "compile", fail)
    result = Segmenter(path, device="cpu", compile=True).segment(blocks()).array
    assert np.mean(result == plain) > 0.999
    assert "warning: torch.compile failed (no compiler here)" in capsys.readouterr().err


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


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_checkpoint(tmp_path_factory.mktemp("checkpoint") / "best.pt")


@pytest.mark.parametrize("codes", AXIS_CODES)
def test_labels_do_not_depend_on_how_the_voxels_are_stored(checkpoint, codes: str):
    """In all 48 orders and directions of the axes every voxel of the patient gets one label."""
    volume = noise()
    expected = Segmenter(checkpoint, device="cpu").segment(volume)
    assert 0.05 < (expected.array > 0).mean() < 0.95
    image = nib.Nifti1Image(expected.array, volume.affine)
    change = ornt_transform(io_orientation(volume.affine), axcodes2ornt(tuple(codes)))
    turned = nib.Nifti1Image(volume.array, volume.affine).as_reoriented(change)
    found = Segmenter(checkpoint, device="cpu").segment(
        Volume(np.asarray(turned.dataobj), turned.affine)
    )
    np.testing.assert_array_equal(found.array, image.as_reoriented(change).dataobj)
    np.testing.assert_array_equal(found.affine, turned.affine)


@settings(deadline=None, max_examples=60)
@given(affine=affines(), plane=st.sampled_from(["axial", "coronal", "sagittal"]))
def test_oblique_and_sheared_grids_are_kept_exactly(tmp_path_factory, affine, plane):
    folder = tmp_path_factory.mktemp("oblique")
    image = nib.Nifti1Image(blocks().array, affine)
    image.set_sform(affine, code=2)
    nib.save(image, folder / "image.nii.gz")
    options = preprocessing(plane=plane, fit="crop", image_size=(8, 8))
    labels = segmenter(options).segment(folder / "image.nii.gz")
    write_labels(folder / "labels.nii.gz", labels.array, like=labels)
    source, written = nib.load(folder / "image.nii.gz"), nib.load(folder / "labels.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj), blocks().array // 100)
    for field in ("srow_x", "srow_y", "srow_z", "quatern_b", "pixdim", "sform_code", "qform_code"):
        np.testing.assert_array_equal(written.header[field], source.header[field])


def test_a_path_several_channels_and_a_volume_give_the_same(tmp_path: Path, checkpoint: Path):
    volume = noise()
    nib.save(nib.Nifti1Image(volume.array, volume.affine), tmp_path / "a.nii.gz")
    path = tmp_path / "a.nii.gz"
    one = Segmenter(str(checkpoint), device="cpu")
    images = (path, str(path), [path], read_image([path]), volume)
    first, *others = (one.segment(image) for image in images)
    for other in others:
        np.testing.assert_array_equal(other.array, first.array)
        np.testing.assert_array_equal(other.affine, volume.affine)
    with pytest.raises(UserError, match=r"1 image channel\(s\), as in training, found 2"):
        one.segment([path, path])


def test_scales_average_logits_of_resized_slices():
    """A network that answers by the size of its input: the mean of its answers wins."""

    class BySize(nn.Module):
        def forward(self, image):
            large = float(image.shape[-1] > 16)
            answers = torch.tensor([1.0, 2.0 - 1.5 * large, 4.0 * large])
            return answers[None, :, None, None].expand(len(image), 3, *image.shape[-2:])

    def label(*scales: float) -> int:
        classes = ("small", "large")
        by_size = VolumeSegmenter(
            BySize(), preprocessing(), num_channels=1, classes=classes, scales=scales
        )
        labels = by_size.segment(blocks()).array
        assert labels.min() == labels.max()
        return int(labels[0, 0, 0])

    assert (label(1.0), label(2.0), label(0.5)) == (1, 2, 1)
    # means: (1, 1.25, 2) and, with two small ones, (1, 1.5, 1.33)
    assert (label(1.0, 2.0), label(0.5, 1.0, 2.0)) == (2, 1)


@pytest.mark.parametrize("fit", ["resize", "crop"])
def test_a_scale_sees_the_native_slice(fit: str):
    """Enlarged input is made of the slice, not of the smaller input."""
    rows, columns = np.indices((64, 64))
    fine = ((rows // 2 + columns // 2) % 2 * 100)[..., None]
    volume = Volume(fine.astype(np.float32), np.eye(4))
    spacing_mm = (4, 4) if fit == "crop" else None
    settings = preprocessing(fit=fit, image_size=(16, 16), spacing_mm=spacing_mm)
    coarse, native = (segmenter(settings, scales=(scale,)).segment(volume) for scale in (1, 4))
    assert (native.array == fine // 100).all()
    assert (coarse.array == fine // 100).mean() < 0.8


def test_memory_that_does_not_suffice_takes_fewer_slices_at_a_time():
    class Hungry(Threshold):
        sizes: list[int] = []  # noqa: RUF012

        def forward(self, image):
            self.sizes.append(len(image))
            if len(image) > 1:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().forward(image)

    expected = segmenter(preprocessing()).segment(blocks())
    hungry = VolumeSegmenter(
        Hungry(), preprocessing(), num_channels=1, classes=("bright",), batch_size=5
    )
    np.testing.assert_array_equal(hungry.segment(blocks()).array, expected.array)
    assert Hungry.sizes[:4] == [5, 2, 1, 1]


@pytest.mark.parametrize("page", ["README.md", "docs/inference.md"])
def test_the_example_of_the_page_runs(tmp_path: Path, monkeypatch, page: str):
    root = Path(__file__).resolve().parents[3]
    (tmp_path / "RUN").mkdir()
    random_checkpoint(tmp_path / "RUN" / "best.pt")
    volume = noise()
    nib.save(nib.Nifti1Image(volume.array, volume.affine), tmp_path / "VOLUME.nii.gz")
    (code,) = (
        block.split("```")[0]
        for block in (root / page).read_text(encoding="utf8").split("```python\n")[1:]
    )
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    exec(code, namespace)
    labels = namespace["labels"]
    assert isinstance(labels, Volume)
    assert labels.array.shape == volume.array.shape
    np.testing.assert_array_equal(labels.affine, volume.affine)
