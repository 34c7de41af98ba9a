"""Axis order and direction of voxel arrays: exact permutations and flips, without copies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, ornt_transform

if TYPE_CHECKING:
    import torch

# Rows, columns, slices, as (where the axis runs to): a slice is upright as radiologists view it.
WORKING_CODES = {"axial": "PLS", "coronal": "ILP", "sagittal": "IPL"}


def reorient_array(
    array: np.ndarray[Any, Any], source_codes: str, target_codes: str
) -> np.ndarray[Any, Any]:
    """Permute and flip the axes of (X, Y, Z) or (X, Y, Z, C) from one set of codes to another.

    The codes are given, not an affine: near 45 degrees, an affine might be taken for other ones
    on the way back.

    Returns:
        A view: the voxels are where they were.
    """
    source, target = (axcodes2ornt(tuple(codes)) for codes in (source_codes, target_codes))
    view: np.ndarray[Any, Any] = apply_orientation(array, ornt_transform(source, target))
    return view


def as_tensor(array: np.ndarray[Any, Any]) -> torch.Tensor:
    """Share an array with torch, copied only where torch cannot take it as it is."""
    import torch

    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    if native.size and min(native.strides) < 0:
        native = native.copy(order="K")
    return torch.from_numpy(np.require(native, requirements="W"))


def axis_order(source_codes: str, target_codes: str) -> list[int]:
    """Say for each target axis which source axis it is."""
    source = axcodes2ornt(tuple(source_codes))[:, 0].tolist()
    return [source.index(axis) for axis in axcodes2ornt(tuple(target_codes))[:, 0]]
