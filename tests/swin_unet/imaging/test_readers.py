"""What holds for files of every format, and cases made of several files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from swin_unet.config import UserError
from swin_unet.imaging import (
    check_same_grid,
    read,
    read_header,
    read_image,
    read_labels,
    source_files,
)
from tests.dicom_files import write_slice
from tests.imaging_checks import (
    AFFINE,
    FORMATS,
    Format,
    assert_error,
    ramp,
    save_arrays,
    save_itk,
    save_nifti,
    save_picture,
)

EACH = pytest.mark.parametrize("kind", FORMATS.values(), ids=FORMATS)
EACH_TYPE = pytest.mark.parametrize(
    ("kind", "dtype"), [(kind, dtype) for kind in FORMATS.values() for dtype in kind.dtypes]
)


def damaged_file(path: Path) -> Path:
    """Return the file that holds most of a sample: of a DICOM series the third."""
    return path / "002.dcm" if path.is_dir() else source_files(path)[-1]


@EACH_TYPE
def test_voxels_come_as_they_are_in_the_file(tmp_path: Path, kind: Format, dtype: str) -> None:
    array = np.random.default_rng(0).integers(0, 100, (6, 8, kind.num_slices or 5)).astype(dtype)
    path = kind.save(tmp_path / kind.name, array)
    volume = read(path)
    assert volume.array.dtype == array.dtype
    assert volume.path == path
    assert volume.has_spacing == kind.has_spacing
    np.testing.assert_allclose(volume.affine, np.diag([*kind.affine, 1.0]), atol=1e-12)
    if kind.exact:
        np.testing.assert_array_equal(volume.array, array)
    else:
        assert volume.array.shape == array.shape


@EACH_TYPE
def test_the_header_alone_says_what_is_read(tmp_path: Path, kind: Format, dtype: str) -> None:
    path = kind.sample(tmp_path, dtype)
    volume, header = read(path), read_header(path)
    check_same_grid(volume, header)
    np.testing.assert_allclose(header.affine, volume.affine)
    assert header.array_shape == volume.array.shape
    assert header.dtype == volume.array.dtype
    assert (header.path, header.has_spacing) == (path, volume.has_spacing)
    assert header.num_bytes == volume.array.nbytes


@EACH
@pytest.mark.parametrize("fraction", [0, 0.3, 0.6, 0.9])
def test_a_truncated_file_is_refused(
    tmp_path: Path, kind: Format, fraction: float, capfd: pytest.CaptureFixture[str]
) -> None:
    path = kind.sample(tmp_path)
    damaged = damaged_file(path)
    content = damaged.read_bytes()
    damaged.write_bytes(content[: int(fraction * len(content))])
    with pytest.raises(UserError) as caught:
        read(path)
    assert_error(caught.value, damaged, "truncated or damaged", "Copy or convert it again")
    assert capfd.readouterr() == ("", "")  # the libraries in C++ complain by themselves


WRONG_CONTENTS = {"text": b"no image\n" * 99, "zeros": bytes(4000), "picture": None}


@EACH
@pytest.mark.parametrize("content", WRONG_CONTENTS)
def test_other_content_than_the_ending_says_is_refused(
    tmp_path: Path, kind: Format, content: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = kind.sample(tmp_path)
    damaged = path / "002.dcm" if path.is_dir() else path
    if content == "picture":
        Image.new("L", (9, 9)).save(damaged, "GIF")
    else:
        damaged.write_bytes(WRONG_CONTENTS[content] or b"")
    with pytest.raises(UserError) as caught:
        read(path)
    assert_error(caught.value, damaged, "truncated or damaged", "Copy or convert it again")
    assert capfd.readouterr() == ("", "")


@EACH
def test_a_file_without_permission_is_named(
    tmp_path: Path, kind: Format, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = kind.sample(tmp_path)
    locked = damaged_file(path) if path.is_dir() else path
    given = Path.open

    def refuse(self: Path, *arguments: Any, **options: Any) -> Any:
        if self == locked:
            raise PermissionError
        return given(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    for reader in (read, read_header):
        with pytest.raises(UserError) as caught:
            reader(path)
        assert_error(caught.value, locked, "found no permission", "Change its permissions")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        read(tmp_path / "none.nii.gz")
    assert_error(caught.value, tmp_path / "none.nii.gz", "found nothing there", "Check the path")


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(UserError) as caught:
        read(tmp_path)
    assert_error(caught.value, tmp_path, "DICOM files of an image, found no DICOM file", "Name the")


def test_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.bmp"
    path.write_bytes(b"picture")
    with pytest.raises(UserError) as caught:
        read(path)
    assert_error(caught.value, path, ".nii.gz), NRRD", "the ending '.bmp'", "Convert the file")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd", "a.mhd", "a.tif", "a.npz", "a.npy.h5"])
def test_voxels_that_are_not_finite_are_counted(tmp_path: Path, name: str, bad: float) -> None:
    array = ramp("f4")
    array[0, 0, :3] = bad
    path = FORMATS[name].save(tmp_path / name, array)
    with pytest.raises(UserError) as caught:
        read_image([path])
    assert_error(caught.value, path, "3 of 60 that are NaN or infinite", "Replace them")


def test_channels_of_one_case_are_stacked(tmp_path: Path) -> None:
    paths = [save_nifti(tmp_path / f"{i}.nii", ramp("i2") + np.int16(i)) for i in range(3)]
    volume = read_image(paths)
    assert volume.array.dtype == np.int16
    assert volume.num_channels == 3
    np.testing.assert_array_equal(volume.array[..., 2], ramp("i2") + 2)


def test_channels_may_come_in_different_formats(tmp_path: Path) -> None:
    paths = [save_nifti(tmp_path / "a.nii", ramp("i2")), save_itk(tmp_path / "b.mha", ramp("i2"))]
    volume = read_image(paths)
    np.testing.assert_array_equal(volume.array, np.stack([ramp("i2")] * 2, axis=3))


def test_channels_of_different_types_meet_in_float32(tmp_path: Path) -> None:
    paths = [save_nifti(tmp_path / "a.nii", ramp("i4")), save_nifti(tmp_path / "b.nii", ramp("f8"))]
    assert read_image(paths).array.dtype == np.float32


def test_a_four_dimensional_file_holds_all_channels(tmp_path: Path) -> None:
    array = ramp("i2", (3, 4, 5, 2))
    np.testing.assert_array_equal(read_image([save_nifti(tmp_path / "a.nii", array)]).array, array)


def test_channels_on_other_grids_or_with_channels_are_refused(tmp_path: Path) -> None:
    a = save_nifti(tmp_path / "a.nii", ramp("i2"))
    b = save_nifti(tmp_path / "b.nii", ramp("i2", (3, 4, 6)))
    c = save_nifti(tmp_path / "c.nii", ramp("i2", (3, 4, 5, 2)))
    with pytest.raises(UserError, match=r"shape \(3, 4, 5\) instead of \(3, 4, 6\)"):
        read_image([a, b])
    with pytest.raises(UserError, match="one 3D file per channel, found 4D"):
        read_image([a, c])


@pytest.mark.parametrize("name", ["a.png", "a.npz", "a.npy.h5", "a.nii.gz", "a.mha"])
def test_single_slices_are_stacked_in_order(tmp_path: Path, name: str) -> None:
    kind = FORMATS[name]
    slices = [ramp("u1", (6, 8, 1)) + np.uint8(100 * index) for index in range(3)]
    paths = [
        kind.save(tmp_path / name.replace("a.", f"{index}."), array)
        for index, array in enumerate(slices)
    ]
    volume = read_image(paths, stacked=True)
    np.testing.assert_array_equal(volume.array, np.concatenate(slices, axis=2))
    assert volume.has_spacing == kind.has_spacing
    assert volume.array.flags.f_contiguous


def test_a_case_of_one_slice_is_stacked_as_well(tmp_path: Path) -> None:
    path = save_picture(tmp_path / "a.png", ramp("u1", (6, 8, 1)))
    assert read_image([path], stacked=True).shape == (6, 8, 1)


def test_colour_slices_are_stacked_with_channels_last(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 255, (3, 8, 6, 3), dtype=np.uint8)
    paths = [tmp_path / f"{index}.png" for index in range(3)]
    for path, pixels in zip(paths, colours, strict=True):
        Image.fromarray(pixels).save(path)
    volume = read_image(paths, stacked=True)
    np.testing.assert_array_equal(volume.array, colours.transpose(2, 1, 0, 3))


def test_stacked_slices_lie_where_the_first_and_last_are(tmp_path: Path) -> None:
    paths = []
    for index in range(3):
        affine = AFFINE.copy()
        affine[:3, 3] = 10, 20, 30 - 7 * index
        paths.append(save_nifti(tmp_path / f"{index}.nii", ramp("u1", (6, 8, 1)), affine))
    volume = read_image(paths, stacked=True)
    for index, path in enumerate(paths):
        place = volume.affine @ [1, 2, index, 1]
        np.testing.assert_allclose(place, nib.load(path).affine @ [1, 2, 0, 1])


@pytest.mark.parametrize("shape", [(6, 9, 1), (6, 8, 2)])
def test_slices_of_another_size_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    first = save_arrays(tmp_path / "a.npz", ramp("u1", (6, 8, 1)))
    other = save_arrays(tmp_path / "b.npz", ramp("u1", shape))
    with pytest.raises(UserError) as caught:
        read_image([first, other], stacked=True)
    assert_error(caught.value, other, "a single slice of shape (6, 8, 1)", f"found shape {shape}")


@pytest.mark.parametrize("ending", [".npz", ".npy.h5"])
def test_one_file_may_hold_image_and_label_map(tmp_path: Path, ending: str) -> None:
    image, label = ramp("f4", (6, 8, 5)), ramp("u1", (6, 8, 5)) % 3
    path = save_arrays(tmp_path / f"a{ending}", image, label)
    volume = read_image([path])
    np.testing.assert_array_equal(volume.array, image)
    np.testing.assert_array_equal(read_labels(path, 3, like=volume).array, label)


def test_stacked_labels_belong_to_stacked_images(tmp_path: Path) -> None:
    labels = [ramp("u1", (6, 8, 1)) % (2 + index) for index in range(2)]
    paths = [
        save_arrays(tmp_path / f"{index}.h5", ramp("f4", (6, 8, 1)), label)
        for index, label in enumerate(labels)
    ]
    image = read_image(paths, stacked=True)
    read_back = read_labels(paths, 3, like=image, stacked=True)
    np.testing.assert_array_equal(read_back.array, np.concatenate(labels, axis=2))


def test_a_label_map_with_channels_is_refused(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii", ramp("u1", (3, 4, 5, 2)))
    with pytest.raises(UserError) as caught:
        read_labels(path, None)
    assert_error(caught.value, path, "a 3D label map", "4D data of shape (3, 4, 5, 2)")


def test_source_files_are_all_that_a_volume_depends_on(tmp_path: Path) -> None:
    save_itk(tmp_path / "a.mhd", ramp("i2"))
    save_itk(tmp_path / "b.nhdr", ramp("i2"))
    series = FORMATS["series"].sample(tmp_path)
    (series / "notes.txt").write_text("no image")
    assert source_files(tmp_path / "a.mhd") == [tmp_path / "a.mhd", tmp_path / "a.zraw"]
    assert source_files(tmp_path / "b.nhdr") == [tmp_path / "b.nhdr", tmp_path / "b.raw.gz"]
    assert source_files(series) == [series / f"{index:03d}.dcm" for index in range(5)]
    slice_path = write_slice(tmp_path / "c.dcm", ramp("i2", (3, 4)))
    assert source_files(slice_path) == [slice_path]
    with h5py.File(tmp_path / "d.h5", "w"):
        assert source_files(tmp_path / "d.h5") == [tmp_path / "d.h5"]
