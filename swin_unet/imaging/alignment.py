"""Label maps onto the grid of their image: turned exactly, or what to do about another grid."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np

from swin_unet.config import UserError
from swin_unet.imaging.volume import Grid, Volume, grid_differences

OnMismatch = Literal["error", "copy_geometry", "resample"]


def align(label: Volume, image: Grid, on_mismatch: OnMismatch = "error") -> Volume:
    """Return a label map on the grid of its image.

    The same voxels stored with other axis order or directions are turned, which loses nothing.
    Where one of the two has no voxel size, equal shapes are the same grid.

    Args:
        label: (X, Y, Z) integers.
        image: Where the voxels must lie.
        on_mismatch: `error` refuses any other grid; `copy_geometry` takes the voxels as they are
            stored for those of an image of the same shape; `resample` takes for each voxel of the
            image the nearest one of the label map, 0 outside.

    Returns:
        The label map with the image's affine.

    Raises:
        UserError: For another grid that `on_mismatch` does not allow for.
    """
    has_places = label.has_spacing and image.has_spacing
    turned = _turned(label, image) if has_places else label
    if not grid_differences(turned, image):
        return _placed(turned, image)
    if on_mismatch == "copy_geometry" and label.shape == image.shape:
        return _placed(label, image)
    if on_mismatch == "resample" and has_places:
        return _resampled(label, image)
    raise _mismatch(turned, image, on_mismatch)


def _placed(label: Volume, image: Grid) -> Volume:
    return replace(label, affine=image.affine, header=None)


def _turned(label: Volume, image: Grid) -> Volume:
    """Permute and flip the axes of a label map so that they run as those of the image, if any do.

    The result shares the voxels; nothing is compared but the directions.
    """
    to_label = np.linalg.inv(_directions(label)) @ _directions(image)
    signs = np.where(np.abs(to_label) > 0.5, np.sign(to_label), 0.0)  # (label axis, image axis)
    if not all((np.abs(signs).sum(axis=axis) == 1).all() for axis in (0, 1)):
        return label
    order = np.abs(signs).argmax(axis=0)  # for each image axis the label axis
    array = label.array.transpose(order)
    directions = signs.sum(axis=0)  # for each image axis
    array = array[tuple(slice(None, None, int(direction)) for direction in directions)]
    first = np.zeros(3)  # the label's voxel that becomes voxel 0
    first[order] = np.where(directions < 0, np.array(array.shape) - 1, 0)
    affine = label.affine.copy()
    affine[:3, :3] = label.affine[:3, :3] @ signs
    affine[:3, 3] += label.affine[:3, :3] @ first
    return replace(label, array=array, affine=affine)


def _directions(grid: Grid) -> np.ndarray[Any, Any]:
    """Return the unit vectors of the voxel axes as columns."""
    linear: np.ndarray[Any, Any] = grid.affine[:3, :3] / np.array(grid.spacing_mm)
    return linear


def _resampled(label: Volume, image: Grid) -> Volume:
    """Take for each voxel of the image the nearest one of the label map, 0 outside.

    Raises:
        UserError: When no label is left.
    """
    from scipy import ndimage

    to_label = np.linalg.inv(label.affine) @ image.affine
    array: np.ndarray[Any, Any] = ndimage.affine_transform(
        label.array,
        to_label[:3, :3],
        to_label[:3, 3],
        output_shape=image.shape,
        order=0,
        mode="grid-constant",  # `constant` would cut off half a voxel at the edges
        prefilter=False,
    )
    if label.array.any() and not array.any():
        raise UserError(
            label.label,
            expected=f"labels inside {image.label}",
            found="none of its labels there",
            fix="Pair the right files.",
        )
    return _placed(replace(label, array=array), image)


def _mismatch(label: Volume, image: Grid, on_mismatch: OnMismatch) -> UserError:
    fixes = {
        "error": "Resample one of them onto the other's grid, or pair the right files; "
        "data.on_mismatch in training and --on_mismatch in scoring can resample.",
        "copy_geometry": "Copying the geometry needs equal shapes: pair the right files, or set "
        "data.on_mismatch to resample.",
        "resample": "Without a voxel size in both files nothing can be resampled: pair the right "
        "files.",
    }
    return UserError(
        label.label,
        expected=f"the grid of {image.label}",
        found="; ".join(grid_differences(label, image)),
        fix=fixes[on_mismatch],
    )
