"""The Swin encoder: an image to a list of feature maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swin_unet.layers.resampling import PatchEmbed, PatchMerging, PatchMergingV2
from swin_unet.layers.stage import SwinStage, Version

FeatureSource = Literal["pre_block", "post_block"]


class SwinEncoder(nn.Module):
    """Patch embedding and stages of Swin blocks, halving the resolution between stages.

    Args:
        in_channels: Channels of the image.
        embed_dim: Channels of the first stage; each further stage doubles them.
        depths: Blocks per stage.
        num_heads: Attention heads per stage.
        window_sizes: Tokens per window side, per stage.
        patch_size: Pixels per token side at the first stage.
        drop_path_rates: Stochastic depth per stage and block.
        feature_source: Take feature maps before or after the blocks of their stage.
        version: Of the Swin blocks and merges.
        pretrained_window_sizes: Version 2: the windows that the weights were trained with, per
            stage; 0 or None: the windows themselves.
        position_grid: Height and width in tokens of a learned absolute position embedding, which
            is interpolated for other sizes; None: no such embedding, as in all published weights.
        checkpointing: Recompute the blocks in the backward pass instead of storing them.

    Attributes:
        channels: Channels of every feature map, finest first.
        strides: Pixels per token side of every feature map, finest first.
    """

    def __init__(
        self,
        in_channels: int,
        embed_dim: int,
        *,
        depths: Sequence[int],
        num_heads: Sequence[int],
        window_sizes: Sequence[int],
        patch_size: int = 4,
        drop_path_rates: Sequence[Sequence[float]],
        feature_source: FeatureSource = "post_block",
        version: Version = 1,
        pretrained_window_sizes: Sequence[int] | None = None,
        position_grid: tuple[int, int] | None = None,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        num_stages = len(depths)
        self.channels = [embed_dim * 2**stage for stage in range(num_stages)]
        self.strides = [patch_size * 2**stage for stage in range(num_stages)]
        self.feature_source = feature_source
        self.patch_embed = PatchEmbed(in_channels, embed_dim, patch_size)
        self.position_grid = position_grid
        if position_grid is not None:
            num_tokens = position_grid[0] * position_grid[1]
            self.absolute_pos_embed = nn.Parameter(torch.empty(1, num_tokens, embed_dim))
            nn.init.trunc_normal_(self.absolute_pos_embed, std=0.02)
        trained_windows = pretrained_window_sizes or (0,) * num_stages
        self.stages = nn.ModuleList(
            SwinStage(
                self.channels[stage],
                num_heads[stage],
                window_size=window_sizes[stage],
                drop_path_rates=drop_path_rates[stage],
                version=version,
                pretrained_window_size=trained_windows[stage],
                checkpointing=checkpointing,
            )
            for stage in range(num_stages)
        )
        merging = PatchMerging if version == 1 else PatchMergingV2
        self.merges = nn.ModuleList(merging(dim) for dim in self.channels[:-1])
        self.norm = nn.LayerNorm(self.channels[-1], eps=1e-5)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Encode an image.

        Args:
            image: Images (B, in_channels, H, W); sizes that are no multiples of a stride are
                padded where they do not fit.

        Returns:
            One feature map (B, ceil(H / stride), ceil(W / stride), channels) per stage, finest
            first; the last is always taken after its blocks and the final norm.
        """
        return self.encode_tokens(self.embed(image))

    def embed(self, image: Tensor) -> Tensor:
        """Map images (B, in_channels, H, W) to tokens (B, H / patch, W / patch, embed_dim)."""
        return self.add_positions(self.patch_embed(image))

    def add_positions(self, x: Tensor) -> Tensor:
        """Add the absolute position embedding, if there is one, to tokens (B, H, W, embed_dim)."""
        if self.position_grid is None:
            return x
        H, W = x.shape[1:3]
        grid = self.absolute_pos_embed.view(1, *self.position_grid, -1)
        if self.position_grid != (H, W):
            grid = grid.permute(0, 3, 1, 2)
            grid = F.interpolate(grid, size=(H, W), mode="bicubic").permute(0, 2, 3, 1)
        return x + grid

    def encode_tokens(self, x: Tensor) -> list[Tensor]:
        """Run all stages on tokens (B, H, W, embed_dim); the result is that of `forward`."""
        features = []
        for stage, merge in zip(self.stages, [*self.merges, None], strict=True):
            before = x
            x = stage(x)
            features.append(before if self.feature_source == "pre_block" else x)
            if merge is not None:
                x = merge(x)
        features[-1] = self.norm(x)
        return features

    def stage_outputs(self, image: Tensor) -> list[Tensor]:
        """Encode an image to what leaves every stage: its map after the merge.

        These are the stage outputs of the published code.

        Args:
            image: Images (B, in_channels, H, W).

        Returns:
            (B, H / stride, W / stride, channels) of the second to the last stage, and that of the
            last stage after its blocks and the final norm.
        """
        x = self.embed(image)
        outputs = []
        for stage, merge in zip(self.stages[:-1], self.merges, strict=True):
            x = merge(stage(x))
            outputs.append(x)
        return [*outputs, self.norm(self.stages[-1](x))]
