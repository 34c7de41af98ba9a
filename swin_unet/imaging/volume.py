"""One image or label map as it lies in its file, with what is needed to write on the same grid."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.nifti1 import Nifti1Header
from nibabel.orientations import aff2axcodes

from swin_unet.config import UserError
from swin_unet.imaging.text_header import TextHeader

SPACING_TOLERANCE_MM = 1e-3
ORIGIN_TOLERANCE_MM = 1e-2
# A float32 quaternion near 180 degrees is only this exact; half a pixel at the end of 512.
DIRECTION_TOLERANCE = 1e-3


class Grid(Protocol):
    """What a Volume and a Header have in common: where voxels are."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Spatial shape (X, Y, Z)."""

    @property
    def affine(self) -> np.ndarray[Any, Any]:
        """(4, 4) float64, voxel indices to RAS coordinates in mm."""

    @property
    def has_spacing(self) -> bool:
        """False where the format holds no voxel size."""

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size along X, Y and Z."""

    @property
    def label(self) -> str:
        """What to call it in a message."""


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels in the file's own axis order and type, and where they are in the patient.

    Attributes:
        array: Voxels (X, Y, Z), or (X, Y, Z, C) for several channels.
        affine: (4, 4) float64, voxel indices to RAS coordinates in mm.
        path: The file it came from, None for generated volumes.
        header: The NIfTI, NRRD or MetaImage header it came with, None for other formats.
        has_spacing: False where the format holds no voxel size (.png, .npz): the affine's is 1.
    """

    array: np.ndarray[Any, Any]
    affine: np.ndarray[Any, Any]
    path: Path | None = None
    header: Nifti1Header | TextHeader | None = None
    has_spacing: bool = True

    @property
    def shape(self) -> tuple[int, int, int]:
        """Spatial shape (X, Y, Z)."""
        x_size, y_size, z_size = self.array.shape[:3]
        return x_size, y_size, z_size

    @property
    def num_channels(self) -> int:
        """Number of channels, 1 for a three-dimensional array."""
        return self.array.shape[3] if self.array.ndim == 4 else 1

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size along X, Y and Z in mm, as the affine has it."""
        return _spacing_mm(self.affine)

    @property
    def label(self) -> str:
        """What to call this volume in a message: its path, if it has one."""
        return _label(self.path)


@dataclass(frozen=True, eq=False)
class Header:
    """What a file's header says about its volume.

    Attributes:
        array_shape: (X, Y, Z), or (X, Y, Z, C) for several channels.
        affine: (4, 4) float64, voxel indices to RAS coordinates in mm.
        dtype: Of the voxels when they are read.
        path: The file.
        has_spacing: False where the format holds no voxel size (.png, .npz): the affine's is 1.
    """

    array_shape: tuple[int, ...]
    affine: np.ndarray[Any, Any]
    dtype: np.dtype[Any]
    path: Path | None = None
    has_spacing: bool = True

    @property
    def shape(self) -> tuple[int, int, int]:
        """Spatial shape (X, Y, Z)."""
        x_size, y_size, z_size = self.array_shape[:3]
        return x_size, y_size, z_size

    @property
    def num_bytes(self) -> int:
        """What the voxels take in memory."""
        return math.prod(self.array_shape) * self.dtype.itemsize

    @property
    def num_channels(self) -> int:
        """Number of channels."""
        return self.array_shape[3] if len(self.array_shape) == 4 else 1

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size along X, Y and Z in mm, as the affine has it."""
        return _spacing_mm(self.affine)

    @property
    def label(self) -> str:
        """What to call it in a message: its path, if it has one."""
        return _label(self.path)


def axis_codes(affine: np.ndarray[Any, Any]) -> str:
    """Name where the voxel axes run to, such as "LPS"."""
    return "".join(aff2axcodes(affine))


def check_same_grid(a: Grid, b: Grid) -> None:
    """Raise UserError unless both have the same voxels at the same places.

    Where one of them has no voxel size, equal shapes are enough.
    """
    differences = grid_differences(a, b)
    if differences:
        raise UserError(
            a.label,
            expected=f"the grid of {b.label}",
            found="; ".join(differences),
            fix="Resample one of them onto the other's grid, or pair the right files.",
        )


def check_is_3d(volume: Volume, expected: str) -> None:
    """Raise UserError unless the array is (X, Y, Z), saying what was expected."""
    if volume.array.ndim != 3:
        raise UserError(
            volume.label,
            expected=expected,
            found=f"{volume.array.ndim}D data of shape {volume.array.shape}",
            fix="Split it into one file per channel, or give the right file.",
        )


def with_colours(volume: Volume) -> Volume:
    """Return a picture with three channels, equal ones where it is grey."""
    if volume.num_channels != 1:
        return volume
    grey = volume.array if volume.array.ndim == 4 else volume.array[..., None]
    return replace(volume, array=np.repeat(grey, 3, axis=3))


def grid_differences(a: Grid, b: Grid) -> list[str]:
    """Say in words what differs, a's value first; nothing for the same grid."""
    has_places = a.has_spacing and b.has_spacing
    return [*_shape_differences(a, b), *(_place_differences(a, b) if has_places else ())]


def _shape_differences(a: Grid, b: Grid) -> Iterator[str]:
    if a.shape != b.shape:
        yield f"shape {a.shape} instead of {b.shape}"


def _place_differences(a: Grid, b: Grid) -> Iterator[str]:
    spacing_a, spacing_b = np.array(a.spacing_mm), np.array(b.spacing_mm)
    if np.abs(spacing_a - spacing_b).max() > SPACING_TOLERANCE_MM:
        yield f"spacing {_triple(spacing_a)} instead of {_triple(spacing_b)} mm"
    origin_a, origin_b = a.affine[:3, 3], b.affine[:3, 3]
    if np.abs(origin_a - origin_b).max() > ORIGIN_TOLERANCE_MM:
        yield f"origin {_triple(origin_a)} instead of {_triple(origin_b)} mm"
    direction_a, direction_b = a.affine[:3, :3] / spacing_a, b.affine[:3, :3] / spacing_b
    if np.abs(direction_a - direction_b).max() > DIRECTION_TOLERANCE:
        codes = axis_codes(a.affine), axis_codes(b.affine)
        yield f"axes in other directions ({codes[0]} instead of {codes[1]})"


def _spacing_mm(affine: np.ndarray[Any, Any]) -> tuple[float, float, float]:
    x_mm, y_mm, z_mm = voxel_sizes(affine)
    return float(x_mm), float(y_mm), float(z_mm)


def _label(path: Path | None) -> str:
    return str(path) if path is not None else "a volume without a file"


def _triple(values: np.ndarray[Any, Any]) -> str:
    return "({})".format(", ".join(f"{value:.4g}" for value in values.tolist()))
