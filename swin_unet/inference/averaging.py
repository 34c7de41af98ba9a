"""Networks that average logits: of several networks, and of mirrored slices.

The mean of logits is, softmax taken, the geometric mean of the probabilities; it commutes with
resizing, so it is taken where the slices are small.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from swin_unet.imaging.flips import Flip


class Ensemble(nn.Module):
    """Average the logits of several networks of the same classes.

    Args:
        networks: From (B, C, h, w) to logits (B, K, h, w).
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, image: Tensor) -> Tensor:
        """Map images (B, C, h, w) to logits (B, K, h, w)."""
        return mean(network(image) for network in self.networks)


class Mirrored(nn.Module):
    """Average the logits of a slice and of all its mirror images, each mirrored back.

    What a flip exchanges is exchanged back: in the mirror image of a slice the left kidney is
    where the right one was, and looks like it.

    Args:
        network: From (B, C, h, w) to logits (B, K, h, w).
        flips: What to mirror; n flips give 2^n images.
        num_classes: K, background included.
    """

    def __init__(self, network: nn.Module, flips: Sequence[Flip], num_classes: int) -> None:
        super().__init__()
        self.network = network
        self.num_classes = num_classes
        self.combinations = [
            [flip for index, flip in enumerate(flips) if number >> index & 1]
            for number in range(2 ** len(flips))
        ]

    def forward(self, image: Tensor) -> Tensor:
        """Map images (B, C, h, w) to logits (B, K, h, w)."""
        return mean(self._mirrored(image, flips) for flips in self.combinations)

    def _mirrored(self, image: Tensor, flips: Sequence[Flip]) -> Tensor:
        axes = [flip.axis + 2 for flip in flips]
        logits = self.network(image.flip(axes)).flip(axes) if axes else self.network(image)
        channels = list(range(self.num_classes))
        for first, second in (pair for flip in flips for pair in flip.pairs):
            channels[first], channels[second] = channels[second], channels[first]
        if channels == sorted(channels):
            return logits
        return logits[:, torch.tensor(channels, device=logits.device)]


def mean(logits: Iterable[Tensor]) -> Tensor:
    """Average tensors one by one, in float32 whatever their precision."""
    total, number = torch.zeros(()), 0
    for each in logits:
        total = each.float() if number == 0 else total + each.float()
        number += 1
    return total / number if number > 1 else total
