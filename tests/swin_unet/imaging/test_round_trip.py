"""From a file through the network's slices back to a file on the same grid, in every format."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from swin_unet.config import DataConfig, UserError
from swin_unet.imaging import Preprocessing, Volume, read, read_image, write_labels
from swin_unet.imaging.writers import output_suffix
from tests.imaging_checks import (
    AXIS_CODES,
    FORMATS,
    Format,
    affines,
    assert_error,
    ramp,
    save_itk,
    save_nifti,
)

PLANES: tuple[Literal["axial", "coronal", "sagittal"], ...] = ("axial", "coronal", "sagittal")
ITK_NAMES = ("a.nrrd", "a.nhdr", "a.mha", "a.mhd")
SHAPE = (5, 6, 7)


def through_the_slices(image: Volume, labels: np.ndarray, plane: str) -> np.ndarray:
    """Bring labels to the working orientation and back, as training and inference do."""
    preprocessing = Preprocessing.from_config(DataConfig(plane=plane))  # type: ignore[arg-type]
    prepared = preprocessing.prepare(image)
    working = prepared.to_working(Volume(labels, image.affine))
    slices, of_image = np.asarray(working), prepared.voxels[0]
    np.testing.assert_array_equal(slices, of_image)  # labels lie on the image's voxels
    return prepared.restore(working)


def geometry(path: Path) -> tuple[tuple[float, ...], ...]:
    image = sitk.ReadImage(str(path))
    return image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection()


def oriented(codes: str) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = 0
    for column, (axis, sign) in enumerate(nib.orientations.axcodes2ornt(tuple(codes))):
        affine[int(axis), column] = sign * (0.7, 1.1, 2.3)[column]
    affine[:3, 3] = 10.1, -20.2, 30.3
    return affine


@pytest.mark.parametrize("name", [*ITK_NAMES, "a.nii", "a.nii.gz"])
@pytest.mark.parametrize("codes", AXIS_CODES)
def test_every_axis_order_makes_the_round_trip(tmp_path: Path, name: str, codes: str) -> None:
    save = save_itk if name in ITK_NAMES else save_nifti
    path = save(tmp_path / name, ramp("u1", SHAPE), oriented(codes))
    (tmp_path / "out").mkdir()
    image = read_image([path])
    for plane in PLANES:
        labels = through_the_slices(image, ramp("u1", SHAPE), plane)
        write_labels(tmp_path / "out" / name, labels, image)
        assert geometry(tmp_path / "out" / name) == geometry(path)
        written = read(tmp_path / "out" / name)
        np.testing.assert_array_equal(written.array, ramp("u1", SHAPE))
        assert written.array.dtype == np.uint8
        np.testing.assert_array_equal(written.affine, image.affine)


@pytest.mark.parametrize("name", ITK_NAMES)
@settings(deadline=None, max_examples=60)
@given(affine=affines(sheared=False), plane=st.sampled_from(PLANES))
def test_oblique_grids_make_the_round_trip_exactly(
    tmp_path_factory: pytest.TempPathFactory, name: str, affine: np.ndarray, plane: str
) -> None:
    folder = tmp_path_factory.mktemp("oblique")
    path = save_itk(folder / name, ramp("u1", SHAPE), affine)
    image = read_image([path])
    (folder / "out").mkdir()
    written = folder / "out" / name
    write_labels(written, through_the_slices(image, ramp("u1", SHAPE), plane), image)
    assert geometry(written) == geometry(path)
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(written))).T
    np.testing.assert_array_equal(labels, ramp("u1", SHAPE))


@pytest.mark.parametrize("name", ITK_NAMES)
@settings(deadline=None, max_examples=60)
@given(affine=affines(sheared=False))
def test_a_grid_from_another_format_is_written_exactly(
    tmp_path_factory: pytest.TempPathFactory, name: str, affine: np.ndarray
) -> None:
    """Without a header to take over the affine is written out in full."""
    path = tmp_path_factory.mktemp("other") / name
    write_labels(path, ramp("u2", SHAPE), Volume(ramp("u2", SHAPE), affine))
    np.testing.assert_allclose(read(path).affine, affine, rtol=1e-12, atol=1e-9)
    image = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image).T, ramp("u2", SHAPE))
    assert image.GetPixelID() == sitk.sitkUInt16
    assert image.GetSpacing() == pytest.approx(np.linalg.norm(affine[:3, :3], axis=0))


def test_a_sheared_nrrd_keeps_its_directions(tmp_path: Path) -> None:
    affine = oriented("RAS")
    affine[:3, 2] += 0.4 * affine[:3, 0]
    write_labels(tmp_path / "a.nrrd", ramp("u1", SHAPE), Volume(ramp("u1", SHAPE), affine))
    image = read_image([tmp_path / "a.nrrd"])
    np.testing.assert_allclose(image.affine, affine, atol=1e-12)
    write_labels(tmp_path / "b.nrrd", ramp("u1", SHAPE), image)
    np.testing.assert_array_equal(read(tmp_path / "b.nrrd").affine, image.affine)


EACH = pytest.mark.parametrize("kind", FORMATS.values(), ids=FORMATS)


@EACH
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_label_maps_lie_on_the_grid_of_their_image(
    tmp_path: Path, kind: Format, dtype: type
) -> None:
    image = read_image([kind.sample(tmp_path)])
    path = tmp_path / "out" / f"a{output_suffix(Path(kind.name))}"
    labels = (np.arange(np.prod(image.shape)) % 7).reshape(image.shape).astype(dtype)
    write_labels(path, labels, image)
    written = read(path, "label")
    np.testing.assert_array_equal(written.array, labels)
    assert written.array.dtype == dtype
    np.testing.assert_allclose(written.affine, image.affine, atol=1e-6)
    assert all(not file.name.startswith(".") for file in path.parent.iterdir())


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("a.nii", ".nii"), ("a.NII.GZ", ".NII.GZ"), ("a.nrrd", ".nrrd"), ("a.mhd", ".mhd"),
        ("a.png", ".png"), ("a.jpeg", ".png"), ("a.tif", ".tif"), ("a.npz", ".nii.gz"),
        ("a.npy.h5", ".nii.gz"), ("series", ".nii.gz"), ("a.dcm", ".nii.gz"),
    ],
)  # fmt: skip
def test_the_format_is_that_of_the_image_where_it_suits_labels(name: str, suffix: str) -> None:
    assert output_suffix(Path(name)) == suffix


def test_a_picture_gets_a_label_map_of_the_same_size(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 3, (4, 6), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.jpg")
    image = read_image([tmp_path / "a.jpg"])
    write_labels(tmp_path / "a.png", pixels.T[..., None], image)
    written = Image.open(tmp_path / "a.png")
    assert (written.mode, written.size) == ("L", (6, 4))
    np.testing.assert_array_equal(np.asarray(written), pixels)


@pytest.mark.parametrize("name", ["a.png", "a.npz", "a.dcm", "a"])
def test_formats_that_cannot_hold_the_labels_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with pytest.raises(UserError) as caught:
        write_labels(path, ramp("u1"), Volume(ramp("u1"), np.eye(4)))
    assert_error(caught.value, path, "5 slices" if name == "a.png" else "the ending of a NIfTI")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [*ITK_NAMES, "a.png", "a.tif"])
def test_the_same_labels_give_the_same_bytes(tmp_path: Path, name: str) -> None:
    labels = ramp("u1", (5, 6, 1))
    contents = []
    for folder in ("x", "y"):
        write_labels(tmp_path / folder / name, labels, Volume(labels, np.eye(4)))
        contents.append([path.read_bytes() for path in sorted((tmp_path / folder).iterdir())])
    assert contents[0] == contents[1]
    assert len(contents[0]) == (2 if name in ("a.nhdr", "a.mhd") else 1)


@pytest.mark.parametrize("name", [*ITK_NAMES, "a.png", "a.tif"])
def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, name: str) -> None:
    resource = pytest.importorskip("resource")
    labels = np.random.default_rng(0).integers(0, 255, (400, 300, 1), dtype=np.uint8)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(UserError, match=r"File too large\. Free some space"):
            write_labels(tmp_path / name, labels, Volume(labels, np.eye(4)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_two_detached_headers_of_one_stem_do_not_share_voxels(tmp_path: Path) -> None:
    for name, labels in (("a.mhd", ramp("u1")), ("a.nhdr", ramp("u1") + np.uint8(1))):
        write_labels(tmp_path / name, labels, Volume(labels, np.eye(4)))
    np.testing.assert_array_equal(read(tmp_path / "a.mhd").array, ramp("u1"))
    np.testing.assert_array_equal(read(tmp_path / "a.nhdr").array, ramp("u1") + 1)


REAL = pytest.mark.skipif("SWIN_UNET_DATA" not in os.environ, reason="no real data here")


@REAL
@pytest.mark.parametrize(
    "name",
    [
        "pyradiomics_nrrd/breast1_image.nrrd",
        "dcmqi_ct_3slice/liver_spine_seg.nrrd",
        "totalsegmentator_examples/mr_small/image.nii.gz",
        "sunnybrook_cardiac/slices_ed/images/SC-HF-I-01-IM-0001-0059.png",
    ],
)
def test_real_images_make_the_round_trip(tmp_path: Path, name: str) -> None:
    path = Path(os.environ["SWIN_UNET_DATA"]) / name
    image = read_image([path])
    labels = (image.array > np.median(image.array)).astype(np.uint8)
    written = tmp_path / f"out{output_suffix(path)}"
    write_labels(written, labels, image)
    assert geometry(written) == geometry(path)
    np.testing.assert_array_equal(
        sitk.GetArrayFromImage(sitk.ReadImage(str(written))).T.reshape(labels.shape), labels
    )
