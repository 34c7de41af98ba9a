"""Axis order and direction of voxel arrays: exact permutations and flips, by MONAI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from nibabel.orientations import axcodes2ornt

if TYPE_CHECKING:
    import torch

# Rows, columns, slices, as (where the axis runs to): a slice is upright as radiologists view it.
WORKING_CODES = {"axial": "PLS", "coronal": "ILP", "sagittal": "IPL"}
AXIS_LABELS = (("L", "R"), ("P", "A"), ("I", "S"))


def reorient(voxels: torch.Tensor, source_codes: str, target_codes: str) -> torch.Tensor:
    """Permute and flip the spatial axes of (C, X, Y, Z) from one set of axis codes to another.

    The transform gets an affine made of the codes alone. With an oblique affine it would work the
    codes out again on the way back, and near 45 degrees it could come to others.
    """
    import torch
    from monai.data import MetaTensor
    from monai.transforms import Orientation

    dtype = voxels.dtype
    transform = Orientation(axcodes=target_codes, labels=AXIS_LABELS)
    bits = MetaTensor(
        voxels.view(_flippable(dtype)), affine=torch.from_numpy(_codes_affine(source_codes))
    )
    oriented: Any = transform(bits)
    return oriented.as_tensor().view(dtype)


def reorient_array(
    array: np.ndarray[Any, Any], source_codes: str, target_codes: str
) -> np.ndarray[Any, Any]:
    """Do the same to an array (X, Y, Z); the data type stays."""
    voxels = as_tensor(array)[None]
    return reorient(voxels, source_codes, target_codes)[0].numpy()


def as_tensor(array: np.ndarray[Any, Any]) -> torch.Tensor:
    """Share an array with torch, copied only where torch cannot take it as it is."""
    import torch

    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    if min(native.strides) < 0:
        native = native.copy(order="K")
    return torch.from_numpy(np.require(native, requirements="W"))


def axis_order(source_codes: str, target_codes: str) -> list[int]:
    """Say for each target axis which source axis it is."""
    source = axcodes2ornt(tuple(source_codes))[:, 0].tolist()
    return [source.index(axis) for axis in axcodes2ornt(tuple(target_codes))[:, 0]]


def _codes_affine(codes: str) -> np.ndarray[Any, Any]:
    """Return the affine (4, 4) of unit voxels along the axes that the codes name."""
    affine = np.zeros((4, 4))
    affine[3, 3] = 1.0
    for voxel_axis, (world_axis, sign) in enumerate(axcodes2ornt(tuple(codes))):
        affine[int(world_axis), voxel_axis] = sign
    return affine


def _flippable(dtype: torch.dtype) -> torch.dtype:
    """Return a type of the same width that torch can flip; it cannot flip wide unsigned ones."""
    import torch

    signed = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}
    return signed.get(dtype, dtype)
