"""Windows over a feature map: pure functions to pad, partition, reverse, mask and index.

Source: Liu et al., Swin Transformer, ICCV 2021. Unlike the published code, padding is a region of
its own: what is in the padding can never change a real token.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor


def pad_to_multiple(x: Tensor, multiple: tuple[int, int]) -> Tensor:
    """Pad a feature map with zeros at the bottom and right.

    Args:
        x: Features (B, H, W, C).
        multiple: What the padded height and width are multiples of.

    Returns:
        Features (B, H', W', C), `x` itself when it fits.
    """
    bottom, right = (-x.shape[1]) % multiple[0], (-x.shape[2]) % multiple[1]
    return F.pad(x, (0, 0, 0, right, 0, bottom)) if bottom or right else x


def window_partition(x: Tensor, window_size: tuple[int, int]) -> Tensor:
    """Split a feature map into non-overlapping windows.

    Args:
        x: Features (B, H, W, C); H and W are multiples of the window.
        window_size: Window height and width, in tokens.

    Returns:
        Windows (B * num_windows, window_area, C), in row-major order.
    """
    B, H, W, C = x.shape
    height, width = window_size
    x = x.view(B, H // height, height, W // width, width, C)
    return x.transpose(2, 3).reshape(-1, height * width, C)


def window_reverse(
    windows: Tensor, window_size: tuple[int, int], x_size: tuple[int, int]
) -> Tensor:
    """Put windows back together: the inverse of `window_partition`.

    Args:
        windows: Windows (B * num_windows, window_area, C).
        window_size: Window height and width, in tokens.
        x_size: Height and width of the feature map, multiples of the window.

    Returns:
        Features (B, H, W, C).
    """
    (H, W), (height, width) = x_size, window_size
    C = windows.shape[-1]
    x = windows.view(-1, H // height, W // width, height, width, C)
    return x.transpose(2, 3).reshape(-1, H, W, C)


def fit_window(
    x_size: tuple[int, int], window_size: tuple[int, int], shift_size: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Shrink the window to the map and drop the shift on every axis with a single window.

    Shrinking equals padding the map to the full window with the padding masked, at less cost,
    because relative positions keep their place in the bias table.

    Returns:
        The window and the shift to use, in tokens.
    """
    window = (min(window_size[0], x_size[0]), min(window_size[1], x_size[1]))
    shift = (
        0 if x_size[0] <= window_size[0] else shift_size[0],
        0 if x_size[1] <= window_size[1] else shift_size[1],
    )
    return window, shift


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # what was cached in inference must serve training as well
def attention_mask(
    x_size: tuple[int, int],
    window_size: tuple[int, int],
    shift_size: tuple[int, int],
    device: torch.device,
) -> Tensor | None:
    """Build the additive mask of windows on the padded, then rolled grid.

    Two tokens may attend to each other when they lie in the same window of the grid shifted by
    `shift_size` (that is, neither wrapped around the border) and both or neither are padding.

    Args:
        x_size: Height and width of the map before padding, in tokens.
        window_size: Window height and width, in tokens.
        shift_size: How far the grid is rolled up and left, in tokens.
        device: Where the mask lives.

    Returns:
        Mask (num_windows, window_area, window_area), 0 or -inf, or None when nothing is masked.
    """
    padded = [size + (-size) % window for size, window in zip(x_size, window_size, strict=True)]
    if not any(shift_size) and padded == list(x_size):
        return None
    rows, columns = (
        (torch.arange(size).roll(-shift) - shift).div(window, rounding_mode="floor")
        for size, window, shift in zip(padded, window_size, shift_size, strict=True)
    )
    is_padding = torch.ones(padded, dtype=torch.bool)
    is_padding[: x_size[0], : x_size[1]] = False
    is_padding = is_padding.roll((-shift_size[0], -shift_size[1]), dims=(0, 1))
    num_columns = padded[1] // window_size[1] + 1
    regions = ((rows[:, None] + 1) * num_columns + (columns + 1)) * 2 + is_padding.long()
    regions = window_partition(regions[None, :, :, None], window_size).squeeze(-1)
    differs = regions[:, None, :] != regions[:, :, None]  # (num_windows, area, area)
    mask = torch.zeros(differs.shape).masked_fill_(differs, float("-inf"))
    return mask.to(device)


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # what was cached in inference must serve training as well
def relative_position_index(
    window_size: tuple[int, int], table_size: tuple[int, int], device: torch.device
) -> Tensor:
    """Index the bias table of a window of `table_size` for a window of at most that size.

    Args:
        window_size: Height and width of the window in use, in tokens.
        table_size: Height and width of the window that the table was made for.
        device: Where the index lives.

    Returns:
        Indices (window_area * window_area,) into the (2 Mh - 1) (2 Mw - 1) rows of the table,
        row-major in (query, key).
    """
    rows, columns = (torch.arange(size) for size in window_size)
    y, x = (grid.flatten() for grid in torch.meshgrid(rows, columns, indexing="ij"))
    dy = y[:, None] - y[None, :] + table_size[0] - 1
    dx = x[:, None] - x[None, :] + table_size[1] - 1
    return (dy * (2 * table_size[1] - 1) + dx).flatten().to(device)


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # what was cached in inference must serve training as well
def relative_position_coordinates(
    window_size: tuple[int, int], normalizers: tuple[int, int], device: torch.device
) -> Tensor:
    """Return the log-spaced coordinates of Swin V2, the input of its position network.

    Args:
        window_size: Height and width of the window, in tokens.
        normalizers: Height and width of the window that the weights were trained with.
        device: Where the coordinates live.

    Returns:
        (row, column) differences ((2 Mh - 1) (2 Mw - 1), 2): divided by the trained window's
        largest, times 8, then sign(x) log2(|x| + 1) / 3, which is 1.06 at the edge of that window.
    """
    axes = [
        torch.arange(1 - size, size, dtype=torch.float32) * (8 / max(normalizer - 1, 1))
        for size, normalizer in zip(window_size, normalizers, strict=True)
    ]
    rows, columns = torch.meshgrid(*axes, indexing="ij")
    coordinates = torch.stack([rows.flatten(), columns.flatten()], dim=-1)
    return (coordinates.sign() * (coordinates.abs() + 1).log2() / 3).to(device)
