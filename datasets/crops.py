"""Where in a slice a crop lies."""

from __future__ import annotations

from typing import Any

import numpy as np

JITTER = 6  # a crop's sides over how far off its middle the pixel may lie that it is drawn for


def choose_crop(
    slice_size: tuple[int, int],
    size: tuple[int, int],
    pixels: np.ndarray[Any, Any] | None,
    random: np.random.Generator,
) -> tuple[int, int]:
    """Choose where in a slice a crop lies.

    Args:
        slice_size: Height and width of the slice.
        size: Height and width of the crop.
        pixels: Places (n, 2), of which the crop is to have one, all as likely, near its middle;
            None: it may lie anywhere.
        random: Draws the place.

    Returns:
        Row and column of its first pixel. It lies inside of the slice, except that a side which
        the slice is too short for is centred on the slice.
    """
    pixel = None if pixels is None else pixels[random.integers(len(pixels))]
    corner = []
    for axis, (have, wanted) in enumerate(zip(slice_size, size, strict=True)):
        space = have - wanted
        if space <= 0:
            place = -(-space // 2)
        elif pixel is None:
            place = int(random.integers(0, space + 1))
        else:
            jitter = int(random.integers(-(wanted // JITTER), wanted // JITTER + 1))
            place = min(max(0, int(pixel[axis]) - wanted // 2 + jitter), space)
        corner.append(place)
    return corner[0], corner[1]


def inside(start: int, length: int, size: int) -> tuple[slice, int, int]:
    """Return the part of [start, start + length) in [0, size), and what is missing on each side."""
    stop = start + length
    return slice(max(0, start), min(stop, size)), max(0, -start), max(0, stop - size)
