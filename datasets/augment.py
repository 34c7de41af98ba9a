"""Augmentation of slices by albumentations, reproducible sample by sample."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from swin_unet.config import DataConfig, UserError
from swin_unet.imaging import Plane
from swin_unet.imaging.flips import Flip, plan_flips

if TYPE_CHECKING:
    import albumentations

AUGMENTATIONS = ("paper", "default", "none")
CONTEXT = 0.25  # of a crop's size: what `default` may rotate, shrink or shift in on each side


def build_augmentation(
    config: DataConfig, plane: Plane, classes: Mapping[int, str]
) -> Augmentation | None:
    """Return the recipe of the data section, None for `none`.

    `default` changes place, shape and intensities; it mirrors along `flip_axes` only, where a
    left-right flip exchanges the classes of the two sides. `paper` is what the original does,
    faults included: its flips leave left and right labels as they are, its quarter turns lay the
    patient on the side, and it rotates the image by the nearest pixel.

    Args:
        config: The data section.
        plane: Of the slices, `auto` resolved.
        classes: Names of the label values.

    Raises:
        UserError: Flips that cannot be, or `paper` for slices that are not square.
    """
    size = config.image_size
    if config.augmentation == "none":
        return None
    if config.augmentation == "paper" and size[0] != size[1]:
        raise UserError(
            "data.augmentation",
            expected="a square data.image_size for `paper`, which turns slices by 90 degrees",
            found=str(tuple(size)),
            fix="Use augmentation `default`, or a square size.",
        )
    flips = plan_flips(config, plane, classes) if config.augmentation == "default" else ()
    return Augmentation(config.augmentation, size, flips)


class Augmentation:
    """A recipe that gives the same result for the same slice and seed in any process.

    Args:
        name: `paper` or `default`.
        size: Height and width of the results.
        flips: What `default` may mirror, each with probability one half.
    """

    def __init__(self, name: str, size: tuple[int, int], flips: Sequence[Flip] = ()) -> None:
        assert name in AUGMENTATIONS
        assert name != "none"
        self.name = name
        self.size = (size[0], size[1])
        self.flips = tuple(flips)
        self._pipeline: albumentations.Compose | None = None

    @property
    def context(self) -> tuple[int, int]:
        """Rows above and below, columns left and right that a picture may have in excess."""
        if self.name == "paper":
            return 0, 0
        return round(CONTEXT * self.size[0]), round(CONTEXT * self.size[1])

    def __getstate__(self) -> dict[str, Any]:
        """Leave the pipeline behind: a loader worker builds its own."""
        return {**self.__dict__, "_pipeline": None}

    def __call__(
        self, image: np.ndarray[Any, Any], label: np.ndarray[Any, Any], seed: int
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Augment one slice.

        Args:
            image: (C, H, W) float32 in any range, which each channel keeps: noise does not leave
                it. H and W are those of `size`, or with `context` on both sides.
            label: (H, W) uint8 or uint16.
            seed: Of this sample.

        Returns:
            Image (C, h, w) and label (h, w) of the recipe's size and the same types.
        """
        if self._pipeline is None:
            self._pipeline = self._build_pipeline()
        # One generator for all steps: set_random_seed would start each from the same number, and
        # the steps of equal probability would then always come together.
        self._pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))
        low = image.min(axis=(1, 2), keepdims=True)
        extent = image.max(axis=(1, 2), keepdims=True) - low
        # albumentations clips float images to [0, 1] and takes contrast and noise relative to it.
        scaled = (image - low) / np.where(extent > 0, extent, 1)
        result = self._pipeline(image=np.moveaxis(scaled, 0, -1), mask=label)
        pixels = np.ascontiguousarray(np.moveaxis(result["image"], -1, 0))
        return pixels * extent + low, result["mask"]

    def _build_pipeline(self) -> albumentations.Compose:
        os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would ask the network for a newer version
        import albumentations
        import cv2

        cv2.setNumThreads(0)  # the loader's workers are the parallelism
        steps = _paper_steps() if self.name == "paper" else _default_steps(self.size, self.flips)
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


def _default_steps(size: tuple[int, int], flips: Sequence[Flip]) -> list[Any]:
    """Geometry first, then intensity, then resolution and noise, each in a part of the slices.

    Ranges and probabilities are near nnU-Net's.
    """
    import albumentations
    import cv2

    from datasets.steps import Contrast, Gamma, Mirror, Noise, Warp

    return [
        Warp(size),
        *(Mirror(flip.axis, flip.pairs, p=0.5) for flip in flips),
        Gamma(p=0.35),
        Contrast(strong_p=0.3),
        albumentations.GaussianBlur(blur_limit=0, sigma_limit=(0.5, 1.0), p=0.15),
        albumentations.Downscale(
            scale_range=(0.5, 0.95),
            # OpenCV shrinks by area for at most four channels.
            interpolation_pair={"downscale": cv2.INTER_LINEAR, "upscale": cv2.INTER_LINEAR},
            p=0.15,
        ),
        Noise(p=0.15),
        albumentations.CoarseDropout(
            num_holes_range=(1, 2),
            hole_height_range=(0.05, 0.15),
            hole_width_range=(0.05, 0.15),
            fill=0,
            p=0.1,
        ),
    ]
