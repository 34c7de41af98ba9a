"""Label maps on the grid of their image: compared with SimpleITK's resampling and with nibabel."""

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st

from swin_unet.config import UserError
from swin_unet.imaging import OnMismatch, Volume, align, read_image, read_labels
from tests.imaging_checks import AXIS_CODES, affines, assert_error, save_itk, save_nifti

AFFINE = np.diag([1.0, 2.0, 3.0, 1.0])


def labels(shape: tuple[int, ...] = (4, 5, 6)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 9, shape, dtype=np.uint8)


def stored_as(volume: Volume, axis_codes: str) -> Volume:
    """Turn a volume by nibabel, our oracle, into other axis codes."""
    image = nib.Nifti1Image(volume.array, volume.affine)
    start = nib.io_orientation(volume.affine)
    change = nib.orientations.ornt_transform(start, nib.orientations.axcodes2ornt(axis_codes))
    turned = image.as_reoriented(change)
    return Volume(np.asarray(turned.dataobj), turned.affine, Path("label.nii.gz"))


@settings(deadline=None)
@given(affine=affines(), codes=st.sampled_from(AXIS_CODES))
def test_the_same_voxels_stored_otherwise_are_turned_exactly(
    affine: np.ndarray, codes: str
) -> None:
    image = Volume(labels(), affine)
    for on_mismatch in ("error", "copy_geometry", "resample"):
        aligned = align(stored_as(image, codes), image, on_mismatch)
        np.testing.assert_array_equal(aligned.array, image.array)
        np.testing.assert_array_equal(aligned.affine, image.affine)


@pytest.mark.parametrize("codes", AXIS_CODES)
def test_every_way_of_storing_is_turned(codes: str) -> None:
    image = Volume(labels(), AFFINE)
    np.testing.assert_array_equal(align(stored_as(image, codes), image).array, image.array)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (np.diag([1.0, 2.0, 3.5, 1.0]), "spacing (1, 2, 3.5) instead of (1, 2, 3) mm"),
        (nib.affines.from_matvec(np.diag([1.0, 2, 3]), [0, 0, 5]), "origin (0, 0, 5)"),
        (
            nib.affines.from_matvec(nib.eulerangles.euler2mat(0.3) @ np.diag([1, 2, 3]), [0, 0, 0]),
            "axes in other directions",
        ),
    ],
)
def test_another_grid_is_refused_by_default(change: np.ndarray, found: str) -> None:
    image = Volume(labels(), AFFINE, Path("image.nii.gz"))
    label = Volume(labels(), change, Path("label.nii.gz"))
    with pytest.raises(UserError) as caught:
        align(label, image)
    assert_error(caught.value, Path("label.nii.gz"), "the grid of image.nii.gz", found, "on_mismat")


def test_a_turned_label_map_is_only_blamed_for_what_really_differs() -> None:
    image = Volume(labels(), AFFINE)
    label = stored_as(Volume(labels(), AFFINE + np.eye(4, k=3) * 5), "LPS")
    with pytest.raises(UserError) as caught:
        align(label, image)
    assert "found origin (5, 0, 0) instead of (0, 0, 0) mm." in str(caught.value)


def test_geometry_is_copied_to_voxels_as_they_are_stored() -> None:
    image = Volume(labels(), AFFINE)
    label = Volume(labels()[::-1], np.diag([2.0, 2, 2, 1]))
    aligned = align(label, image, "copy_geometry")
    np.testing.assert_array_equal(aligned.array, labels()[::-1])
    np.testing.assert_array_equal(aligned.affine, AFFINE)
    with pytest.raises(UserError, match="Copying the geometry needs equal shapes"):
        align(Volume(labels((4, 5, 7)), AFFINE), image, "copy_geometry")


def as_itk(volume: Volume) -> sitk.Image:
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.array.T))
    lps = np.diag([-1.0, -1, 1, 1]) @ volume.affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


