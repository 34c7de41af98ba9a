"""The sets of real data: geometry and voxels as SimpleITK has them, labels on their images."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from swin_unet.imaging import (
    check_same_grid,
    read,
    read_header,
    read_image,
    read_labels,
    thick_plane,
)

pytestmark = pytest.mark.skipif("SWIN_UNET_DATA" not in os.environ, reason="no real data here")
ROOT = Path(os.environ.get("SWIN_UNET_DATA", "."))
TOTAL = "totalsegmentator_examples"
SERIES = (
    f"{TOTAL}/ct_dicom/series",
    "sunnybrook_cardiac/dicom_ed/SC-HF-I-04",
    "dcmqi_ct_3slice/series",
)
FILES = (
    "msd_hippocampus/imagesTr/hippocampus_001.nii.gz",
    "pyradiomics_nrrd/breast1_image.nrrd",
    "pyradiomics_nrrd/breast1_label.nrrd",
    "dcmqi_ct_3slice/liver_seg.nrrd",
    "sct_spinal_cord_mr/t2.nii.gz",
    "sct_spinal_cord_mr/t1w.nii.gz",
    f"{TOTAL}/ct_small/image.nii.gz",
    f"{TOTAL}/mr_small/image.nii.gz",
    "sunnybrook_cardiac/volumes/ed/images/SC-HF-I-01.nii.gz",
)


def by_simpleitk(path: Path) -> sitk.Image:
    if path.is_dir():
        return sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(path)))
    return sitk.ReadImage(str(path))


@pytest.mark.parametrize("name", [*SERIES, *FILES])
def test_voxels_lie_where_simpleitk_has_them(name: str) -> None:
    volume, image = read(ROOT / name), by_simpleitk(ROOT / name)
    np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(image).T)
    for corner in np.ndindex(2, 2, 2):
        index = [int(corner[axis] * (volume.shape[axis] - 1)) for axis in range(3)]
        lps = image.TransformIndexToPhysicalPoint(index)
        place = (volume.affine @ [*index, 1])[:3] * [-1, -1, 1]
        np.testing.assert_allclose(place, lps, atol=1e-3)
    header = read_header(ROOT / name)
    check_same_grid(volume, header)
    assert (header.array_shape, header.dtype) == (volume.array.shape, volume.array.dtype)


def test_the_heart_is_the_same_as_dicom_and_as_nifti() -> None:
    series = read(ROOT / "sunnybrook_cardiac/dicom_ed/SC-HF-I-04")
    volume = read(ROOT / "sunnybrook_cardiac/volumes/ed/images/SC-HF-I-04.nii.gz")
    check_same_grid(series, volume)
    np.testing.assert_array_equal(series.array, volume.array)
    label = ROOT / "sunnybrook_cardiac/volumes/ed/labels/SC-HF-I-04.nii.gz"
    assert set(np.unique(read_labels(label, 3, like=series).array)) == {0, 1, 2}
    assert thick_plane([series]) == thick_plane([volume]) != "axial"  # across the long axis


@pytest.mark.parametrize("name", ["seg_synapse8.nii.gz", "seg_total.nii.gz"])
def test_a_label_map_stored_the_other_way_round_is_turned(name: str) -> None:
    folder = ROOT / TOTAL / "ct_dicom"
    image = read_image([folder / "series"])
    labels = read_labels(folder / name, like=image)
    stored = by_simpleitk(folder / name)
    oracle = sitk.Resample(stored, by_simpleitk(folder / "series"), sitk.Transform(), 1)
    np.testing.assert_array_equal(labels.array, sitk.GetArrayFromImage(oracle).T)
    assert np.count_nonzero(labels.array != sitk.GetArrayFromImage(stored).T) > 1000


@pytest.mark.parametrize("name", ["liver_seg", "spine_seg", "liver_spine_seg"])
def test_nrrd_labels_lie_on_their_dicom_series(name: str) -> None:
    image = read_image([ROOT / "dcmqi_ct_3slice/series"])
    labels = read_labels(ROOT / f"dcmqi_ct_3slice/{name}.nrrd", 3, like=image)
    assert labels.array.any()


def test_the_liver_of_the_synapse_order_is_where_livers_are() -> None:
    """Label 5 lies on the patient's right, in every format's axis order."""
    for folder, image_name in (("ct_dicom", "series"), ("ct_small", "image.nii.gz")):
        image = read_image([ROOT / TOTAL / folder / image_name])
        labels = read_labels(ROOT / TOTAL / folder / "seg_synapse8.nii.gz", 9, like=image)
        centres = [
            (image.affine @ [*np.argwhere(labels.array == value).mean(axis=0), 1])[0]
            for value in (5, 7)
        ]
        assert centres[0] > centres[1]  # RAS: the first axis runs to the right


def test_pictures_are_read_upright() -> None:
    folder = ROOT / "sunnybrook_cardiac/slices_ed"
    path = sorted((folder / "images").iterdir())[0]
    image = read_image([path])
    labels = read_labels(folder / "labels" / path.name, 3, like=image)
    np.testing.assert_array_equal(
        image.array[..., 0].T, sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    )
    assert (image.shape, image.has_spacing) == ((256, 256, 1), False)
    assert set(np.unique(labels.array)) == {0, 1, 2}
