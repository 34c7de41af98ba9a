"""The Swin block, V1 and V2: attention in plain or shifted windows, then a perceptron."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from swin_unet.layers.attention import WindowAttention, WindowAttentionV2
from swin_unet.layers.windows import (
    attention_mask,
    fit_window,
    pad_to_multiple,
    window_partition,
    window_reverse,
)


class Mlp(nn.Module):
    """Linear, GELU, linear."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.activation = nn.GELU()
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map features (..., C) to features of the same shape."""
        return self.fc2(self.activation(self.fc1(x)))


class DropPath(nn.Module):
    """Drop the whole branch of a sample with the given probability, in training only.

    Source: Huang et al., Deep Networks with Stochastic Depth, ECCV 2016.
    """

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, ...) with samples zeroed at `rate` and the others scaled up to match."""
        if self.rate == 0.0 or not self.training:
            return x
        keep = 1.0 - self.rate
        shape = (x.shape[0],) + (1,) * (x.ndim - 1)
        return x * torch.empty(shape, dtype=x.dtype, device=x.device).bernoulli_(keep).div_(keep)

    def extra_repr(self) -> str:
        """Show the rate in the module's print-out."""
        return f"rate={self.rate:.3f}"


class SwinBlock(nn.Module):
    """Norm, window attention, residual; norm, perceptron, residual (Swin V1, pre-norm).

    Args:
        dim: Channels.
        num_heads: Attention heads.
        window_size: Height and width of the window, in tokens.
        shift_size: How far the windows are shifted, in tokens; (0, 0) for a plain block.
        mlp_ratio: Hidden channels of the perceptron by `dim`.
        drop_path_rate: Stochastic depth, in [0, 1).
        attention: Attention of another kind, for the same window; None: V1's.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        window_size: tuple[int, int],
        shift_size: tuple[int, int] = (0, 0),
        mlp_ratio: float = 4.0,
        drop_path_rate: float = 0.0,
        attention: WindowAttention | None = None,
    ) -> None:
        super().__init__()
        self.window_size = window_size
        self.shift_size = shift_size
        self.norm1 = nn.LayerNorm(dim, eps=1e-5)
        self.attn = attention or WindowAttention(dim, window_size, num_heads)
        self.drop_path = DropPath(drop_path_rate)
        self.norm2 = nn.LayerNorm(dim, eps=1e-5)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        """Map features (B, H, W, C) of any size to features of the same shape."""
        x = x + self.drop_path(self.attend(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def attend(self, x: Tensor) -> Tensor:
        """Attend within windows: pad, roll, partition, attend, and all of it back."""
        H, W = x.shape[1:3]
        window, shift = fit_window((H, W), self.window_size, self.shift_size)
        x = pad_to_multiple(x, window)
        padded_size = (x.shape[1], x.shape[2])
        if any(shift):
            x = x.roll((-shift[0], -shift[1]), dims=(1, 2))
        mask = attention_mask((H, W), window, shift, x.device)
        windows = self.attn(window_partition(x, window), window, mask)
        x = window_reverse(windows, window, padded_size)
        if any(shift):
            x = x.roll(shift, dims=(1, 2))
        return x[:, :H, :W]


class PostNormBlock(SwinBlock):
    """Swin V1 block that norms what a branch gives instead of what it takes (res-post-norm).

    The arguments are those of `SwinBlock`.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map features (B, H, W, C) of any size to features of the same shape."""
        x = x + self.drop_path(self.norm1(self.attend(x)))
        return x + self.drop_path(self.norm2(self.mlp(x)))


class SwinBlockV2(PostNormBlock):
    """Cosine attention, norm, residual; perceptron, norm, residual (Swin V2).

    The norms start at zero, so that a new block is the identity. The arguments are those of
    `SwinBlock` and `pretrained_window_size`, see `WindowAttentionV2`.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        window_size: tuple[int, int],
        shift_size: tuple[int, int] = (0, 0),
        mlp_ratio: float = 4.0,
        drop_path_rate: float = 0.0,
        pretrained_window_size: int = 0,
    ) -> None:
        super().__init__(
            dim,
            num_heads,
            window_size=window_size,
            shift_size=shift_size,
            mlp_ratio=mlp_ratio,
            drop_path_rate=drop_path_rate,
            attention=WindowAttentionV2(dim, window_size, num_heads, pretrained_window_size),
        )
        for norm in (self.norm1, self.norm2):
            nn.init.zeros_(norm.weight)
            nn.init.zeros_(norm.bias)
