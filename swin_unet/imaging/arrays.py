"""Slices and volumes kept as arrays in .npz and .h5 files, image and label map side by side.

These are the files in which preprocessed Synapse (`image`, `label`) and ACDC data go round: a slice
is (rows, columns), a volume (slices, rows, columns). A voxel size is rarely with them; where it is,
`spacing` holds three numbers in mm: between slices, rows and columns.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from swin_unet.config import UserError
from swin_unet.imaging import faults
from swin_unet.imaging.formats import Content
from swin_unet.imaging.volume import Header, Volume

if TYPE_CHECKING:
    import h5py

KEYS: dict[Content, tuple[str, ...]] = {"image": ("image", "data"), "label": ("label", "seg")}
SPACING_KEY = "spacing"
_UNREADABLE = (
    OSError,
    EOFError,
    zlib.error,
    zipfile.BadZipFile,
    NotImplementedError,  # an unknown compression in a zip file
    ValueError,
    KeyError,
    RuntimeError,
    MemoryError,
    OverflowError,
)


class _Entry(Protocol):
    """One array of a file, not yet read."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    @property
    def stored_bytes(self) -> int: ...

    def read(self) -> np.ndarray[Any, Any]: ...


def read(path: Path, content: Content) -> Volume:
    """Read the image or the label map of a file as (columns, rows, slices).

    Raises:
        UserError: Damaged file, no such array in it, or an array that is no slice or volume.
    """
    with _open(path) as entries:
        entry = _find(path, entries, content)
        array = np.asarray(entry.read())
        spacing = _spacing(path, entries)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    return Volume(
        np.moveaxis(array, (-1, -2), (0, 1)).reshape(_volume_shape(array.shape), order="A"),
        _affine(spacing),
        path,
        has_spacing=spacing is not None,
    )


def read_header(path: Path, content: Content) -> Header:
    """Read what `read` would return, without the voxels.

    Raises:
        UserError: As `read`, as far as the header tells.
    """
    with _open(path) as entries:
        entry = _find(path, entries, content)
        spacing = _spacing(path, entries)
        return Header(
            _volume_shape(entry.shape),
            _affine(spacing),
            entry.dtype.newbyteorder("="),
            path,
            has_spacing=spacing is not None,
        )


def has_content(path: Path, content: Content) -> bool:
    """Say whether a file holds an image or a label map.

    Raises:
        UserError: Damaged file.
    """
    with _open(path) as entries:
        return any(key in entries for key in KEYS[content])


def _find(path: Path, entries: Mapping[str, _Entry], content: Content) -> _Entry:
    """Return the array that is asked for, checked as far as possible without reading it."""
    found = [entries[key] for key in KEYS[content] if key in entries]
    if not found:
        raise UserError(
            path,
            expected=f"an array named {' or '.join(KEYS[content])}",
            found=", ".join(sorted(entries)) or "no array",
            fix="Rename the array, or give a file that holds one.",
        )
    entry = found[0]
    faults.check_voxel_type(path, np.dtype(np.uint8) if entry.dtype == bool else entry.dtype)
    if len(entry.shape) not in (2, 3) or 0 in entry.shape:
        raise UserError(
            path,
            expected="a slice (rows, columns) or a volume (slices, rows, columns)",
            found=f"shape {entry.shape}",
            fix="Write one channel of one volume into each file.",
        )
    num_bytes = entry.dtype.itemsize
    for size in entry.shape:
        num_bytes *= int(size)
    largest = entry.stored_bytes * faults.LARGEST_COMPRESSION
    faults.check_length(path, entry.shape, num_bytes, largest)
    return entry


def _volume_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Turn (rows, columns) or (slices, rows, columns) into (columns, rows, slices)."""
    num_slices = shape[0] if len(shape) == 3 else 1
    return shape[-1], shape[-2], num_slices


def _affine(spacing: tuple[float, ...] | None) -> np.ndarray[Any, Any]:
    """Return an affine (4, 4) by which an axial slice looks as it is stored."""
    slices_mm, rows_mm, columns_mm = spacing or (1.0, 1.0, 1.0)
    return np.diag([-columns_mm, -rows_mm, slices_mm, 1.0])


def _spacing(path: Path, entries: Mapping[str, _Entry]) -> tuple[float, ...] | None:
    if SPACING_KEY not in entries:
        return None
    spacing = tuple(float(value) for value in np.ravel(entries[SPACING_KEY].read()))
    if len(spacing) != 3 or not all(0 < value < np.inf for value in spacing):
        raise UserError(
            path,
            expected="three sizes in mm in its array spacing: between slices, rows and columns",
            found=str(spacing),
            fix="Correct or remove this array.",
        )
    return spacing


@contextmanager
def _open(path: Path) -> Iterator[Mapping[str, _Entry]]:
    """Give the arrays of a file by name; errors of reading become a UserError."""
    is_zip = path.name.lower().endswith(".npz")
    kind = "NumPy archive (.npz)" if is_zip else "HDF5 file"
    with faults.complete(path, kind, _UNREADABLE):
        if is_zip:
            with zipfile.ZipFile(path) as archive:
                yield _npz_entries(archive)
        else:
            import h5py

            with h5py.File(path, "r") as file:
                yield _h5_entries(file)


def _npz_entries(archive: zipfile.ZipFile) -> dict[str, _Entry]:
    return {
        name.removesuffix(".npy"): _NpzEntry.open(archive, name)
        for name in archive.namelist()
        if name.endswith(".npy")
    }


def _h5_entries(file: h5py.File) -> dict[str, _Entry]:
    import h5py

    return {name: _H5Entry(item) for name, item in file.items() if isinstance(item, h5py.Dataset)}


@dataclass(frozen=True)
class _NpzEntry:
    archive: zipfile.ZipFile
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def open(cls, archive: zipfile.ZipFile, name: str) -> _NpzEntry:
        with archive.open(name) as file:
            version = np.lib.format.read_magic(file)
            if version == (1, 0):
                shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            else:
                shape, _, dtype = np.lib.format.read_array_header_2_0(file)
        return cls(archive, name, shape, dtype)

    @property
    def stored_bytes(self) -> int:
        return self.archive.getinfo(self.name).compress_size

    def read(self) -> np.ndarray[Any, Any]:
        with self.archive.open(self.name) as file:
            array: np.ndarray[Any, Any] = np.lib.format.read_array(file, allow_pickle=False)
        return array


@dataclass(frozen=True)
class _H5Entry:
    dataset: h5py.Dataset

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.dataset.shape or ())

    @property
    def dtype(self) -> np.dtype[Any]:
        dtype: np.dtype[Any] = self.dataset.dtype
        return dtype

    @property
    def stored_bytes(self) -> int:
        return int(self.dataset.id.get_storage_size())

    def read(self) -> np.ndarray[Any, Any]:
        array: np.ndarray[Any, Any] = self.dataset[()]
        return array
