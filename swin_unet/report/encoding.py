"""Volumes to what a browser decodes: reduced by whole factors, 8 bit, WebP and deflate.

Everything lies in one orientation, slices (S, H, W) that run up, to the back and to the patient's
left, from which the browser cuts all three planes.
"""

from __future__ import annotations

import base64
import io
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Factors = tuple[int, int, int]

# More voxels than this are slow to decode in a browser.
MOST_VOXELS = 40_000_000
# No axis is reduced below this.
FEWEST_SAMPLES = 24
WEBP_QUALITY = 90
# WebP works in blocks of 16 rows: padded to them, slices in one picture do not blur each other.
_BLOCK = 16
_SPRITE_ROWS = 4096
# A first guess: pictures and label maps together rarely take less per voxel.
_LEAST_BYTES_PER_VOXEL = 0.03
# Hounsfield units get the 256 grey codes where tissues are: 4 HU a code from -200 to 300.
_HU_CODES = (0, 70, 195, 245, 255)
_HU_VALUES = (-1024, -200, 300, 1500, 3071)


@dataclass(frozen=True, eq=False)
class Stack:
    """A case in display orientation.

    Attributes:
        image: Voxels (H, W, S): rows to posterior, columns to the patient's left, slices up.
        labels: Label maps of the same shape.
        spacing_mm: Of rows, columns and slices.
    """

    image: Array
    labels: tuple[Array, ...]
    spacing_mm: tuple[float, float, float]


def encode(stack: Stack, table: Array, budget: int) -> dict[str, Any]:
    """Encode a case in at most `budget` bytes, reduced as little as that takes.

    Args:
        stack: The case.
        table: Intensity of every code (256,), ascending.
        budget: Bytes; kept unless the case is reduced as far as it may be.

    Returns:
        Plain values: the factors of reduction and base64 texts.
    """
    estimate = _LEAST_BYTES_PER_VOXEL
    for factors in _reductions(stack):
        voxels = float(np.prod(reduced_size(stack.image.shape, factors)))
        if voxels > MOST_VOXELS or voxels * estimate > budget:
            continue
        encoded = _encode_reduced(stack, table, factors)
        if encoded["bytes"] <= budget:
            return encoded
        estimate = encoded["bytes"] / voxels
    return _encode_reduced(stack, table, factors)


def reduced_size(shape: Sequence[int], factors: Factors) -> tuple[int, int, int]:
    """Return the size of a volume (H, W, S) after reduction; incomplete blocks are left out."""
    height, width, depth = (size // factor for size, factor in zip(shape[:3], factors, strict=True))
    return height, width, depth


def _reductions(stack: Stack) -> Iterator[Factors]:
    """Yield factors for (H, W, S), from none on: the finest axes shrink first, together."""
    factors = [1, 1, 1]
    while True:
        yield factors[0], factors[1], factors[2]
        pitch = {
            axis: stack.spacing_mm[axis] * factors[axis]
            for axis in range(3)
            if stack.image.shape[axis] // (factors[axis] + 1) >= FEWEST_SAMPLES
        }
        if not pitch:
            return
        for axis, pitch_mm in pitch.items():
            if pitch_mm < 1.2 * min(pitch.values()):
                factors[axis] += 1


def _encode_reduced(stack: Stack, table: Array, factors: Factors) -> dict[str, Any]:
    height, width, depth = reduced_size(stack.image.shape, factors)
    per_sprite = max(1, _SPRITE_ROWS // _padded(height))
    codes = reduce_image(stack.image, table, factors)
    sprites = [
        base64_text(_webp(codes[start : start + per_sprite]))
        for start in range(0, depth, per_sprite)
    ]
    labels = [_deflate(reduce_labels(array, factors)) for array in stack.labels]
    return {
        "size": [depth, height, width],
        "factors": [factors[2], factors[0], factors[1]],
        "sprites": sprites,
        "slices_per_sprite": per_sprite,
        "sprite_rows": _padded(height),
        "label_bytes": [array.dtype.itemsize for array in stack.labels],
        "labels": labels,
        "bytes": sum(map(len, sprites)) + sum(map(len, labels)),
    }


def intensity_table(sample: Array) -> tuple[Array, bool]:
    """Choose the intensities that the 256 grey codes stand for.

    Args:
        sample: Some of the image's voxels.

    Returns:
        Ascending intensities (256,), and whether they are taken for Hounsfield units.
    """
    low, high = (float(value) for value in np.percentile(sample, (0.05, 99.95)))
    if looks_like_hu(sample):
        return np.interp(np.arange(256), _HU_CODES, _HU_VALUES), True
    if low == high:
        low, high = float(sample.min()), float(sample.max())
    return np.linspace(low, max(high, np.nextafter(low, np.inf)), 256), False


def looks_like_hu(sample: Array) -> bool:
    """Tell whether voxels are Hounsfield units, by the air around or inside of a body."""
    low, middle, high = np.percentile(sample, (1, 50, 99.5))
    return bool(-4096 <= low < -600 and middle > -1100 and -200 < high < 5000)


def reduce_image(image: Array, table: Array, factors: Factors) -> Array:
    """Average blocks of voxels (H, W, S) and turn them to grey codes (S', H', W') uint8."""
    height, width, depth = reduced_size(image.shape, factors)
    rows, columns, slices = factors
    codes = np.empty((depth, height, width), np.uint8)
    for index in range(depth):
        slab = image[: height * rows, : width * columns, index * slices : (index + 1) * slices]
        mean = slab.mean(axis=2, dtype=np.float32)
        mean = mean.reshape(height, rows, width, columns).mean(axis=(1, 3))
        codes[index] = np.rint(np.interp(mean, table, np.arange(256)))
    return codes


def reduce_labels(labels: Array, factors: Factors) -> Array:
    """Take the central voxel of every block of labels (H, W, S), as (S', H', W')."""
    height, width, depth = reduced_size(labels.shape, factors)
    rows, columns, slices = factors
    central = labels[rows // 2 :: rows, columns // 2 :: columns, slices // 2 :: slices]
    return np.moveaxis(central[:height, :width, :depth], 2, 0)


def base64_text(content: bytes) -> str:
    """Return bytes as the text that a data URL takes."""
    return base64.b64encode(content).decode("ascii")


def _webp(codes: Array) -> bytes:
    """Encode slices (n, H, W), one below the other, as one picture."""
    from PIL import Image

    _, height, width = codes.shape
    padded = np.pad(codes, ((0, 0), (0, _padded(height) - height), (0, 0)), mode="edge")
    picture = Image.fromarray(padded.reshape(-1, width))
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=WEBP_QUALITY, method=4)
    return buffer.getvalue()


def _padded(height: int) -> int:
    return height + -height % _BLOCK


def _deflate(labels: Array) -> str:
    """Pack a label map; wide values little-endian, as browsers' typed arrays have them."""
    little = labels.astype(labels.dtype.newbyteorder("<"), copy=False)
    return base64_text(zlib.compress(little.tobytes(order="C"), 9))
