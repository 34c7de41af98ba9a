"""Maps beside the labels: how sure the network is, and the probability of every class."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from swin_unet.imaging import PreparedVolume, Volume
from swin_unet.imaging.maps import LARGEST, MapFile


class EntropyMap:
    """Entropy of the class probabilities: 0 where one class is sure, 1 where all are equal.

    Args:
        path: A .nii.gz file.
        image: Where the geometry comes from.
        prepared: The same in working orientation.
        num_classes: Background included.
    """

    def __init__(
        self, path: Path, image: Volume, prepared: PreparedVolume, num_classes: int
    ) -> None:
        self.file = MapFile(path, image)
        self._largest = math.log(num_classes)
        self._voxels = prepared.to_working_array(self.file.array)

    def put(self, start: int, logits: Tensor) -> None:
        """Take logits (n, K, H, W) at native size of the slices from `start` on."""
        log_probabilities = logits.float().log_softmax(dim=1)
        entropy = -(log_probabilities.exp() * log_probabilities).sum(dim=1) / self._largest
        self._voxels[..., start : start + len(logits)] = _to_uint16(entropy).transpose(1, 2, 0)
        self.file.release()


class ProbabilityMap:
    """Probabilities of all classes, background first, as a fourth axis.

    Args:
        path: A .nii.gz file.
        image: Where the geometry comes from.
        prepared: The same in working orientation.
        num_classes: Background included.
    """

    def __init__(
        self, path: Path, image: Volume, prepared: PreparedVolume, num_classes: int
    ) -> None:
        self.file = MapFile(path, image, num_classes)
        self._voxels = prepared.to_working_array(self.file.array)  # (H, W, S, K)

    def put(self, start: int, logits: Tensor) -> None:
        """Take logits (n, K, H, W) at native size of the slices from `start` on."""
        probabilities = _to_uint16(logits.float().softmax(dim=1))
        self._voxels[:, :, start : start + len(logits)] = probabilities.transpose(2, 3, 0, 1)
        self.file.release()


def _to_uint16(values: Tensor) -> np.ndarray:
    """Return values in [0, 1], up to rounding errors, as whole numbers."""
    scaled = (values.clamp(0, 1) * LARGEST).round_()
    return scaled.to(torch.int32).cpu().numpy().astype(np.uint16)
