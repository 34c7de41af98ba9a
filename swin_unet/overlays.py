"""Pictures of slices with coloured labels, for TensorBoard and for looking at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from swin_unet.files import atomic_path

Picture = np.ndarray[Any, Any]

# Okabe and Ito's colours, told apart by colour-blind readers too, and violet for their black, which
# like white is no colour on grey; repeated beyond eight classes.
PALETTE = np.array(
    [
        (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66),
        (0, 114, 178), (213, 94, 0), (204, 121, 167), (140, 70, 230),
    ],
    dtype=np.float32,
)  # fmt: skip

# How a prediction can be wrong, and in which colour that is shown: red, blue, yellow.
ERRORS = ("right", "invented", "missed", "other class")
ERROR_PALETTE = np.array([(230, 40, 40), (60, 120, 255), (240, 220, 60)], dtype=np.float32)


def to_grey(pixels: np.ndarray[Any, Any], limits: tuple[float, float] | None = None) -> Picture:
    """Stretch pixels (H, W) to a grey picture (H, W, 3) uint8.

    Args:
        pixels: In any range.
        limits: What becomes black and white; None: the smallest and the largest pixel.
    """
    low, high = limits or (float(pixels.min()), float(pixels.max()))
    grey = (np.clip(pixels, low, high) - low) * (255 / (high - low) if high > low else 0.0)
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)


def save_picture(path: Path, picture: Picture) -> None:
    """Write a picture as a PNG file, the whole file or none of it."""
    from PIL import Image

    with atomic_path(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")


def class_colour(value: int) -> tuple[float, float, float]:
    """Return the colour (red, green, blue) of a class, in [0, 1]."""
    red, green, blue = (PALETTE[(value - 1) % len(PALETTE)] / 255).tolist()
    return red, green, blue


def overlay(
    grey: Picture,
    labels: np.ndarray[Any, Any],
    opacity: float = 0.5,
    palette: np.ndarray[Any, Any] = PALETTE,
) -> Picture:
    """Colour the labelled pixels of a picture.

    Args:
        grey: (H, W, 3) uint8.
        labels: (H, W), 0 stays grey.
        opacity: Of the colour, in [0, 1].
        palette: (number of colours, 3), for labels 1, 2, ... and repeated beyond them.

    Returns:
        (H, W, 3) uint8.
    """
    mask = labels > 0
    colours = palette[(labels[mask].astype(np.int64) - 1) % len(palette)]
    picture = grey.astype(np.float32)
    picture[mask] = (1 - opacity) * picture[mask] + opacity * colours
    return picture.astype(np.uint8)


def error_map(
    labels: np.ndarray[Any, Any], prediction: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    """Say of every pixel (H, W) whether and how the prediction errs, as an index of ERRORS."""
    wrong = labels != prediction
    kinds = np.full(labels.shape, ERRORS.index("other class"), np.uint8)
    kinds[prediction == 0] = ERRORS.index("missed")
    kinds[labels == 0] = ERRORS.index("invented")
    return np.where(wrong, kinds, np.uint8(0))


def overlay_panel(
    pixels: np.ndarray[Any, Any],
    labels: np.ndarray[Any, Any],
    prediction: np.ndarray[Any, Any],
) -> Picture:
    """Put a slice (H, W), its labels, its prediction and the errors side by side.

    Returns:
        (H', 4 * W', 3) uint8, enlarged when the slice is small.
    """
    grey = to_grey(pixels)
    errors = overlay(grey, error_map(labels, prediction), opacity=0.8, palette=ERROR_PALETTE)
    panel = np.concatenate([grey, overlay(grey, labels), overlay(grey, prediction), errors], axis=1)
    factor = max(1, round(192 / grey.shape[0]))
    return panel.repeat(factor, axis=0).repeat(factor, axis=1)
