"""NIfTI files, by nibabel: SimpleITK refuses sheared ones."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.imageglobals import logger as nibabel_logger
from nibabel.openers import ImageOpener
from nibabel.spatialimages import HeaderDataError, ImageDataError
from nibabel.wrapstruct import WrapStructError

from swin_unet.config import UserError
from swin_unet.imaging import faults
from swin_unet.imaging.volume import Header, Volume

_CHUNK_SIZE = 2**22
_UNREADABLE = (
    OSError,
    EOFError,
    zlib.error,
    ImageFileError,
    WrapStructError,
    HeaderDataError,
    ImageDataError,
    ValueError,
    MemoryError,
    OverflowError,
)


def read(path: Path) -> Volume:
    """Read a NIfTI file in its own axis order and data type.

    Files with a scale factor become float32. Trailing axes of length 1 after the third are dropped.

    Raises:
        UserError: Damaged or unsupported file, or data that are not a volume.
    """
    image = _open(path)
    _check_length(path, image)
    with _readable(path):
        array = _read_array(path, image)
    array = array.reshape(faults.without_trailing_ones(array.shape), order="F")
    return Volume(array, np.asarray(image.affine, dtype=np.float64), path, image.header)


def read_header(path: Path) -> Header:
    """Read what `read` would return, without the voxels.

    Raises:
        UserError: As `read`, as far as the header tells.
    """
    image = _open(path)
    _check_length(path, image)
    shape = faults.without_trailing_ones(image.shape)
    dtype = np.dtype(np.float32) if _is_scaled(image) else image.get_data_dtype().newbyteorder("=")
    return Header(shape, np.asarray(image.affine, dtype=np.float64), dtype, path)


def _open(path: Path) -> nib.Nifti1Image:
    """Read and check the header."""
    with _readable(path):
        image = nib.load(path, mmap=False)
    if not isinstance(image, nib.Nifti1Image):
        raise UserError(
            path, expected="a NIfTI volume", found=type(image).__name__, fix="Convert the file."
        )
    faults.check_dimensions(path, image.shape)
    faults.check_voxel_type(path, image.get_data_dtype())
    faults.check_affine(path, image.affine, "Correct the header's sform, qform and pixdim.")
    return image


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn whatever nibabel and zlib raise on a damaged file into one UserError, logs silenced."""
    level = nibabel_logger.level
    nibabel_logger.setLevel(logging.CRITICAL + 1)
    try:
        with faults.complete(path, "NIfTI file", _UNREADABLE):
            yield
    finally:
        nibabel_logger.setLevel(level)


def _check_length(path: Path, image: nib.Nifti1Image) -> None:
    num_bytes = image.get_data_dtype().itemsize
    for size in image.shape:
        num_bytes *= int(size)
    ratio = faults.LARGEST_COMPRESSION if path.name.lower().endswith(".gz") else 1
    faults.check_length(path, image.shape, num_bytes, path.stat().st_size * ratio)


def _is_scaled(image: nib.Nifti1Image) -> bool:
    proxy: Any = image.dataobj
    is_wide = image.get_data_dtype().itemsize > 8
    return (float(proxy.slope), float(proxy.inter)) != (1.0, 0.0) or is_wide


def _read_array(path: Path, image: nib.Nifti1Image) -> np.ndarray[Any, Any]:
    """Return the voxels in native byte order; scaled in float32, nibabel would take float64."""
    proxy: Any = image.dataobj
    raw = _read_stored(path, image)
    if not _is_scaled(image):
        return raw.astype(raw.dtype.newbyteorder("="), copy=False)
    with np.errstate(over="ignore", invalid="ignore"):  # the result is checked for finite values
        scaled = raw.astype(np.float32)
        scaled *= np.float32(proxy.slope)
        scaled += np.float32(proxy.inter)
    return scaled


def _read_stored(path: Path, image: nib.Nifti1Image) -> np.ndarray[Any, Any]:
    """Return the voxels as they are stored, read piece by piece.

    In one piece a compressed file would lie in memory twice.

    Raises:
        EOFError: When the file is too short.
    """
    proxy: Any = image.dataobj
    dtype = image.get_data_dtype()
    memory = bytearray(int(np.prod(image.shape)) * dtype.itemsize)
    view, start = memoryview(memory), 0
    with ImageOpener(str(path)) as file:
        file.seek(proxy.offset)
        while start < len(memory):
            num_read = file.readinto(view[start : start + _CHUNK_SIZE])
            if not num_read:
                raise EOFError(f"{start} of {len(memory)} bytes of voxels")
            start += num_read
    return np.ndarray(image.shape, dtype, memory, order="F")
