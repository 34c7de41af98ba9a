"""Which parts of an image are hidden when it is learned to fill them in."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def random_mask(
    grid: tuple[int, int], ratio: float, generator: torch.Generator, tokens_per_patch: int = 1
) -> Tensor:
    """Hide a share of an image's patches.

    Args:
        grid: Height and width of the image in tokens.
        ratio: Share of the mask's patches that are hidden, rounded up.
        generator: Where the choice comes from.
        tokens_per_patch: Side of a patch of the mask in tokens; divides the grid.

    Returns:
        (h, w) float32 of the grid, 1 where hidden.

    Raises:
        ValueError: When the patches do not fit the grid.
    """
    import torch

    if grid[0] % tokens_per_patch or grid[1] % tokens_per_patch:
        raise ValueError(f"a grid of {grid} tokens is no multiple of patches of {tokens_per_patch}")
    height, width = grid[0] // tokens_per_patch, grid[1] // tokens_per_patch
    order = torch.randperm(height * width, generator=generator)
    hidden = torch.zeros(height * width)
    hidden[order[: math.ceil(ratio * height * width)]] = 1
    mask = hidden.view(height, width)
    return mask.repeat_interleave(tokens_per_patch, 0).repeat_interleave(tokens_per_patch, 1)
