"""The mirrored decoder: feature maps to features at full resolution."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn

from swin_unet.layers.resampling import UPSAMPLERS, Upsampling
from swin_unet.layers.stage import SwinStage, Version


class DecoderLevel(nn.Module):
    """Double the resolution, fuse the skip connection if there is one, refine by Swin blocks.

    Args:
        dim: Channels out; in are twice as many.
        num_heads: Attention heads.
        window_size: Tokens per window side.
        has_skip: Whether a skip connection joins here.
        upsampling: How the resolution is doubled.
        drop_path_rates: Stochastic depth of each block.
        version: Of the Swin blocks.
        pretrained_window_size: Version 2: the window the weights were trained with; 0: this one.
        checkpointing: Recompute the blocks in the backward pass instead of storing them.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        window_size: int,
        has_skip: bool,
        upsampling: Upsampling,
        drop_path_rates: Sequence[float],
        version: Version,
        pretrained_window_size: int,
        checkpointing: bool,
    ) -> None:
        super().__init__()
        self.upsample = UPSAMPLERS[upsampling](2 * dim, dim, factor=2)
        self.fuse = nn.Linear(2 * dim, dim) if has_skip else None
        self.stage = SwinStage(
            dim,
            num_heads,
            window_size=window_size,
            drop_path_rates=drop_path_rates,
            version=version,
            pretrained_window_size=pretrained_window_size,
            checkpointing=checkpointing,
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Decode one level.

        Args:
            x: Features (B, H, W, 2 * dim) of the coarser level.
            skip: Encoder features (B, 2H, 2W, dim); ignored without a skip connection.

        Returns:
            Features (B, 2H, 2W, dim).
        """
        x = self.upsample(x)
        if self.fuse is not None:
            x = self.fuse(torch.cat([x, skip], dim=-1))
        return self.stage(x)


class SwinDecoder(nn.Module):
    """Levels from the bottleneck up to the first stage, then to the pixels.

    Args:
        channels: Channels of the encoder's feature maps, finest first.
        strides: Pixels per token side of those maps, finest first.
        num_heads: Attention heads per stage, finest first.
        window_sizes: Tokens per window side, per stage, finest first.
        skip_scales: Strides at which a skip connection joins.
        upsampling: How the resolution is raised, at every level and at the end.
        drop_path_rates: Stochastic depth per stage and block, finest first.
        version: Of the Swin blocks.
        pretrained_window_sizes: Version 2: the windows that the weights were trained with, per
            stage, finest first; 0 or None: the windows themselves.
        checkpointing: Recompute the blocks in the backward pass instead of storing them.
    """

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        *,
        num_heads: Sequence[int],
        window_sizes: Sequence[int],
        skip_scales: Collection[int],
        upsampling: Upsampling,
        drop_path_rates: Sequence[Sequence[float]],
        version: Version = 1,
        pretrained_window_sizes: Sequence[int] | None = None,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        trained_windows = pretrained_window_sizes or (0,) * len(channels)
        coarse_to_fine = range(len(channels) - 2, -1, -1)
        self.levels = nn.ModuleList(
            DecoderLevel(
                channels[stage],
                num_heads[stage],
                window_size=window_sizes[stage],
                has_skip=strides[stage] in skip_scales,
                upsampling=upsampling,
                drop_path_rates=drop_path_rates[stage],
                version=version,
                pretrained_window_size=trained_windows[stage],
                checkpointing=checkpointing,
            )
            for stage in coarse_to_fine
        )
        self.norm = nn.LayerNorm(channels[0], eps=1e-5)
        self.final_upsample = UPSAMPLERS[upsampling](channels[0], channels[0], factor=strides[0])

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Decode the encoder's maps, finest first, to pixels (B, H, W, channels[0])."""
        return self.to_pixels(self.decode(features)[0])

    def decode(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Decode the encoder's maps to maps of the same sizes, finest first, without the last."""
        maps = [features[-1]]
        for level, skip in zip(self.levels, reversed(features[:-1]), strict=True):
            maps.append(level(maps[-1], skip))
        return maps[:0:-1]

    def to_pixels(self, x: Tensor) -> Tensor:
        """Take the finest map to pixels (B, H, W, channels[0])."""
        return self.final_upsample(self.norm(x))
