"""Multi-head self-attention inside windows, of Swin V1 and V2."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swin_unet.layers.windows import relative_position_coordinates, relative_position_index

MAX_LOGIT_SCALE = math.log(100)


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
        self._init_positions()
        self._init_projections(dim)

    def _init_positions(self) -> None:
        height, width = self.window_size
        num_positions = (2 * height - 1) * (2 * width - 1)
        self.relative_position_bias_table = nn.Parameter(torch.empty(num_positions, self.num_heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    @torch.no_grad()
    def look_locally(self, strength: float = 1.0) -> None:
        """Make every head look at its own neighbour of a token, as the taps of a convolution do.

        Adds -strength |offset - tap|^2 to the bias, taps from the centre outwards by head.

        Args:
            strength: Per squared token; the larger, the sharper the look.
        """
        height, width = self.window_size
        axes = [torch.arange(1.0 - size, size) for size in (height, width)]
        offsets = torch.cartesian_prod(*axes)  # as the table has them, row by row
        taps = offsets[offsets.square().sum(dim=1).argsort(stable=True)]
        taps = taps[torch.arange(self.num_heads) % len(taps)]
        distance = (offsets[:, None] - taps).square().sum(dim=2)  # (positions, num_heads)
        table = self.relative_position_bias_table
        table.sub_((strength * distance).to(table))

    def _init_projections(self, dim: int) -> None:
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
        qkv = self.project(windows).view(N, area, 3, self.num_heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (N, num_heads, area, C / num_heads)
        attention = _add_bias_and_mask(self.similarity(q, k), self.position_bias(window_size), mask)
        x = attention.softmax(dim=-1).to(v.dtype) @ v
        return self.proj(x.transpose(1, 2).reshape(N, area, C))

    def project(self, windows: Tensor) -> Tensor:
        """Map tokens (N, area, C) to queries, keys and values (N, area, 3C)."""
        return self.qkv(windows)

    def similarity(self, q: Tensor, k: Tensor) -> Tensor:
        """Compare queries and keys (N, num_heads, area, D) to logits (N, num_heads, area, area)."""
        return (q * self.scale) @ k.transpose(-2, -1)

    def bias_table(self) -> Tensor:
        """Return the bias of every relative position in the window, (positions, num_heads)."""
        return self.relative_position_bias_table

    def position_bias(self, window_size: tuple[int, int]) -> Tensor:
        """Return the bias (num_heads, window_area, window_area) of a window of this size."""
        table = self.bias_table()
        index = relative_position_index(window_size, self.window_size, table.device)
        area = window_size[0] * window_size[1]
        # F.embedding and not table[index]: its backward is deterministic, and fast at that.
        return F.embedding(index, table).view(area, area, -1).permute(2, 0, 1)


class WindowAttentionV2(WindowAttention):
    """Scaled cosine attention with a bias computed from the relative position (Swin V2).

    Source: Liu et al., Swin Transformer V2, CVPR 2022, in the form of the published weights.

    Args:
        dim: Channels, a multiple of `num_heads`.
        window_size: Height and width of the largest window, in tokens.
        num_heads: Attention heads.
        pretrained_window_size: Side of the window that the weights were trained with; coordinates
            are normalised by it. 0: `window_size` itself.
    """

    def __init__(
        self,
        dim: int,
        window_size: tuple[int, int],
        num_heads: int,
        pretrained_window_size: int = 0,
    ) -> None:
        self.pretrained_window_size = pretrained_window_size
        super().__init__(dim, window_size, num_heads)
        self.logit_scale = nn.Parameter(torch.full((num_heads, 1, 1), math.log(10)))

    def _init_positions(self) -> None:
        self.cpb_mlp = nn.Sequential(
            nn.Linear(2, 512), nn.ReLU(), nn.Linear(512, self.num_heads, bias=False)
        )

    def _init_projections(self, dim: int) -> None:
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(dim))
        self.v_bias = nn.Parameter(torch.zeros(dim))
        self.proj = nn.Linear(dim, dim)

    def project(self, windows: Tensor) -> Tensor:
        """Map tokens (N, area, C) to queries, keys and values (N, area, 3C); keys have no bias."""
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        return F.linear(windows, self.qkv.weight, bias)

    def similarity(self, q: Tensor, k: Tensor) -> Tensor:
        """Return the cosine of queries and keys times a learned scale of at most 100.

        In float32 also under autocast: at that scale a half-precision cosine is off by a logit.
        """
        scale = self.logit_scale.float().clamp(max=MAX_LOGIT_SCALE).exp()
        with torch.autocast(q.device.type, enabled=False):
            q, k = F.normalize(q.float(), dim=-1), F.normalize(k.float(), dim=-1)
            return (q @ k.transpose(-2, -1)) * scale

    def bias_table(self) -> Tensor:
        """Compute the bias of every relative position, (positions, num_heads), in (0, 16)."""
        device = self.logit_scale.device
        normalizer = self.pretrained_window_size
        normalizers = (normalizer, normalizer) if normalizer else self.window_size
        coordinates = relative_position_coordinates(self.window_size, normalizers, device)
        return 16 * torch.sigmoid(self.cpb_mlp(coordinates).float())


def _add_bias_and_mask(attention: Tensor, bias: Tensor, mask: Tensor | None) -> Tensor:
    """Add the bias (num_heads, area, area) and the mask (num_windows, area, area) to logits."""
    if mask is None:
        return attention + bias
    N, num_heads, area, _ = attention.shape
    bias = bias + mask[:, None]  # (num_windows, num_heads, area, area)
    attention = attention.view(-1, len(mask), num_heads, area, area) + bias
    return attention.view(N, num_heads, area, area)
