"""The Swin encoder: an image to a list of feature maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from swin_unet.layers.resampling import PatchEmbed, PatchMerging
from swin_unet.layers.stage import SwinStage

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
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        num_stages = len(depths)
        self.channels = [embed_dim * 2**stage for stage in range(num_stages)]
        self.strides = [patch_size * 2**stage for stage in range(num_stages)]
        self.feature_source = feature_source
        self.patch_embed = PatchEmbed(in_channels, embed_dim, patch_size)
        self.stages = nn.ModuleList(
            SwinStage(
                self.channels[stage],
                num_heads[stage],
                window_size=window_sizes[stage],
                drop_path_rates=drop_path_rates[stage],
                checkpointing=checkpointing,
            )
            for stage in range(num_stages)
        )
        self.merges = nn.ModuleList(PatchMerging(dim) for dim in self.channels[:-1])
        self.norm = nn.LayerNorm(self.channels[-1], eps=1e-5)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Encode an image.

        Args:
            image: Images (B, in_channels, H, W); H and W are multiples of the last stride.

        Returns:
            One feature map (B, H / stride, W / stride, channels) per stage, finest first; the
            last is always taken after its blocks and the final norm.
        """
        features = []
        x = self.patch_embed(image)
        for stage, merge in zip(self.stages, [*self.merges, None], strict=True):
            before = x
            x = stage(x)
            features.append(before if self.feature_source == "pre_block" else x)
            if merge is not None:
                x = merge(x)
        features[-1] = self.norm(x)
        return features
