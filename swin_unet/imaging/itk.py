"""NRRD and MetaImage files, and what else SimpleITK reads: images to volumes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from swin_unet.config import UserError
from swin_unet.imaging import faults
from swin_unet.imaging.formats import NRRD_SUFFIXES, split_name
from swin_unet.imaging.text_header import (
    KIND_NAMES,
    Kind,
    TextHeader,
    check_stream,
    check_voxels,
    read_text_header,
)
from swin_unet.imaging.volume import Header, Volume

if TYPE_CHECKING:
    import SimpleITK

UNREADABLE = (RuntimeError, ValueError, MemoryError, OverflowError, OSError)
_TYPES = ("UInt8", "Int8", "UInt16", "Int16", "UInt32", "Int32", "UInt64", "Int64")
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def simpleitk() -> ModuleType:
    """Import SimpleITK, whose C++ part is not to print warnings beside our messages."""
    import SimpleITK

    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    return SimpleITK


def read(path: Path) -> Volume:
    """Read a NRRD or MetaImage file in its own axis order and data type.

    A fourth axis, or several components per voxel, are channels.

    Raises:
        UserError: Damaged or unsupported file, or data that are not a volume.
    """
    header, reader = _open(path)
    info = _info(path, header, reader)
    check_stream(path, header, info.num_bytes)
    with faults.complete(path, KIND_NAMES[header.kind], UNREADABLE):
        array = to_array(reader.Execute())
    return Volume(array.reshape(info.array_shape, order="F"), info.affine, path, header)


def read_header(path: Path) -> Header:
    """Read what `read` would return, without the voxels.

    Raises:
        UserError: As `read`, as far as the header tells.
    """
    return _info(path, *_open(path))


def source_files(path: Path) -> list[Path]:
    """List the files that hold a volume, as far as the header names them one by one.

    Raises:
        UserError: For a damaged header.
    """
    data_path = read_text_header(path, kind_of(path)).data_path(path)
    return [path] if data_path in (None, path) else [path, data_path]


def kind_of(path: Path) -> Kind:
    """Say which of the two formats a file has by its ending."""
    return "nrrd" if split_name(path)[1].lower() in NRRD_SUFFIXES else "meta"


def to_array(image: SimpleITK.Image) -> np.ndarray[Any, Any]:
    """Return the voxels (X, Y, Z) or (X, Y, Z, C) of an image, slices contiguous."""
    array: np.ndarray[Any, Any] = simpleitk().GetArrayFromImage(image)
    if image.GetNumberOfComponentsPerPixel() > 1:
        array = np.moveaxis(array, -1, 0)  # the first axis runs slowest
        return np.asfortranarray(array.T)
    return array.T


def to_affine(
    spacing: Sequence[float], direction: Sequence[float], origin: Sequence[float]
) -> np.ndarray[Any, Any]:
    """Return the affine (4, 4) to RAS of ITK's geometry in LPS; axes after the third are left out.

    Args:
        spacing: Per axis, in mm.
        direction: Row by row, one column per axis.
        origin: Of the first voxel's centre, in mm.
    """
    num_axes = len(spacing)
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(direction, (num_axes, num_axes))[:3, :3] * spacing[:3]
    affine[:3, 3] = origin[:3]
    ras: np.ndarray[Any, Any] = _LPS_TO_RAS @ affine
    return ras


def dtype_of(path: Path, pixel_id: int) -> np.dtype[Any]:
    """Return the data type of an image's voxels.

    Raises:
        UserError: For complex numbers and label objects.
    """
    sitk = simpleitk()
    for name in (*_TYPES, "Float32", "Float64"):
        if pixel_id in (getattr(sitk, f"sitk{name}"), getattr(sitk, f"sitkVector{name}")):
            return np.dtype(name.lower())
    raise UserError(
        path,
        expected="integer or real voxels",
        found=f"{sitk.GetPixelIDValueAsString(pixel_id)} voxels",
        fix="Convert it to one grey value per voxel and channel.",
    )


def _open(path: Path) -> tuple[TextHeader, SimpleITK.ImageFileReader]:
    """Read the header in both ways."""
    kind = kind_of(path)
    header = read_text_header(path, kind)
    sitk = simpleitk()
    reader = sitk.ImageFileReader()
    reader.SetImageIO("NrrdImageIO" if kind == "nrrd" else "MetaImageIO")
    reader.SetFileName(str(path))
    with faults.complete(path, KIND_NAMES[kind], UNREADABLE):
        reader.ReadImageInformation()
    return header, reader


def _info(path: Path, header: TextHeader, reader: SimpleITK.ImageFileReader) -> Header:
    """Check what the header says before memory is taken for it."""
    num_components = reader.GetNumberOfComponents()
    shape = tuple(int(size) for size in reader.GetSize())
    faults.check_dimensions(path, shape)
    if num_components > 1:
        shape = (*shape, num_components)
        faults.check_dimensions(path, shape)
    dtype = dtype_of(path, reader.GetPixelID())
    affine = to_affine(reader.GetSpacing(), reader.GetDirection(), reader.GetOrigin())
    faults.check_affine(path, affine, "Correct the directions and the spacing in the header.")
    info = Header(faults.without_trailing_ones(shape), affine, dtype, path)
    check_voxels(path, header, info.num_bytes)
    return info
