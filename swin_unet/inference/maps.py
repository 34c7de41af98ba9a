"""Maps beside the labels: how sure the network is, and the probability of every class."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from swin_unet.imaging import PreparedVolume, Volume
from swin_unet.imaging.maps import LARGEST, MapFile


class DiskMap(ABC):
    """A map that is filled slab by slab; `file.save()` writes it.

    Args:
        path: A .nii.gz file.
        image: Where the geometry comes from.
        prepared: The same in working orientation.
        num_classes: Background included.
    """

    def __init__(
        self, path: Path, image: Volume, prepared: PreparedVolume, num_classes: int
    ) -> None:
        self.num_classes = num_classes
        self.file = self.open(path, image)
        self.voxels = prepared.to_working_array(self.file.array)  # (H, W, S) or (H, W, S, K)

    @abstractmethod
    def open(self, path: Path, image: Volume) -> MapFile:
        """Make the file."""

    @abstractmethod
    def compute(self, logits: Tensor) -> Tensor:
        """Return values in [0, 1], (n, H, W) or (n, K, H, W), of logits (n, K, H, W)."""

    def put(self, start: int, logits: Tensor) -> None:
        """Take logits (n, K, H, W) at native size of the slices from `start` on."""
        for index in range(len(logits)):  # one by one: less memory
            values = _to_uint16(self.compute(logits[index : index + 1].float()))[0]
            order = (0, 1) if values.ndim == 2 else (1, 2, 0)
            self.voxels[:, :, start + index] = values.transpose(order)
        self.file.release()


class EntropyMap(DiskMap):
    """Entropy of the class probabilities: 0 where one class is sure, 1 where all are equal."""

    def open(self, path: Path, image: Volume) -> MapFile:
        """Make the file."""
        return MapFile(path, image)

    def compute(self, logits: Tensor) -> Tensor:
        """Return the entropy (n, H, W) of logits (n, K, H, W)."""
        log_probabilities = logits.log_softmax(dim=1)
        entropy = -(log_probabilities.exp() * log_probabilities).sum(dim=1)
        return entropy / math.log(self.num_classes)


class ProbabilityMap(DiskMap):
    """Probabilities of all classes, background first, as a fourth axis."""

    def open(self, path: Path, image: Volume) -> MapFile:
        """Make the file."""
        return MapFile(path, image, self.num_classes)

    def compute(self, logits: Tensor) -> Tensor:
        """Return the probabilities (n, K, H, W) of logits (n, K, H, W)."""
        return logits.softmax(dim=1)


MAPS: dict[str, type[DiskMap]] = {"entropy": EntropyMap, "probabilities": ProbabilityMap}


def _to_uint16(values: Tensor) -> np.ndarray:
    """Return values in [0, 1], up to rounding errors, as whole numbers."""
    scaled = (values.clamp(0, 1) * LARGEST).round_()
    return scaled.to(torch.int32).cpu().numpy().astype(np.uint16)
