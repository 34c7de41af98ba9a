"""Augmentation of slices by albumentations, reproducible sample by sample."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import albumentations

AUGMENTATIONS = ("paper", "default", "none")


def build_augmentation(name: str) -> Augmentation | None:
    """Return the recipe of this name, None for `none`.

    `default` changes place, shape and intensities, but never swaps sides: left and right organs
    have labels of their own. `paper` is the original's recipe, flips included.
    """
    assert name in AUGMENTATIONS
    return None if name == "none" else Augmentation(name)


class Augmentation:
    """A recipe that gives the same result for the same slice and seed in any process.

    Args:
        name: `paper` or `default`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._pipeline: albumentations.Compose | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave the pipeline behind: a loader worker builds its own."""
        return {"name": self.name, "_pipeline": None}

    def __call__(
        self, image: np.ndarray[Any, Any], label: np.ndarray[Any, Any], seed: int
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Augment one slice.

        Args:
            image: (H, W, C) float32 in any range, which is kept: noise does not leave it.
            label: (H, W) uint8 or uint16.
            seed: Of this sample.

        Returns:
            Image and label of the same sizes and types.
        """
        if self._pipeline is None:
            self._pipeline = _build_pipeline(self.name)
        # One generator for all steps: set_random_seed would start each from the same number, and
        # the steps of equal probability would then always come together.
        self._pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))
        low, high = float(image.min()), float(image.max())
        # albumentations clips float images to [0, 1] and takes contrast and noise relative to it.
        scaled = (image - low) / ((high - low) or 1.0)
        result = self._pipeline(image=scaled, mask=label)
        return result["image"] * np.float32(high - low) + np.float32(low), result["mask"]


def _build_pipeline(name: str) -> albumentations.Compose:
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would ask the network for a newer version
    import albumentations
    import cv2

    cv2.setNumThreads(0)  # the loader's workers are the parallelism
    steps = _paper_steps() if name == "paper" else _default_steps()
    return albumentations.Compose(steps)


def _paper_steps() -> list[Any]:
    """Half of the slices turned by 90 degrees and flipped, a quarter rotated, a quarter as is."""
    import albumentations
    import cv2

    flip = albumentations.OneOf(
        [albumentations.HorizontalFlip(p=1), albumentations.VerticalFlip(p=1)], p=1
    )
    turn = albumentations.Sequential([albumentations.RandomRotate90(p=1), flip], p=0.5)
    rotate = albumentations.Rotate(limit=(-20, 20), interpolation=cv2.INTER_NEAREST, p=0.25)
    return [albumentations.OneOf([turn, rotate, albumentations.NoOp(p=0.25)], p=1)]


def _default_steps() -> list[Any]:
    """Geometry first, then intensity, then resolution, each in a part of the slices."""
    import albumentations
    import cv2

    return [
        albumentations.Affine(
            scale=(0.8, 1.25), rotate=(-15, 15), translate_percent=(-0.08, 0.08), p=0.7
        ),
        albumentations.ElasticTransform(alpha=200, sigma=10, p=0.2),
        albumentations.RandomGamma(gamma_limit=(70, 150), p=0.3),
        albumentations.RandomBrightnessContrast(0.15, 0.25, p=0.3),
        albumentations.GaussNoise(std_range=(0.0, 0.06), p=0.2),
        albumentations.GaussianBlur(blur_limit=0, sigma_limit=(0.5, 1.2), p=0.15),
        albumentations.Downscale(
            scale_range=(0.5, 0.9),
            # OpenCV shrinks by area for at most four channels.
            interpolation_pair={"downscale": cv2.INTER_LINEAR, "upscale": cv2.INTER_LINEAR},
            p=0.15,
        ),
    ]
