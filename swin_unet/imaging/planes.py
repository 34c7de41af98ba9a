"""The anatomical plane of the slices, by spacing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
from nibabel.orientations import io_orientation

from swin_unet.imaging.volume import Grid

Plane = Literal["axial", "coronal", "sagittal"]
# By world axis: what lies across left-right, posterior-anterior and inferior-superior.
_ACROSS: tuple[Plane, ...] = ("sagittal", "coronal", "axial")
# An axis counts as the thick one from this ratio on.
_THICKER = 1.01


def thick_plane(grids: Iterable[Grid]) -> Plane:
    """Say which plane lies across the axis of the largest spacing, in the median of all cases.

    A volume of one slice lies in the plane of this slice. Where no axis is thicker than the
    others, and where no file holds a voxel size, the plane is axial.

    Args:
        grids: Volumes or headers.
    """
    spacings = [_world_spacing(grid) for grid in grids if grid.has_spacing]
    if not spacings:
        return "axial"
    medians = np.median(spacings, axis=0)
    thickest = int(medians.argmax())
    others = max(medians[axis] for axis in range(3) if axis != thickest)
    return _ACROSS[thickest] if medians[thickest] >= _THICKER * others else "axial"


def _world_spacing(grid: Grid) -> list[float]:
    """Return the spacing in mm along left-right, posterior-anterior and inferior-superior.

    The axis across a single slice counts as endlessly thick.
    """
    spacing = [0.0, 0.0, 0.0]
    for voxel_axis, (world_axis, _) in enumerate(io_orientation(grid.affine)):
        is_single = grid.shape[voxel_axis] == 1
        spacing[int(world_axis)] = np.inf if is_single else grid.spacing_mm[voxel_axis]
    return spacing
