"""Label values: whole numbers of known classes, whatever the file's data type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from swin_unet.config import UserError
from swin_unet.imaging.volume import Volume

LARGEST_LABEL = 65535


def to_class_values(
    volume: Volume, num_classes: int | None = None, values: Mapping[int, int] | None = None
) -> Volume:
    """Return a label map as uint8, or uint16 if it has values above 255.

    Args:
        volume: (X, Y, Z) of any data type.
        num_classes: Values of the result must be below this; None: any up to 65535.
        values: Value in the file to value in the result; 0 stays 0 unless it is named.

    Raises:
        UserError: For values that are no whole numbers, or not among the classes.
    """
    _check_integers(volume)
    _check_range(volume, None if values is not None else num_classes)
    array = volume.array
    dtype = np.uint8 if array.max() < 256 else np.uint16
    array = array.astype(dtype, copy=False)
    if values is not None:
        array = _mapped(volume, array, {0: 0, **values})
        _check_range(replace(volume, array=array), num_classes)
    return replace(volume, array=array)


def _check_integers(volume: Volume) -> None:
    array = volume.array
    if array.dtype.kind != "f":
        return
    with np.errstate(invalid="ignore"):
        broken = ~(np.rint(array) == array) | np.isinf(array)
    if broken.any():
        raise UserError(
            volume.label,
            expected="integer label values",
            found=f"values such as {_some(array[broken])}",
            fix="Give a label map, not probabilities or a resampled image.",
        )


def _check_range(volume: Volume, num_classes: int | None) -> None:
    array, limit = volume.array, LARGEST_LABEL + 1 if num_classes is None else num_classes
    if array.min() < 0 or array.max() >= limit:
        wrong = array[(array < 0) | (array >= limit)]
        raise UserError(
            volume.label,
            expected=f"label values from 0 to {limit - 1}",
            found=f"{wrong.size} voxels with {_some(wrong)}",
            fix="Correct the label map or the list of classes.",
        )


def _mapped(
    volume: Volume, array: np.ndarray[Any, Any], values: Mapping[int, int]
) -> np.ndarray[Any, Any]:
    """Replace values by a table; those that it does not name are faults."""
    is_known = np.zeros(LARGEST_LABEL + 1, dtype=bool)
    table = np.zeros(LARGEST_LABEL + 1, dtype=np.uint8 if max(values.values()) < 256 else np.uint16)
    for value, mapped in values.items():
        is_known[value], table[value] = True, mapped
    unknown = ~is_known[array]
    if unknown.any():
        raise UserError(
            volume.label,
            expected=f"the label values {', '.join(str(value) for value in sorted(values))}",
            found=f"{np.count_nonzero(unknown)} voxels with {_some(array[unknown])}",
            fix="Correct the label map, or give the data set that it belongs to.",
        )
    return table[array]


def _some(values: np.ndarray[Any, Any]) -> str:
    """List the first few distinct values."""
    distinct = [f"{value:g}" for value in np.unique(values)[:6].tolist()]
    return ", ".join(distinct[:5]) + (", ..." if len(distinct) > 5 else "")
