"""Entropy and probabilities on disk, by SciPy as oracle."""

from __future__ import annotations

import resource
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from scipy import special, stats

from swin_unet.config import UserError
from swin_unet.imaging import Volume, read_image
from swin_unet.imaging.maps import MapFile
from swin_unet.inference import Segmenter
from swin_unet.inference.maps import EntropyMap, ProbabilityMap
from swin_unet.inference.protocols import resize_logits
from tests.imaging_checks import save_itk, save_nifti
from tests.inference_checks import noise, random_checkpoint

AFFINE = np.array([[0, -1.5, 0.2, 10], [0.9, 0, 0, -5], [0, 0.1, 2.5, 3], [0, 0, 0, 1]])


@pytest.fixture
def segmenter(tmp_path: Path) -> Segmenter:
    return Segmenter(random_checkpoint(tmp_path / "best.pt", plane="coronal"), device="cpu")


def write_maps(segmenter: Segmenter, image: Volume, folder: Path) -> np.ndarray:
    """Write both maps and return the labels."""
    prepared = segmenter.prepare(image)
    maps = [
        kind(folder / name / "a.nii.gz", image, prepared, segmenter.num_classes)
        for name, kind in (("entropy", EntropyMap), ("probabilities", ProbabilityMap))
    ]
    prediction = segmenter.predict(prepared, maps=maps)
    assert list((folder / "entropy").iterdir()) == []  # nameless until it is whole
    for each in maps:
        each.file.save()
    return segmenter.finish(image, prediction).array


@pytest.mark.parametrize("name", ["image.nii.gz", "image.mha"])
def test_maps_are_those_of_the_logits_on_the_grid_of_the_image(segmenter, tmp_path, name):
    save = save_nifti if "nii" in name else save_itk
    affine = AFFINE if "nii" in name else np.diag([-0.5, 0.7, 2.0, 1.0])
    image = read_image([save(tmp_path / name, noise().array, affine)])
    labels = write_maps(segmenter, image, tmp_path)

    prepared = segmenter.prepare(image)
    logits = torch.cat([
        resize_logits(logits, prepared.slice_size) for _, logits in segmenter.slabs(prepared)
    ]).numpy()  # fmt: skip
    probabilities = special.softmax(logits.astype(np.float64), axis=1)
    expected = np.stack(
        [prepared.restore(np.moveaxis(each, 0, -1)) for each in probabilities.swapaxes(0, 1)], -1
    )
    written = {key: nib.load(tmp_path / key / "a.nii.gz") for key in ("entropy", "probabilities")}
    found = {key: image.get_fdata() for key, image in written.items()}
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-5)
    entropy = stats.entropy(expected, axis=-1) / np.log(3)
    np.testing.assert_allclose(found["entropy"], entropy, atol=1e-5)
    assert np.ptp(found["entropy"]) > 0.1
    clear = np.ptp(np.sort(expected, axis=-1)[..., -2:], axis=-1) > 1e-4
    np.testing.assert_array_equal(found["probabilities"].argmax(-1)[clear], labels[clear])
    for key, map_image in written.items():
        np.testing.assert_array_equal(map_image.affine, image.affine.astype(np.float32))
        assert map_image.header.get_zooms()[:3] == pytest.approx(image.spacing_mm)
        assert (tmp_path / key / "a.nii.gz").read_bytes()[4:8] == b"\0" * 4  # no time
    if "nii" in name:
        source, header = nib.load(tmp_path / name).header, written["entropy"].header
        for field in ("srow_x", "quatern_b", "sform_code", "qform_code", "xyzt_units", "pixdim"):
            np.testing.assert_array_equal(header[field], source[field])
    else:
        itk = sitk.ReadImage(str(tmp_path / "entropy" / "a.nii.gz"))
        source = sitk.ReadImage(str(tmp_path / name))
        assert itk.GetOrigin() == pytest.approx(source.GetOrigin())
        assert itk.GetDirection() == pytest.approx(source.GetDirection())


def test_labels_do_not_change_with_the_maps(segmenter, tmp_path):
    image = noise()
    labels = write_maps(segmenter, image, tmp_path)
    np.testing.assert_array_equal(labels, segmenter.segment(image).array)


def test_a_map_that_is_not_saved_leaves_nothing(tmp_path):
    file = MapFile(tmp_path / "maps" / "a.nii.gz", noise())
    file.array[:] = 3
    file.release()
    assert (file.array == 3).all()
    assert list((tmp_path / "maps").iterdir()) == []


def test_a_full_disk_is_noticed_before_the_network_runs(tmp_path):
    """The room is taken at once: a full disk behind mapped memory would end the process."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"a\.nii\.gz: expected a place to write to.*space"):
            MapFile(tmp_path / "a.nii.gz", noise())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []
