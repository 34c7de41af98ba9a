"""Steps of the recipes that albumentations lacks or is slow at; imported where a recipe is built.

All take images (H, W, C) float32 in [0, 1] and keep them there, and draw from the generator that
`Compose.set_random_state` hands them.
"""

from __future__ import annotations

import math
from typing import Any

import albumentations
import cv2
import numpy as np

Array = np.ndarray[Any, Any]

# Nodes of the elastic deformation along a side: its waves are a sixth of the picture long.
ELASTIC_NODES = 7
# Largest standard deviation of a node's displacement, in cells: twice as much would fold tissue.
ELASTIC_STRENGTH = 0.12


class Warp(albumentations.DualTransform):
    """Rotation, scale, shift and elastic deformation in one resampling, each in a part of slices.

    The result is the middle of the picture, so that what is rotated or shifted in is real where
    the picture is larger than the result; beyond the picture its edge is repeated, in the label
    too. Images are interpolated linearly, labels take the nearest pixel.

    Args:
        size: Height and width of the result, smaller than the picture's by even numbers.
    """

    def __init__(
        self,
        size: tuple[int, int],
        rotate_p: float = 0.4,
        scale_p: float = 0.4,
        shift_p: float = 0.4,
        elastic_p: float = 0.2,
        p: float = 1.0,
    ) -> None:
        super().__init__(p=p)
        self.size = size
        self.rotate_p = rotate_p
        self.scale_p = scale_p
        self.shift_p = shift_p
        self.elastic_p = elastic_p

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        """Draw a deformation: `matrix` maps (x, y) of the result to the picture's."""
        random = self.py_random
        degrees = random.uniform(-30, 30) if random.random() < self.rotate_p else 0.0
        scale = _draw_scale(random.random(), random.random() < self.scale_p)
        shift = [0.0, 0.0]
        if random.random() < self.shift_p:
            shift = [random.uniform(-0.1, 0.1) * side for side in self.size[::-1]]
        matrix = source_matrix(params["shape"][:2], self.size, degrees, scale, shift)
        maps = None
        if random.random() < self.elastic_p:
            maps = _elastic_maps(matrix, self.size, self.random_generator)
        is_moved = degrees != 0 or scale != 1 or shift != [0, 0]
        return {"matrix": matrix if is_moved else None, "maps": maps}

    def apply(
        self, img: Array, matrix: Array | None, maps: tuple[Array, Array] | None, **params: Any
    ) -> Array:
        """Sample the image."""
        return self._sample(img, matrix, maps, cv2.INTER_LINEAR)

    def apply_to_mask(
        self, mask: Array, matrix: Array | None, maps: tuple[Array, Array] | None, **params: Any
    ) -> Array:
        """Sample the label."""
        return self._sample(mask, matrix, maps, cv2.INTER_NEAREST)

    def _sample(
        self, picture: Array, matrix: Array | None, maps: tuple[Array, Array] | None, method: int
    ) -> Array:
        height, width = self.size
        border = cv2.BORDER_REPLICATE
        if maps is not None:
            sampled = cv2.remap(picture, *maps, method, borderMode=border)
        elif matrix is not None:
            flags = method | cv2.WARP_INVERSE_MAP
            sampled = cv2.warpAffine(
                picture, matrix, (width, height), flags=flags, borderMode=border
            )
        else:
            top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
            sampled = picture[top : top + height, left : left + width]
        return sampled.reshape(height, width, *picture.shape[2:])  # OpenCV drops a single channel


def _draw_scale(position: float, is_drawn: bool) -> float:
    """Shrink by up to 0.7 in one half of the draws, enlarge by up to 1.4 in the other."""
    if not is_drawn:
        return 1.0
    return 0.7 + 0.6 * position if position < 0.5 else 1.0 + 0.8 * (position - 0.5)


def source_matrix(
    source_size: tuple[int, int],
    size: tuple[int, int],
    degrees: float,
    scale: float,
    shift: list[float],
) -> Array:
    """Return the (2, 3) matrix from (x, y, 1) of the result to (x, y) of the source.

    What is in the middle of the source is turned, enlarged and then shifted by (x, y) pixels.
    """
    cosine, sine = (f(math.radians(degrees)) / scale for f in (math.cos, math.sin))
    linear = np.array([[cosine, sine], [-sine, cosine]])
    center, source_center = ((np.array(s[::-1]) - 1) / 2 for s in (size, source_size))
    offset = source_center - linear @ (center + shift)
    return np.column_stack([linear, offset])


def _elastic_maps(
    matrix: Array, size: tuple[int, int], generator: np.random.Generator
) -> tuple[Array, Array]:
    """Return x and y (H, W) of where each pixel of the result comes from."""
    height, width = size
    cell = np.array([width, height], np.float32) / (ELASTIC_NODES - 1)
    strength = np.float32(generator.uniform(0.25, 1.0) * ELASTIC_STRENGTH) * cell
    nodes = generator.standard_normal((ELASTIC_NODES, ELASTIC_NODES, 2), dtype=np.float32)
    field = cv2.resize(nodes * strength, (width, height), interpolation=cv2.INTER_CUBIC)
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    (xx, xy, x0), (yx, yy, y0) = matrix.astype(np.float32)
    return (xx * x + xy * y + x0) + field[..., 0], (yx * x + yy * y + y0) + field[..., 1]


class Mirror(albumentations.DualTransform):
    """A flip that also exchanges the labels of paired classes.

    Args:
        axis: 0 turns the slice upside down, 1 exchanges its left and right.
        pairs: Label values to exchange.
    """

    def __init__(self, axis: int, pairs: tuple[tuple[int, int], ...] = (), p: float = 0.5) -> None:
        super().__init__(p=p)
        self.axis = axis
        self.pairs = pairs

    def apply(self, img: Array, **params: Any) -> Array:
        """Flip the image."""
        return cv2.flip(img, self.axis).reshape(img.shape)  # OpenCV drops a single channel

    def apply_to_mask(self, mask: Array, **params: Any) -> Array:
        """Flip the label and exchange its values."""
        flipped: Array = cv2.flip(mask, self.axis)
        if not self.pairs:
            return flipped
        table = np.arange(np.iinfo(mask.dtype).max + 1, dtype=mask.dtype)
        for first, second in self.pairs:
            table[[first, second]] = second, first
        return np.take(table, flipped)


class Gamma(albumentations.ImageOnlyTransform):
    """Raise intensities to a power between 0.7 and 1.5, in a quarter of the draws from the top."""

    def get_params(self) -> dict[str, Any]:
        """Draw the power; both directions are as likely."""
        darkens = self.py_random.random() < 0.5
        gamma = self.py_random.uniform(1.0, 1.5) if darkens else self.py_random.uniform(0.7, 1.0)
        return {"gamma": np.float32(gamma), "inverted": self.py_random.random() < 0.25}

    def apply(self, img: Array, gamma: np.float32, inverted: bool, **params: Any) -> Array:
        """Raise the image."""
        return 1 - (1 - img) ** gamma if inverted else img**gamma


class Contrast(albumentations.ImageOnlyTransform):
    """Stretch each channel about its mean by 0.75 to 1.25 and shift it by up to 0.15.

    A part of the draws is that strong. The others are a tenth of it, which leaves no two samples
    of a slice alike.
    """

    def __init__(self, strong_p: float = 0.3, p: float = 1.0) -> None:
        super().__init__(p=p)
        self.strong_p = strong_p

    def get_params(self) -> dict[str, Any]:
        """Draw the factor and the shift."""
        random = self.py_random
        strength = 1.0 if random.random() < self.strong_p else 0.1
        factor, shift = 1 + strength * random.uniform(-0.25, 0.25), random.uniform(-0.15, 0.15)
        return {"factor": np.float32(factor), "shift": np.float32(strength * shift)}

    def apply(self, img: Array, factor: np.float32, shift: np.float32, **params: Any) -> Array:
        """Stretch and shift the image."""
        pixels = img.reshape(-1, img.shape[2])
        # A matrix product and whole rows, as NumPy is many times slower over so few channels.
        mean = np.full(len(pixels), 1 / len(pixels), np.float32) @ pixels
        offsets = np.tile(mean * (1 - factor) + shift, img.shape[1])
        rows = img.reshape(img.shape[0], -1) * factor + offsets
        return np.clip(rows, 0, 1, out=rows).reshape(img.shape)


class Noise(albumentations.ImageOnlyTransform):
    """Add Gaussian noise of a standard deviation up to 0.06, of its own in every channel."""

    def get_params(self) -> dict[str, Any]:
        """Draw the deviation, and a seed as OpenCV's generator is five times as fast as NumPy's."""
        return {
            "deviation": self.py_random.uniform(0, 0.06),
            "seed": self.py_random.getrandbits(31),
        }

    def apply(self, img: Array, deviation: float, seed: int, **params: Any) -> Array:
        """Add it."""
        cv2.setRNGSeed(seed)
        noise = np.empty((img.shape[0], img[0].size), np.float32)
        cv2.randn(noise, np.zeros(1), np.array([deviation]))
        return np.clip(img + noise.reshape(img.shape), 0, 1)
