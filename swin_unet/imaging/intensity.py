"""Intensities of an image: measured once per volume and channel, mapped slice by slice."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    import torch

SAMPLE_SIZE = 4_000_000


@dataclass(frozen=True)
class IntensityRange:
    """A linear map that clips: [low, high] in the image's units to [mapped_low, mapped_high]."""

    low: float
    high: float
    mapped_low: float = 0.0
    mapped_high: float = 1.0


def measure_range(
    channel: np.ndarray[Any, Any],
    intensity: Literal["percentile", "zscore"],
    percentiles: tuple[float, float],
) -> IntensityRange:
    """Measure how the voxels (H, W, S) of one channel are to be mapped."""
    sample = _sample(channel)
    low, high = (float(value) for value in np.percentile(sample, percentiles))
    if low == high:  # nearly all voxels are equal: what differs must not be lost
        low, high = float(channel.min()), float(channel.max())
    if intensity == "percentile" or low == high:
        return IntensityRange(low, high)
    clipped = np.clip(sample.astype(np.float32), low, high)
    mean = float(clipped.mean(dtype=np.float64))
    deviation = float(clipped.std(dtype=np.float64)) or high - low
    return IntensityRange(low, high, (low - mean) / deviation, (high - mean) / deviation)


def rescale(channel: torch.Tensor, intensity: IntensityRange) -> torch.Tensor:
    """Map voxels of any shape and type to float32."""
    import torch
    from monai.transforms import ScaleIntensityRange

    if intensity.low == intensity.high:
        return torch.zeros_like(channel, dtype=torch.float32)
    transform = ScaleIntensityRange(
        intensity.low, intensity.high, intensity.mapped_low, intensity.mapped_high, clip=True
    )
    scaled: Any = transform(channel.float())
    return scaled.as_tensor()


def _sample(channel: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Thin out the rows and columns of (H, W, S) until about SAMPLE_SIZE voxels are left."""
    step = math.ceil(math.sqrt(channel.size / SAMPLE_SIZE)) or 1
    return channel[::step, ::step]
