"""Refine features at full resolution by convolutions that see the image's pixels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Channels of the image's own features and between the two convolutions.
IMAGE_DIM, HIDDEN_DIM = 16, 32


class PixelRefinement(nn.Module):
    """Add to every pixel's features what its neighbours and the image around it say.

    Tokens of `patch_size` pixels are expanded to pixels without a look at the image; borders of
    structures that are some ten pixels wide come out blunt. The last convolution starts at zero,
    so that a network with trained weights of its other parts begins where it was.

    Args:
        in_channels: Channels of the image.
        dim: Channels of the features.
    """

    def __init__(self, in_channels: int, dim: int) -> None:
        super().__init__()
        self.image = _conv(in_channels, IMAGE_DIM)
        self.mix = _conv(dim + IMAGE_DIM, HIDDEN_DIM)
        self.project = nn.Conv2d(HIDDEN_DIM, dim, kernel_size=3, padding=1)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        """Refine features (B, dim, H, W) by the image (B, in_channels, H, W) they came from."""
        return x + self.project(self.mix(torch.cat([x, self.image(image)], dim=1)))


def _conv(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
        nn.InstanceNorm2d(out_channels, affine=True),
        nn.GELU(),
    )
