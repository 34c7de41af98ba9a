"""Multi-head self-attention inside windows."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swin_unet.layers.windows import relative_position_index


class WindowAttention(nn.Module):
    """Scaled dot-product attention with a learned bias per relative position (Swin V1).

    Args:
        dim: Channels, a multiple of `num_heads`.
        window_size: Height and width of the largest window, in tokens; fixes the bias table.
        num_heads: Attention heads.
    """

    def __init__(self, dim: int, window_size: tuple[int, int], num_heads: int) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"dim {dim} is not a multiple of num_heads {num_heads}")
        self.window_size = window_size
        self.num_heads = num_heads
        self.scale = (dim // num_heads) ** -0.5
        num_positions = (2 * window_size[0] - 1) * (2 * window_size[1] - 1)
        self.relative_position_bias_table = nn.Parameter(torch.empty(num_positions, num_heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, windows: Tensor, window_size: tuple[int, int], mask: Tensor | None) -> Tensor:
        """Attend within every window.

        Args:
            windows: Tokens (B * num_windows, window_area, C), windows of one image contiguous.
            window_size: Height and width of these windows, at most the constructed size.
            mask: Additive mask (num_windows, window_area, window_area) or None.

        Returns:
            Tokens of the same shape.
        """
        N, area, C = windows.shape
        qkv = self.qkv(windows).view(N, area, 3, self.num_heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (N, num_heads, area, C / num_heads)
        attention = (q * self.scale) @ k.transpose(-2, -1)
        attention = _add_bias_and_mask(attention, self.position_bias(window_size), mask)
        x = attention.softmax(dim=-1).to(v.dtype) @ v
        return self.proj(x.transpose(1, 2).reshape(N, area, C))

    def position_bias(self, window_size: tuple[int, int]) -> Tensor:
        """Return the bias (num_heads, window_area, window_area) of a window of this size."""
        table = self.relative_position_bias_table
        index = relative_position_index(window_size, self.window_size, table.device)
        area = window_size[0] * window_size[1]
        # F.embedding and not table[index]: its backward is deterministic, and fast at that.
        return F.embedding(index, table).view(area, area, -1).permute(2, 0, 1)


def _add_bias_and_mask(attention: Tensor, bias: Tensor, mask: Tensor | None) -> Tensor:
    """Add the bias (num_heads, area, area) and the mask (num_windows, area, area) to logits."""
    if mask is None:
        return attention + bias
    N, num_heads, area, _ = attention.shape
    bias = bias + mask[:, None]  # (num_windows, num_heads, area, area)
    attention = attention.view(-1, len(mask), num_heads, area, area) + bias
    return attention.view(N, num_heads, area, area)
