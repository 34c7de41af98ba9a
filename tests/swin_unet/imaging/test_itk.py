"""NRRD and MetaImage files, compared with what SimpleITK makes of them."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings

from swin_unet.config import UserError
from swin_unet.imaging import Volume, read, read_header, read_image, read_labels, write_labels
from tests.imaging_checks import affines, assert_error, ramp, save_itk

NAMES = ("a.nrrd", "a.nhdr", "a.mha", "a.mhd")
NRRD = """NRRD0004
type: {type}
dimension: 3
{space}
sizes: 3 4 5
{directions}
encoding: {encoding}
endian: little

"""


def index_to_lps(image: sitk.Image) -> np.ndarray:
    """Return the matrix of an image from four points that SimpleITK computes itself."""
    origin = np.array(image.TransformIndexToPhysicalPoint((0, 0, 0)))
    columns = [
        np.array(image.TransformIndexToPhysicalPoint(tuple(row))) - origin
        for row in np.eye(3, dtype=int).tolist()
    ]
    return np.column_stack([*columns, origin])


def assert_as_simpleitk(path: Path, volume: Volume) -> None:
    image = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(image).T)
    lps = np.diag([-1.0, -1, 1, 1]) @ volume.affine
    np.testing.assert_allclose(lps[:3], index_to_lps(image), atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=40)
@given(affine=affines(sheared=False))
def test_the_grid_is_that_of_simpleitk(
    tmp_path_factory: pytest.TempPathFactory, name: str, affine: np.ndarray
) -> None:
    path = save_itk(tmp_path_factory.mktemp("grid") / name, ramp("i2"), affine)
    volume = read(path)
    assert_as_simpleitk(path, volume)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-9)
    assert volume.affine.dtype == np.float64


@pytest.mark.parametrize(
    ("space", "codes"),
    [
        ("space: left-posterior-superior", "LPS"),
        ("space: right-anterior-superior", "RAS"),
        ("space: LAS", "LAS"),
    ],
)
def test_the_spaces_of_nrrd_are_honoured(tmp_path: Path, space: str, codes: str) -> None:
    path = tmp_path / "a.nrrd"
    directions = "space directions: (1,0,0) (0,2,0) (0,0,3)\nspace origin: (4,5,6)"
    header = NRRD.format(type="short", space=space, directions=directions, encoding="raw")
    path.write_bytes(header.encode() + ramp("<i2").T.tobytes())
    volume = read(path)
    assert_as_simpleitk(path, volume)
    signs = [1 if code in "RAS" else -1 for code in codes]
    np.testing.assert_array_equal(volume.affine[:3, 3], np.multiply(signs, [4, 5, 6]))
    write_labels(tmp_path / "label.nrrd", ramp("u1"), volume)
    assert space in (tmp_path / "label.nrrd").read_text("latin-1")
    np.testing.assert_array_equal(read(tmp_path / "label.nrrd").affine, volume.affine)


@pytest.mark.parametrize("encoding", ["ascii", "hex", "gzip"])
def test_the_encodings_of_nrrd_are_read(tmp_path: Path, encoding: str) -> None:
    raw = ramp("<u2").T.tobytes()
    written = {
        "ascii": " ".join(str(value) for value in ramp("u2").T.ravel()).encode(),
        "hex": raw.hex().encode(),
        "gzip": gzip.compress(raw[:50]) + gzip.compress(raw[50:]),  # as parallel gzip writes
    }
    header = NRRD.format(
        type="uint16", space="space dimension: 3", directions="", encoding=encoding
    ).replace("\n\nencoding", "\nencoding")
    path = tmp_path / "a.nrrd"
    path.write_bytes(header.encode() + written[encoding])
    np.testing.assert_array_equal(read(path).array, ramp("u2"))


def test_voxels_in_a_file_per_slice_are_read(tmp_path: Path) -> None:
    for index, pixels in enumerate(ramp("<u2").T):
        (tmp_path / f"slice{index}.raw").write_bytes(pixels.tobytes())
    header = NRRD.format(type="uint16", space="space: LPS", directions="", encoding="raw")
    header = header.replace("\n\nencoding", "\nspace directions: (1,0,0) (0,1,0) (0,0,1)\nencoding")
    path = tmp_path / "a.nhdr"
    path.write_text(header.strip() + "\ndata file: slice%d.raw 0 4 1\n")
    np.testing.assert_array_equal(read(path).array, ramp("u2"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("as_vector", [True, False])
def test_channels_come_last(tmp_path: Path, name: str, as_vector: bool) -> None:
    array = ramp("i2", (3, 4, 5, 2))
    if as_vector:
        image = sitk.GetImageFromArray(array.transpose(2, 1, 0, 3), isVector=True)
    else:
        image = sitk.GetImageFromArray(array.T, isVector=False)
    image.SetSpacing([1.0, 2.0, 3.0, 1.0][: image.GetDimension()])
    path = tmp_path / name
    sitk.WriteImage(image, str(path))
    volume, header = read_image([path]), read_header(path)
    np.testing.assert_array_equal(volume.array, array)
    assert header.array_shape == array.shape
    assert header.num_channels == 2
    assert volume.spacing_mm == header.spacing_mm == (1, 2, 3)
    assert volume.array[..., 0].flags.f_contiguous
    with pytest.raises(UserError, match="a 3D label map, found 4D"):
        read_labels(path)
    write_labels(tmp_path / f"label{path.suffix}", ramp("u1"), volume)
    assert read(tmp_path / f"label{path.suffix}").spacing_mm == (1, 2, 3)


def save_image(path: Path, image: sitk.Image) -> Path:
    sitk.WriteImage(image, str(path))
    return path


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("image", "found"),
    [
        (lambda: sitk.Image([4, 5], sitk.sitkUInt8), "2D data of shape (4, 5)"),
        (lambda: sitk.Image([4, 5], sitk.sitkVectorUInt8, 3), "2D data of shape (4, 5)"),
        (
            lambda: sitk.Image([4, 5, 6, 2], sitk.sitkVectorUInt8, 3),
            "5D data of shape (4, 5, 6, 2, 3)",
        ),
    ],
)
def test_other_dimensions_are_refused(tmp_path: Path, name: str, image, found: str) -> None:
    path = save_image(tmp_path / name, image())
    for reader in (read, read_header):
        with pytest.raises(UserError) as caught:
            reader(path)
        assert_error(caught.value, path, "a 3D volume", found)


def test_complex_voxels_are_refused(tmp_path: Path) -> None:
    path = save_image(tmp_path / "a.nrrd", sitk.Image([4, 5, 6], sitk.sitkComplexFloat32))
    with pytest.raises(UserError) as caught:
        read(path)
    assert_error(caught.value, path, "integer or real voxels", "complex")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("sizes", "parts"),
    [
        (b"30000 30000 30000", ("54000000000000 bytes of voxels", "truncated or damaged")),
        (b"3 4 500", ("12000 bytes of voxels", "truncated or damaged file of")),
        (b"3 4 0", ("at least one voxel, found shape (3, 4, 0)", "Export it again")),
        (b"3 -4 5", ("its header has 3 axes of sizes '3 -4 5'", "Copy or convert")),
        (b"3 4", ("its header has 3 axes of sizes '3 4'", "Copy or convert")),
        (b"3 4 x", ("its header has 3 axes of sizes '3 4 x'", "Copy or convert")),
    ],
)
def test_sizes_that_cannot_be_are_refused_before_memory_is_taken(
    tmp_path: Path,
    name: str,
    sizes: bytes,
    parts: tuple[str, ...],
    capfd: pytest.CaptureFixture[str],
) -> None:
    image = sitk.GetImageFromArray(ramp("i2").T)
    path = save_image(tmp_path / name, image)
    path.write_bytes(path.read_bytes().replace(b"3 4 5", sizes))
    for reader in (read, read_header):
        with pytest.raises(UserError) as caught:
            reader(path)
        assert str(caught.value).startswith(str(tmp_path))
        assert all(part in str(caught.value) for part in parts)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "old", "new", "found"),
    [
        ("a.mha", b"MET_SHORT", b"MET_STRING", "the element type 'MET_STRING'"),
        ("a.mha", b"ElementSpacing = 0.5", b"ElementSpacing = 0.0", "independent voxel axes"),
        ("a.mha", b"NDims = 3", b"NDims = x", "its header has x axes"),
        ("a.nrrd", b"type: short", b"type: wrong", "couldn't parse type"),
        ("a.nrrd", b"NRRD0004", b"NRRX0004", "its header has no type"),
        ("a.nrrd", b"encoding: gzip", b"encoding: gzop", "the encoding 'gzop'"),
        ("a.nrrd", b"encoding: gzip", b"encoding: bzip2", "the encoding 'bzip2'"),
        ("a.mhd", b".zraw", b".lost", "its voxels in"),
        ("a.nhdr", b".raw.gz", b".lost", "its voxels in"),
    ],
)
def test_faults_of_a_header_are_named(
    tmp_path: Path,
    name: str,
    old: bytes,
    new: bytes,
    found: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    path = save_itk(tmp_path / name, ramp("i2"))
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    with pytest.raises(UserError) as caught:
        read(path)
    assert_error(caught.value, path, found)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_compressed_stream_is_noticed(
    tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """SimpleITK alone makes up the rest of the voxels."""
    array = np.random.default_rng(0).integers(-999, 999, (9, 9, 9), dtype=np.int16)
    path = save_itk(tmp_path / name, array)
    data_path = next(iter([*tmp_path.glob("*raw*"), path]))
    content = bytearray(data_path.read_bytes())
    for place in (-300, -2):  # the stream, and its sum
        damaged = content.copy()
        damaged[place] ^= 255
        data_path.write_bytes(damaged)
        with pytest.raises(UserError) as caught:
            read(path)
        assert_error(caught.value, data_path, "truncated or damaged", "Copy or convert it again")
    assert capfd.readouterr() == ("", "")


def test_a_compressible_file_is_read(tmp_path: Path) -> None:
    path = save_itk(tmp_path / "a.mha", np.zeros((200, 200, 200), np.uint8))
    assert path.stat().st_size < 10000
    assert not read(path).array.any()
