"""Trained positions for another window: interpolated tables (V1) and absolute embeddings."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from scipy.interpolate import RectBivariateSpline
from torch import Tensor

Method = Literal["bicubic", "geometric"]


def resize_rel_pos_bias(
    table: Tensor,
    new_window: tuple[int, int],
    old_window: tuple[int, int] | None = None,
    method: Method = "bicubic",
) -> Tensor:
    """Interpolate the bias table of Swin V1 to another window.

    Args:
        table: Biases ((2 Mh - 1) (2 Mw - 1), num_heads).
        new_window: Height and width of the new window, in tokens.
        old_window: Those of the table; may be left out for square windows.
        method: `bicubic` stretches the table, as Microsoft's and timm's simple loaders do.
            `geometric` keeps the neighbourhood's positions and stretches the far ones more and
            more, as SimMIM's fine-tuning does; the values are very different.

    Returns:
        The table of the new window, in the precision of the old one.

    Raises:
        ValueError: When the table is not that of `old_window`, or not of a square window.
    """
    old = _grid_size(table, old_window)
    new = (2 * new_window[0] - 1, 2 * new_window[1] - 1)
    if old == new:
        return table
    grid = table.float().t().reshape(-1, *old)  # (num_heads, rows, columns)
    resized = _bicubic(grid, new) if method == "bicubic" else _geometric(grid, new)
    return resized.flatten(1).t().to(table.dtype).contiguous()


def resize_position_embedding(
    embedding: Tensor, new_grid: tuple[int, int], old_grid: tuple[int, int] | None = None
) -> Tensor:
    """Interpolate an absolute position embedding (1, rows * columns, C) to another grid, bicubic.

    Raises:
        ValueError: When the old grid is not given and not square.
    """
    num_tokens, dim = embedding.shape[1:]
    rows, columns = old_grid or (math.isqrt(num_tokens), math.isqrt(num_tokens))
    if rows * columns != num_tokens:
        raise ValueError(f"{num_tokens} tokens are no {rows} x {columns} grid; give old_grid")
    grid = embedding.float().reshape(rows, columns, dim).permute(2, 0, 1)
    return _bicubic(grid, new_grid).flatten(1).t()[None].to(embedding.dtype).contiguous()


def _grid_size(table: Tensor, window: tuple[int, int] | None) -> tuple[int, int]:
    """Return rows and columns of a table, inferred for a square window."""
    if window is None:
        side = math.isqrt(len(table))
        if side * side != len(table) or side % 2 == 0:
            raise ValueError(f"{len(table)} positions are of no square window; give old_window")
        return side, side
    size = (2 * window[0] - 1, 2 * window[1] - 1)
    if size[0] * size[1] != len(table):
        raise ValueError(f"a table of {len(table)} positions is not of window {window}")
    return size


def _bicubic(grid: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(grid[None], size=size, mode="bicubic", align_corners=False)[0]


def _geometric(grid: Tensor, size: tuple[int, int]) -> Tensor:
    """Interpolate (num_heads, rows, columns) between positions in geometric progression."""
    places = [_geometric_places(o, n) for o, n in zip(grid.shape[1:], size, strict=True)]
    targets = [np.arange(n) - n // 2 for n in size]
    heads = [
        RectBivariateSpline(*places, head.double().numpy(), kx=3, ky=3)(*targets) for head in grid
    ]
    return torch.from_numpy(np.stack(heads)).float()


def _geometric_places(old: int, new: int) -> np.ndarray:
    """Spread `old` positions over [-new // 2, new // 2], steps growing by a constant ratio."""
    steps, reach = old // 2, new // 2
    low, high = 0.2, 5.0
    for _ in range(60):  # bisection: the sum of the steps grows with their ratio
        ratio = (low + high) / 2
        total = sum(ratio**step for step in range(steps))
        low, high = (low, ratio) if total > reach else (ratio, high)
    places = list(accumulate(ratio**step for step in range(steps)))
    return np.array([-place for place in reversed(places)] + [0.0] + places)