@settings(deadline=None, max_examples=50)
@given(affine=affines(sheared=False), seed=st.integers(0, 99))
def test_resampling_takes_the_nearest_voxel_as_simpleitk_does(
    affine: np.ndarray, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    label = Volume(rng.integers(1, 9, (7, 8, 9), dtype=np.uint8), affine)
    # The image's grid is a little off, and coarser or finer: some of it lies outside.
    shift = np.eye(4)
    shift[:3] += rng.uniform(-0.15, 0.15, (3, 4))
    shift[:3, 3] *= 10
    image = Volume(np.zeros((9, 7, 8)), affine @ np.linalg.qr(shift)[0] @ np.diag([0.7, 1, 1.3, 1]))
    image = replace(image, affine=unsheared(image.affine))
    oracle = sitk.Resample(
        as_itk(label), as_itk(image), sitk.Transform(), sitk.sitkNearestNeighbor, 0
    )
    expected = sitk.GetArrayFromImage(oracle).T
    aligned = align(label, image, "resample")
    # Halfway between two voxels either may be taken.
    assert np.count_nonzero(aligned.array != expected) <= 0.01 * expected.size
    np.testing.assert_array_equal(aligned.affine, image.affine)


def unsheared(affine: np.ndarray) -> np.ndarray:
    """Return the nearest affine with perpendicular axes, which ITK needs."""
    result = np.eye(4)
    result[:3, 3] = affine[:3, 3]
    left, _, right = np.linalg.svd(affine[:3, :3])
    result[:3, :3] = (left @ right) * np.linalg.norm(affine[:3, :3], axis=0)
    return result


def test_half_a_voxel_at_the_edge_is_kept() -> None:
    label = Volume(np.full((2, 2, 2), 7, np.uint8), np.eye(4))
    fine = np.diag([0.25, 1, 1, 1.0])
    fine[0, 3] = -0.49
    aligned = align(label, Volume(np.zeros((8, 2, 2)), fine), "resample")
    assert (aligned.array[:8] == 7).all()


def test_resampling_that_leaves_no_label_is_refused() -> None:
    image = Volume(labels(), AFFINE)
    far = AFFINE.copy()
    far[:3, 3] = 1000
    with pytest.raises(UserError) as caught:
        align(Volume(labels(), far, Path("far.nii")), image, "resample")
    assert_error(caught.value, Path("far.nii"), "labels inside", "none of its labels", "Pair the")
    empty = align(Volume(labels() * 0, far), image, "resample")
    assert not empty.array.any()


@pytest.mark.parametrize("without", ["label", "image", "both"])
@pytest.mark.parametrize("on_mismatch", ["error", "copy_geometry", "resample"])
def test_without_a_voxel_size_equal_shapes_are_enough(
    without: str, on_mismatch: OnMismatch
) -> None:
    image = Volume(labels(), AFFINE, has_spacing=without == "label")
    label = Volume(labels(), np.diag([-1.0, -1, 1, 1]), has_spacing=without == "image")
    aligned = align(label, image, on_mismatch)
    np.testing.assert_array_equal(aligned.array, label.array)
    np.testing.assert_array_equal(aligned.affine, image.affine)
    assert aligned.has_spacing == label.has_spacing
    with pytest.raises(UserError, match=r"shape \(4, 5, 7\) instead of \(4, 5, 6\)"):
        align(replace(label, array=labels((4, 5, 7))), image, on_mismatch)


def test_read_labels_aligns_across_formats(tmp_path: Path) -> None:
    image = read_image([save_itk(tmp_path / "image.nrrd", np.zeros((4, 5, 6), "i2"), AFFINE)])
    label = stored_as(Volume(labels(), AFFINE), "SPL")
    path = save_nifti(tmp_path / "label.nii.gz", label.array, label.affine)
    np.testing.assert_array_equal(read_labels(path, 9, like=image).array, labels())
    moved = save_nifti(tmp_path / "moved.nii.gz", label.array, label.affine + np.eye(4, k=3) * 2)
    with pytest.raises(UserError, match="origin"):
        read_labels(moved, 9, like=image)
    copied = read_labels(
        save_nifti(tmp_path / "c.nii", labels(), np.eye(4)), 9, image, on_mismatch="copy_geometry"
    )
    np.testing.assert_array_equal(copied.array, labels())
    resampled = read_labels(moved, 9, like=image, on_mismatch="resample")
    assert resampled.array.any()
