"""A stage: alternating plain and shifted blocks at one resolution."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from swin_unet.layers.blocks import SwinBlock


class SwinStage(nn.Module):
    """Swin blocks of one width, every second one with shifted windows.

    Args:
        dim: Channels.
        num_heads: Attention heads.
        window_size: Tokens per window side.
        drop_path_rates: Stochastic depth of each block; their number is the depth.
        checkpointing: Recompute the blocks in the backward pass instead of storing them.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        window_size: int,
        drop_path_rates: Sequence[float],
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.checkpointing = checkpointing
        window = (window_size, window_size)
        half = (window_size // 2, window_size // 2)
        self.blocks = nn.ModuleList(
            SwinBlock(
                dim,
                num_heads,
                window_size=window,
                shift_size=half if position % 2 else (0, 0),
                drop_path_rate=rate,
            )
            for position, rate in enumerate(drop_path_rates)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map features (B, H, W, C) of any size to features of the same shape."""
        for block in self.blocks:
            if self.checkpointing and self.training:
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
        return x
