import contextlib
import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swin_unet.config import UserError
from swin_unet.imaging import nifti, read, read_image
from tests.imaging_checks import AFFINE, assert_error, ramp, save_nifti


def save(path: Path, array: np.ndarray, slope: float = 1, inter: float = 0) -> Path:
    save_nifti(path, array)
    if (slope, inter) != (1, 0):
        _patch(path, scl_slope=slope, scl_inter=inter)
    return path


def _patch(path: Path, **fields: float) -> None:
    """Change header fields of an uncompressed file behind nibabel's back."""
    content = bytearray(path.read_bytes())
    header = np.ndarray((), nib.Nifti1Header.template_dtype, content)
    for name, value in fields.items():
        header[name] = value
    path.write_bytes(content)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".NII.GZ"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
def test_voxels_come_as_they_are_in_the_file(tmp_path: Path, dtype: str, ending: str) -> None:
    array = ramp(dtype)
    volume = read(save(tmp_path / f"a{ending}", array))
    assert volume.array.dtype == array.dtype
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_array_equal(volume.affine, AFFINE)
    assert volume.affine.dtype == np.float64
    assert volume.path == tmp_path / f"a{ending}"


def test_big_endian_files_come_in_native_order(tmp_path: Path) -> None:
    array = ramp("i2")
    header = nib.Nifti1Header(endianness=">")
    nib.save(nib.Nifti1Image(array, AFFINE, header, dtype=np.int16), tmp_path / "a.nii")
    volume = read(tmp_path / "a.nii")
    assert volume.array.dtype.isnative
    assert volume.array.dtype == np.int16
    np.testing.assert_array_equal(volume.array, array)


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "f4", "f8"])
def test_scaled_files_become_float32(tmp_path: Path, dtype: str) -> None:
    path = save(tmp_path / "a.nii", ramp(dtype), slope=0.5, inter=-1024)
    volume = read(path)
    assert volume.array.dtype == np.float32
    np.testing.assert_allclose(volume.array, nib.load(path).get_fdata())


@pytest.mark.parametrize("slope", [0.0, np.nan])
def test_an_undefined_slope_means_no_scaling(tmp_path: Path, slope: float) -> None:
    path = save(tmp_path / "a.nii", ramp("i2"), slope=slope, inter=5)
    volume = read(path)
    assert volume.array.dtype == np.int16
    np.testing.assert_array_equal(volume.array, ramp("i2"))


@pytest.mark.parametrize("shape", [(3, 4, 5, 1), (3, 4, 5, 1, 1), (3, 4, 1)])
def test_trailing_axes_of_one_are_dropped(tmp_path: Path, shape: tuple[int, ...]) -> None:
    assert read(save(tmp_path / "a.nii", ramp("i2", shape))).array.shape == shape[:3]


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 5, 1, 2), (7,)])
def test_other_dimensions_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = save(tmp_path / "a.nii", ramp("i2", shape))
    with pytest.raises(UserError) as caught:
        read(path)
    assert_error(caught.value, path, "a 3D volume", f"{len(shape)}D data of shape {shape}", "Stack")


def test_a_volume_without_voxels_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", ramp("i2"))
    _patch(path, dim=[3, 3, 0, 5, 1, 1, 1, 1])
    with pytest.raises(UserError) as caught:
        read(path)
    assert_error(caught.value, path, "at least one voxel, found shape (3, 0, 5)", "Export it again")


@pytest.mark.parametrize(
    "content", [b"", b"no image", bytes(400), gzip.compress(b"no image", mtime=0)]
)
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_file_that_is_no_image_is_refused(
    tmp_path: Path, content: bytes, ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / f"a{ending}"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read(path)
    assert_error(caught.value, path, "Copy or convert it again")
    assert not caplog.records


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@settings(deadline=None)
@given(fraction=st.floats(0, 0.98))
def test_a_truncated_file_is_refused(
    tmp_path_factory: pytest.TempPathFactory, ending: str, fraction: float
) -> None:
    path = tmp_path_factory.mktemp("cut") / f"a{ending}"
    noise = np.random.default_rng(0).integers(-1000, 1000, (8, 9, 10), dtype=np.int16)
    content = save(path, noise).read_bytes()
    path.write_bytes(content[: int(fraction * len(content))])
    with pytest.raises(UserError) as caught:
        read(path)
    assert_error(caught.value, path, "truncated or damaged", "Copy or convert it again")


@settings(deadline=None, max_examples=300)
@given(position=st.integers(0, 347), value=st.integers(0, 255))
def test_a_damaged_header_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, position: int, value: int
) -> None:
    path = save(tmp_path_factory.mktemp("bad") / "a.nii", ramp("i2"))
    content = bytearray(path.read_bytes())
    content[position] = value
    path.write_bytes(content)
    with contextlib.suppress(UserError):
        assert read(path).array.ndim in (3, 4)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_header_that_promises_terabytes_takes_no_memory(tmp_path: Path, ending: str) -> None:
    plain = save(tmp_path / "a.nii", ramp("i2"))
    _patch(plain, dim=[3, 30000, 30000, 30000, 1, 1, 1, 1])
    path = tmp_path / f"b{ending}"
    content = plain.read_bytes()
    path.write_bytes(gzip.compress(content) if ending.endswith("gz") else content)
    with pytest.raises(UserError) as caught:
        read(path)
    assert_error(caught.value, path, "54000000000000 bytes", f"file of {path.stat().st_size} bytes")


def test_a_compressible_file_is_read(tmp_path: Path) -> None:
    zeros = np.zeros((200, 200, 200), np.uint8)
    path = tmp_path / "a.nii.gz"
    plain = save(tmp_path / "a.nii", zeros)
    path.write_bytes(gzip.compress(plain.read_bytes(), 9))
    assert not read(path).array.any()


def test_surface_data_in_a_nifti_file_are_refused(tmp_path: Path) -> None:
    axes = nib.cifti2.ScalarAxis(["a"]), nib.cifti2.SeriesAxis(0, 1, 3)
    path = tmp_path / "a.nii"
    nib.save(nib.Cifti2Image(np.zeros((1, 3), np.float32), axes), path)
    with pytest.raises(UserError) as caught:
        read(path)
    assert_error(caught.value, path, "a NIfTI volume, found Cifti2Image", "Convert the file")


def test_a_file_without_permission_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    path = save(tmp_path / "a.nii", ramp("i2"))
    monkeypatch.setattr(nifti.nib, "load", refuse)
    with pytest.raises(UserError) as caught:
        read(path)
    assert_error(caught.value, path, "found no permission", "Change its permissions")


@pytest.mark.parametrize("affine", [np.diag([1.0, 0, 1, 1]), np.diag([1.0, np.nan, 1, 1])])
def test_an_affine_without_a_volume_is_refused(tmp_path: Path, affine: np.ndarray) -> None:
    path = save(tmp_path / "a.nii", ramp("i2"))
    _patch(path, srow_y=affine[1], sform_code=1)
    with pytest.raises(UserError) as caught:
        read(path)
    assert_error(caught.value, path, "three independent voxel axes", "Correct the header")


@pytest.mark.parametrize(
    ("dtype", "found"),
    [("c8", "complex64 voxels"), ([("R", "u1"), ("G", "u1"), ("B", "u1")], "colour voxels")],
)
def test_colour_and_complex_voxels_are_refused(tmp_path: Path, dtype: object, found: str) -> None:
    path = save(tmp_path / "a.nii", np.zeros((3, 4, 5), np.dtype(dtype)))
    with pytest.raises(UserError) as caught:
        read_image([path])
    assert_error(caught.value, path, found, "Convert it to one grey value")
