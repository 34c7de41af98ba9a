"""A stage: alternating plain and shifted blocks at one resolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from swin_unet.layers.blocks import SwinBlock, SwinBlockV2

Version = Literal[1, 2]


class ConditionalPositions(nn.Module):
    """Add to every token a depthwise convolution of the 3 x 3 tokens around it.

    It tells a token where it is by what is there, and gives attention, which has to learn what
    nearness means, the look of a convolution. It starts at zero: trained weights of the network
    without it begin where they were.

    Source: Chu et al., Conditional Positional Encodings for Vision Transformers, ICLR 2023.

    Args:
        dim: Channels.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, kernel_size=3, padding=1, groups=dim)
        nn.init.zeros_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Map features (B, H, W, C) to features of the same shape."""
        nearby: Tensor = self.conv(x.permute(0, 3, 1, 2))
        return x + nearby.permute(0, 2, 3, 1)


class SwinStage(nn.Module):
    """Swin blocks of one width, every second one with shifted windows.

    Args:
        dim: Channels.
        num_heads: Attention heads.
        window_size: Tokens per window side.
        drop_path_rates: Stochastic depth of each block; their number is the depth.
        version: Of the Swin block.
        pretrained_window_size: Version 2: the window the weights were trained with; 0: this one.
        checkpointing: Recompute the blocks in the backward pass instead of storing them.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        window_size: int,
        drop_path_rates: Sequence[float],
        version: Version = 1,
        pretrained_window_size: int = 0,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.checkpointing = checkpointing
        self.positions: nn.ModuleList | None = None
        self.blocks = nn.ModuleList()
        for position, rate in enumerate(drop_path_rates):
            shift = window_size // 2 if position % 2 else 0
            self.blocks.append(
                build_block(
                    dim,
                    num_heads,
                    version=version,
                    window_size=window_size,
                    shift_size=shift,
                    drop_path_rate=rate,
                    pretrained_window_size=pretrained_window_size,
                )
            )

    def add_conditional_positions(self) -> None:
        """Encode positions by the tokens around: before every block a `ConditionalPositions`."""
        self.positions = nn.ModuleList(ConditionalPositions(self.dim) for _ in self.blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Map features (B, H, W, C) of any size to features of the same shape."""
        for position, block in enumerate(self.blocks):
            if self.positions is not None:
                x = self.positions[position](x)
            if self.checkpointing and self.training:
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
        return x


def build_block(
    dim: int,
    num_heads: int,
    *,
    version: Version,
    window_size: int,
    shift_size: int,
    drop_path_rate: float,
    pretrained_window_size: int,
) -> SwinBlock:
    """Build a block of either version with a square window, sizes in tokens."""
    window, shift = (window_size, window_size), (shift_size, shift_size)
    if version == 1:
        return SwinBlock(
            dim, num_heads, window_size=window, shift_size=shift, drop_path_rate=drop_path_rate
        )
    return SwinBlockV2(
        dim,
        num_heads,
        window_size=window,
        shift_size=shift,
        drop_path_rate=drop_path_rate,
        pretrained_window_size=pretrained_window_size,
    )
