import errno
import os
from pathlib import Path
from typing import BinaryIO, Literal

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swin_unet.config import DataConfig, UserError
from swin_unet.imaging import (
    Preprocessing,
    Volume,
    read,
    read_image,
    read_labels,
    write_labels,
)
from tests.imaging_checks import AXIS_CODES, affines

GEOMETRY_FIELDS = [
    "pixdim",
    "qform_code",
    "sform_code",
    "quatern_b",
    "quatern_c",
    "quatern_d",
    "qoffset_x",
    "qoffset_y",
    "qoffset_z",
    "srow_x",
    "srow_y",
    "srow_z",
    "xyzt_units",
    "dim_info",
    "magic",
    "sizeof_hdr",
]


def geometry(path: Path) -> bytes:
    header = nib.load(path).header
    return b"".join(header[name].tobytes() for name in GEOMETRY_FIELDS)


def source(
    folder: Path,
    affine: np.ndarray,
    codes: tuple[int, int],
    header_class: type = nib.Nifti1Header,
    **fields: object,
) -> Path:
    header = header_class(**fields)
    header.set_data_shape((2, 3, 4))
    header.set_data_dtype(np.int16)
    header.set_sform(affine, codes[0])
    header.set_qform(affine, codes[1])
    header.set_xyzt_units("mm", "sec")
    header["descrip"] = b"scanner"
    header["cal_max"] = 400
    header["pixdim"][4:] = 0, 0.5, 2, 3
    image_class = nib.Nifti2Image if header_class is nib.Nifti2Header else nib.Nifti1Image
    nib.save(image_class(np.zeros((2, 3, 4), np.int16), None, header), folder / "image.nii")
    return folder / "image.nii"


def labels(dtype: type = np.uint8) -> np.ndarray:
    return np.arange(24, dtype=dtype).reshape(2, 3, 4)


def assert_written(path: Path, like: Volume, expected: np.ndarray) -> None:
    assert like.path is not None
    written = nib.load(path)
    assert geometry(path) == geometry(like.path)
    assert written.affine.tobytes() == like.affine.tobytes()
    assert written.get_data_dtype() == expected.dtype
    np.testing.assert_array_equal(np.asanyarray(written.dataobj), expected)


@settings(deadline=None, max_examples=200)
@given(affine=affines(), codes=st.tuples(st.integers(0, 4), st.integers(0, 4)))
def test_the_grid_is_written_back_byte_for_byte(
    tmp_path_factory: pytest.TempPathFactory, affine: np.ndarray, codes: tuple[int, int]
) -> None:
    folder = tmp_path_factory.mktemp("grid")
    like = read(source(folder, affine, codes))
    write_labels(folder / "labels.nii", labels(), like)
    assert_written(folder / "labels.nii", like, labels())


@pytest.mark.parametrize("axis_codes", AXIS_CODES)
def test_every_axis_order_is_written_back(tmp_path: Path, axis_codes: str) -> None:
    affine = nib.orientations.inv_ornt_aff(
        nib.orientations.axcodes2ornt(tuple(axis_codes)), (2, 3, 4)
    )
    like = read(source(tmp_path, affine, (2, 1)))
    write_labels(tmp_path / "labels.nii.gz", labels(np.uint16), like)
    assert_written(tmp_path / "labels.nii.gz", like, labels(np.uint16))


@pytest.mark.parametrize(
    "options", [{"header_class": nib.Nifti2Header}, {"endianness": ">"}, {"endianness": "<"}]
)
def test_the_kind_of_file_stays(tmp_path: Path, options: dict) -> None:
    like = read(source(tmp_path, np.diag([-1.0, 2, 3, 1]), (1, 1), **options))
    write_labels(tmp_path / "labels.nii", labels(), like)
    written = nib.load(tmp_path / "labels.nii").header
    assert type(written) is type(like.header)
    assert written.endianness == like.header.endianness
    assert_written(tmp_path / "labels.nii", like, labels())


def test_what_belongs_to_the_image_alone_is_not_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "image.nii"
    image = nib.Nifti1Image(np.zeros((2, 3, 4, 2), np.int16), np.eye(4))
    image.header["cal_max"], image.header["descrip"] = 400, b"scanner"
    image.header.set_slope_inter(2.0, -1024)
    nib.save(image, path)
    write_labels(tmp_path / "labels.nii", labels(), read(path))
    written = nib.load(tmp_path / "labels.nii")
    assert written.shape == (2, 3, 4)
    assert (written.header["cal_max"], written.header["descrip"]) == (0, b"")
    assert (written.dataobj.slope, written.dataobj.inter) == (1, 0)


def test_a_volume_without_header_keeps_its_affine(tmp_path: Path) -> None:
    like = Volume(labels(), np.diag([-1.0, 2, 3, 1]))
    write_labels(tmp_path / "labels.nii", labels(), like)
    np.testing.assert_array_equal(nib.load(tmp_path / "labels.nii").affine, like.affine)


def test_the_source_header_stays_as_it_was(tmp_path: Path) -> None:
    like = read(source(tmp_path, np.eye(4), (1, 1)))
    before = like.header.binaryblock
    write_labels(tmp_path / "labels.nii", labels(), like)
    assert like.header.binaryblock == before


def test_the_same_labels_give_the_same_bytes(tmp_path: Path) -> None:
    like = Volume(labels(), np.eye(4))
    for name in ("a.nii.gz", "b.nii.gz"):
        write_labels(tmp_path / name, labels(), like)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT])
def test_a_full_disk_is_the_users_to_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def write_to(_: object, file: BinaryIO) -> None:
        file.write(b"half")
        raise OSError(number, "full")

    monkeypatch.setattr(nib.Nifti1Header, "write_to", write_to)
    path = tmp_path / "labels.nii.gz"
    with pytest.raises(UserError, match="Free some space") as caught:
        write_labels(path, labels(), Volume(labels(), np.eye(4)))
    assert str(caught.value).startswith(f"{path}: expected a place to write to, found ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_the_systems_file_size_limit_is_such_a_case(tmp_path: Path, name: str) -> None:
    resource = pytest.importorskip("resource")
    large = np.random.default_rng(0).integers(0, 255, (100, 100, 100), dtype=np.uint8)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))
    try:
        with pytest.raises(UserError, match=r"File too large\. Free some space"):
            write_labels(tmp_path / name, large, Volume(large, np.eye(4)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_the_users_to_mend(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Change its permissions or write elsewhere"):
        write_labels(tmp_path / "file" / "a.nii", labels(), Volume(labels(), np.eye(4)))


@pytest.mark.skipif("SWIN_UNET_DATA" not in os.environ, reason="real data are not part of this")
@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_real_label_maps_make_the_round_trip(tmp_path: Path, plane: Literal["axial"]) -> None:
    root = Path(os.environ["SWIN_UNET_DATA"])
    pairs = [
        (path, path.parents[1] / "labels" / path.name)
        for path in sorted(root.glob("sunnybrook_cardiac/volumes/*/images/*.nii.gz"))
    ]
    pairs.append((root / "sct_spinal_cord_mr/t2.nii.gz", root / "sct_spinal_cord_mr/t2_seg.nii.gz"))
    settings = Preprocessing.from_config(DataConfig(plane=plane))
    for image_path, label_path in pairs:
        image = read_image([image_path])
        reference = read_labels(label_path, 3, like=image)
        prepared = settings.prepare(image)
        restored = prepared.restore(prepared.to_working(reference))
        write_labels(tmp_path / image_path.name, restored, image)
        assert_written(tmp_path / image_path.name, image, reference.array)
