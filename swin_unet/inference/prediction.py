"""What the network gives for a volume: labels in memory, maps on disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from swin_unet.imaging import PreparedVolume


@dataclass(frozen=True, eq=False)
class Prediction:
    """Labels of a volume in working orientation.

    Attributes:
        prepared: What they belong to.
        labels: (H, W, S) uint8, or uint16 for more than 256 classes.
    """

    prepared: PreparedVolume
    labels: np.ndarray[Any, Any]

    @classmethod
    def empty(cls, prepared: PreparedVolume, num_classes: int) -> Prediction:
        """Make room for the labels of a volume."""
        shape = (*prepared.slice_size, prepared.num_slices)
        dtype = np.uint8 if num_classes <= 256 else np.uint16
        return cls(prepared, np.empty(shape, dtype, order="F"))

    def put(self, start: int, labels: np.ndarray[Any, Any]) -> None:
        """Take the labels (n, H, W) of the slices from `start` on."""
        self.labels[..., start : start + len(labels)] = np.moveaxis(labels, 0, -1)

    def restore(self) -> np.ndarray[Any, Any]:
        """Return the labels (X, Y, Z) in the axis order of the file, a view."""
        return self.prepared.restore(self.labels)


class SlabMap(Protocol):
    """Takes the logits of a volume slab by slab."""

    def put(self, start: int, logits: Tensor) -> None:
        """Take logits (n, K, H, W) at native size of the slices from `start` on."""
