"""Change of resolution: patch embedding and merging on the way down, three ways back up."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swin_unet.layers.windows import pad_to_multiple

Upsampling = Literal["expand", "bilinear", "transpose"]


class PatchEmbed(nn.Module):
    """Cut an image into patches, one token each: a strided convolution and a norm.

    Args:
        in_channels: Channels of the image.
        dim: Channels of a token.
        patch_size: Pixels per patch side.
    """

    def __init__(self, in_channels: int, dim: int, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2d(in_channels, dim, kernel_size=patch_size, stride=patch_size)
        self.norm = nn.LayerNorm(dim, eps=1e-5)

    def forward(self, image: Tensor) -> Tensor:
        """Map images (B, in_channels, H, W) to (B, ceil(H / p), ceil(W / p), dim).

        Zeros at the bottom and right complete the last patches.
        """
        bottom, right = (-image.shape[2]) % self.patch_size, (-image.shape[3]) % self.patch_size
        if bottom or right:
            image = F.pad(image, (0, right, 0, bottom))
        return self.norm(self.proj(image).permute(0, 2, 3, 1))


class PatchMerging(nn.Module):
    """Halve the resolution and change the channels: join 2 x 2 tokens, norm, linear (Swin V1).

    Args:
        dim: Channels in.
        out_dim: Channels out; None: twice as many.
    """

    def __init__(self, dim: int, out_dim: int | None = None) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim, eps=1e-5)
        self.reduction = nn.Linear(4 * dim, out_dim or 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map features (B, H, W, dim) to (B, ceil(H / 2), ceil(W / 2), out_dim), zero-padded."""
        return self.reduction(self.norm(join_corners(x)))


class PatchMergingV2(nn.Module):
    """Halve the resolution and double the channels: join 2 x 2 tokens, linear, norm (Swin V2)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.norm = nn.LayerNorm(2 * dim, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        """Map features (B, H, W, C) to (B, ceil(H / 2), ceil(W / 2), 2C), odd sizes padded."""
        return self.norm(self.reduction(join_corners(x)))


def join_corners(x: Tensor) -> Tensor:
    """Join every 2 x 2 tokens of (B, H, W, C), padded to even sizes, to one of 4C channels.

    Returns:
        (B, ceil(H / 2), ceil(W / 2), 4C), the corners in the order upper left, lower left, upper
        right, lower right, as published weights expect them.
    """
    x = pad_to_multiple(x, (2, 2))
    corners = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
    return torch.cat(corners, dim=-1)


class PatchExpand(nn.Module):
    """Raise the resolution by an integer: one linear makes all sub-pixels, then a norm.

    Args:
        dim: Channels in.
        out_dim: Channels out.
        factor: How many times the height and width grow.
    """

    def __init__(self, dim: int, out_dim: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.expand = nn.Linear(dim, factor * factor * out_dim, bias=False)
        self.norm = nn.LayerNorm(out_dim, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        """Map features (B, H, W, dim) to (B, factor * H, factor * W, out_dim)."""
        B, H, W, _ = x.shape
        factor = self.factor
        x = self.expand(x).view(B, H, W, factor, factor, -1)
        x = x.transpose(2, 3).reshape(B, H * factor, W * factor, -1)
        return self.norm(x)


class BilinearUpsample(nn.Module):
    """Raise the resolution by bilinear interpolation, after a linear to the new width.

    The arguments are those of `PatchExpand`.
    """

    def __init__(self, dim: int, out_dim: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.reduction = nn.Linear(dim, out_dim, bias=False)
        self.norm = nn.LayerNorm(out_dim, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        """Map features (B, H, W, dim) to (B, factor * H, factor * W, out_dim)."""
        x = self.reduction(x).permute(0, 3, 1, 2)
        x = F.interpolate(x, scale_factor=float(self.factor), mode="bilinear")
        return self.norm(x.permute(0, 2, 3, 1))


class TransposedConvUpsample(nn.Module):
    """Raise the resolution by a transposed convolution whose kernel is its stride.

    The arguments are those of `PatchExpand`.
    """

    def __init__(self, dim: int, out_dim: int, factor: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(dim, out_dim, kernel_size=factor, stride=factor)
        self.norm = nn.LayerNorm(out_dim, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        """Map features (B, H, W, dim) to (B, factor * H, factor * W, out_dim)."""
        return self.norm(self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))


UPSAMPLERS: dict[Upsampling, type[PatchExpand | BilinearUpsample | TransposedConvUpsample]] = {
    "expand": PatchExpand,
    "bilinear": BilinearUpsample,
    "transpose": TransposedConvUpsample,
}
