"""The way from slices to network input and from logits to labels, by protocol.

`strict` resizes images bilinearly, antialiased, and brings logits back to the slice's size before
the largest is taken. `paper` does what the original Swin-Unet's evaluation did: cubic splines in,
the largest logit at the network's size, nearest labels out. Its jagged outlines are for comparison
with published numbers only.
"""

from __future__ import annotations

from typing import Protocol as TypingProtocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from swin_unet.imaging.preprocessing import resize_images

Size = tuple[int, int]


class Resizing(TypingProtocol):
    """What a protocol does to slices."""

    def images(self, images: Tensor, size: Size) -> Tensor:
        """Resize (N, C, H, W) float32 to the network's size."""

    def labels(self, logits: Tensor, size: Size) -> Tensor:
        """Return labels (N, H, W) at the slice's size of logits (N, K, h, w)."""


class StrictResizing:
    """Logits go back to native pixels."""

    def images(self, images: Tensor, size: Size) -> Tensor:
        """Resize (N, C, H, W) float32 to the network's size."""
        return resize_images(images, size)

    def labels(self, logits: Tensor, size: Size) -> Tensor:
        """Return labels (N, H, W) at the slice's size of logits (N, K, h, w)."""
        return largest(resize_logits(logits, size))


class PaperResizing:
    """Labels go back to native pixels."""

    def images(self, images: Tensor, size: Size) -> Tensor:
        """Resize (N, C, H, W) float32 to the network's size."""
        return torch.from_numpy(_zoom(images.cpu().numpy(), size, order=3)).to(images.device)

    def labels(self, logits: Tensor, size: Size) -> Tensor:
        """Return labels (N, H, W) at the slice's size of logits (N, K, h, w)."""
        return torch.from_numpy(_zoom(largest(logits).cpu().numpy(), size, order=0))


RESIZING: dict[str, Resizing] = {"strict": StrictResizing(), "paper": PaperResizing()}


def resize_logits(logits: Tensor, size: Size) -> Tensor:
    """Resize logits (N, K, h, w) bilinearly, antialiased where they shrink."""
    if tuple(logits.shape[-2:]) == tuple(size):
        return logits
    shrinks = logits.shape[-2] > size[0] or logits.shape[-1] > size[1]
    return F.interpolate(logits.float(), size, mode="bilinear", antialias=shrinks)


def largest(logits: Tensor) -> Tensor:
    """Return argmax over the second axis as uint8, or int32 for more than 256 classes.

    Class by class: on a CPU `argmax` across memory takes many times as long.
    """
    dtype = torch.uint8 if logits.shape[1] <= 256 else torch.int32
    if logits.device.type != "cpu":
        return logits.argmax(dim=1).to(dtype)
    highest = logits[:, 0]
    labels = torch.zeros(highest.shape, dtype=dtype)
    for label in range(1, logits.shape[1]):
        candidate = logits[:, label]
        is_higher = candidate > highest
        labels = torch.maximum(labels, is_higher.to(dtype) * label)  # the last one is the largest
        highest = torch.maximum(highest, candidate)
    return labels


def _zoom(arrays: np.ndarray, size: Size, order: int) -> np.ndarray:
    """Resize the last two axes one picture at a time by splines through the corner pixels."""
    from scipy import ndimage

    if arrays.shape[-2:] == tuple(size):
        return arrays
    factors = [wanted / native for wanted, native in zip(size, arrays.shape[-2:], strict=True)]
    zoomed = np.empty((*arrays.shape[:-2], *size), arrays.dtype)
    for index in np.ndindex(arrays.shape[:-2]):
        zoomed[index] = ndimage.zoom(arrays[index], factors, order=order)
    return zoomed
