"""Preprocessed slices and volumes in .npz and .h5 files."""

from __future__ import annotations

import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from swin_unet.config import DataConfig, UserError
from swin_unet.imaging import Preprocessing, read, read_header, read_image, read_labels
from tests.imaging_checks import assert_error

ENDINGS = (".npz", ".npy.h5", ".h5", ".hdf5")
IMAGE = np.random.default_rng(0).random((5, 4, 6), dtype=np.float32)
LABEL = np.random.default_rng(1).integers(0, 3, (5, 4, 6))


def save(path: Path, **arrays: np.ndarray) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file[name] = array
    return path


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("keys", [("image", "label"), ("data", "seg")])
@pytest.mark.parametrize("is_slice", [True, False])
def test_slices_look_as_they_are_stored(
    tmp_path: Path, ending: str, keys: tuple[str, str], is_slice: bool
) -> None:
    image, label = (IMAGE[0], LABEL[0]) if is_slice else (IMAGE, LABEL)
    path = save(tmp_path / f"a{ending}", **dict(zip(keys, (image, label), strict=True)))
    volume = read_image([path])
    assert volume.shape == (6, 4, 1 if is_slice else 5)
    assert not volume.has_spacing
    settings = Preprocessing.from_config(DataConfig(intensity="window", window=(0, 1)))
    prepared = settings.prepare(volume)
    slices = np.moveaxis(prepared.voxels[0], -1, 0)
    np.testing.assert_array_equal(slices, image.reshape(-1, 4, 6))
    labels = prepared.to_working(read_labels(path, 3, like=volume))
    np.testing.assert_array_equal(np.moveaxis(labels, -1, 0), label.reshape(-1, 4, 6))


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_voxel_size_that_is_stored_is_used(tmp_path: Path, ending: str) -> None:
    path = save(tmp_path / f"a{ending}", image=IMAGE, spacing=np.array([5.0, 0.7, 0.8]))
    for item in (read(path), read_header(path)):
        assert item.has_spacing
        assert item.spacing_mm == pytest.approx((0.8, 0.7, 5.0))


@pytest.mark.parametrize("spacing", [[1.0, 2.0], [1.0, 0.0, 1.0], [1.0, np.nan, 1.0]])
def test_a_voxel_size_that_is_none_is_refused(tmp_path: Path, spacing: list[float]) -> None:
    path = save(tmp_path / "a.npz", image=IMAGE, spacing=np.array(spacing))
    with pytest.raises(UserError) as caught:
        read(path)
    assert_error(caught.value, path, "three sizes in mm", "Correct or remove")


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    ("arrays", "content", "parts"),
    [
        ({"x": IMAGE, "y": IMAGE}, "image", ("named image or data", "found x, y")),
        ({"image": IMAGE}, "label", ("named label or seg", "found image")),
        ({"image": IMAGE[None]}, "image", ("a volume (slices, rows, columns)", "(1, 5, 4, 6)")),
        ({"image": IMAGE[0, 0]}, "image", ("a slice (rows, columns)", "shape (6,)")),
        ({"image": IMAGE[:0]}, "image", ("a volume", "shape (0, 4, 6)")),
        ({"image": IMAGE * 1j}, "image", ("integer or real voxels", "complex64")),
        ({"image": np.array(b"text")}, "image", ("integer or real voxels", "S4")),
    ],
)
def test_other_contents_are_refused(
    tmp_path: Path,
    ending: str,
    arrays: dict[str, np.ndarray],
    content: str,
    parts: tuple[str, ...],
) -> None:
    path = save(tmp_path / f"a{ending}", **arrays)
    for reader in (read, read_header):
        with pytest.raises(UserError) as caught:
            reader(path, content)
        assert_error(caught.value, path, *parts)


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", image=np.array([{"a": 1}], dtype=object))
    with pytest.raises(UserError) as caught:
        read(path)
    assert_error(caught.value, path, "integer or real voxels, found object")


def test_an_empty_archive_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w"):
        pass
    with pytest.raises(UserError, match="found no array"):
        read(tmp_path / "a.npz")


def test_masks_of_truth_values_are_labels(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", label=LABEL > 0)
    np.testing.assert_array_equal(read_labels(path, 2).array, (LABEL > 0).T)


def test_big_endian_arrays_come_in_native_order(tmp_path: Path) -> None:
    volume = read(save(tmp_path / "a.npz", image=IMAGE.astype(">f4")))
    assert volume.array.dtype.isnative
    np.testing.assert_array_equal(volume.array, IMAGE.T)
    assert read_header(tmp_path / "a.npz").dtype == volume.array.dtype


def test_a_header_that_promises_terabytes_takes_no_memory(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("image", (30000, 30000, 30000), "i2", chunks=(1, 100, 100))
    header = {"descr": "<i2", "fortran_order": False, "shape": (30000, 30000, 30000)}
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive, archive.open("image.npy", "w") as npy:
        np.lib.format.write_array_header_1_0(npy, header)
        npy.write(bytes(100))
    for name in ("a.h5", "a.npz"):
        for reader in (read, read_header):
            with pytest.raises(UserError) as caught:
                reader(tmp_path / name)
            assert_error(caught.value, tmp_path / name, "54000000000000 bytes", "truncated")
