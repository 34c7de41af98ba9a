"""Multi-granularity feature fusion: let feature maps of several scales describe one image.

Source: the MGFF module of Pattern Recognition 146:110042. Its code is not public and we have not
read the article, only a description of it, which leaves open what is marked [choice]: the relative
position term, attention before squeeze-excitation, joining the maps by their tokens rather than
their channels (its graph has positions times scales as nodes), and the graph layer, which follows
FGVC-PIM (Chou et al. 2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swin_unet.layers.attention import WindowAttention


class SqueezeExcitation(nn.Module):
    """Scale the channels of tokens by a gate in (0, 1) that their mean decides.

    Args:
        dim: Channels C.
        reduction: The gate's hidden layer has C / reduction units, and 8 at least.
    """

    def __init__(self, dim: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(8, dim // reduction)
        self.squeeze = nn.Linear(dim, hidden)
        self.excite = nn.Linear(hidden, dim)

    def gate(self, x: Tensor) -> Tensor:
        """Return the gate (B, C) of tokens (B, N, C)."""
        return torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean(dim=1)))))

    def forward(self, x: Tensor) -> Tensor:
        """Gate tokens (B, N, C)."""
        return x * self.gate(x)[:, None]


class MapTokens(nn.Module):
    """Make one feature map a fixed number of tokens that have seen each other.

    The map is brought to the grid by a convolution whose kernel is its stride, and by pooling
    where that does not give the grid; attends to itself with relative positions [choice]; and is
    gated.

    Args:
        in_channels: Channels of the map.
        dim: Channels of a token.
        grid: Height and width in tokens.
        kernel: Kernel and stride of the convolution; None: the map stays as it is.
        num_heads: Of the attention.
        se_reduction: Of the squeeze-excitation.

    Raises:
        ValueError: For a map that stays as it is, of other than `dim` channels.
    """

    def __init__(
        self,
        in_channels: int,
        dim: int,
        grid: tuple[int, int],
        *,
        kernel: int | None,
        num_heads: int,
        se_reduction: int = 16,
    ) -> None:
        super().__init__()
        if kernel is None and in_channels != dim:
            raise ValueError(f"a map of {in_channels} channels needs a kernel to become {dim}")
        self.grid = grid
        self.projection = (
            nn.Identity()
            if kernel is None
            else nn.Conv2d(in_channels, dim, kernel_size=kernel, stride=kernel)
        )
        self.attention = WindowAttention(dim, grid, num_heads)
        self.gate = SqueezeExcitation(dim, se_reduction)
        self.kernel = kernel or 1

    def forward(self, x: Tensor) -> Tensor:
        """Map features (B, in_channels, H, W), H, W >= 1, to tokens (B, height * width, dim)."""
        bottom, right = max(0, self.kernel - x.shape[-2]), max(0, self.kernel - x.shape[-1])
        if bottom or right:  # a map smaller than the kernel
            x = F.pad(x, (0, right, 0, bottom), mode="replicate")
        x = self.projection(x)
        if x.shape[-2:] != self.grid:
            x = F.adaptive_avg_pool2d(x, self.grid)
        tokens = x.flatten(2).transpose(1, 2)
        return self.gate(self.attention(tokens, self.grid, None))


class GraphLayer(nn.Module):
    """Send the features of N nodes along learned edges: `norm(mix(nodes) @ edges)`.

    The edges are `A + alpha tanh(q_i - k_j)`: a matrix of its own, at first 1/100 everywhere and
    1/100 more on the diagonal, and a part that depends on the nodes, at first off (alpha 0).

    Args:
        num_nodes: N.
        dim: Channels C of a node.
    """

    def __init__(self, num_nodes: int, dim: int) -> None:
        super().__init__()
        self.adjacency = nn.Parameter(torch.eye(num_nodes) / 100 + 1 / 100)
        self.alpha = nn.Parameter(torch.zeros(1))
        hidden = max(1, dim // 4)
        self.query = nn.Linear(dim, hidden)
        self.key = nn.Linear(dim, hidden)
        self.mix = nn.Linear(dim, dim)
        self.norm = nn.BatchNorm1d(dim)

    def forward(self, nodes: Tensor) -> Tensor:
        """Map nodes (B, N, C) to nodes (B, N, C)."""
        mixed = self.mix(nodes).transpose(1, 2) @ self.edges(nodes)
        return self.norm(mixed).transpose(1, 2)

    def edges(self, nodes: Tensor) -> Tensor:
        """Return the weight (B, N, N) of every edge; [i, j] leads from i to j."""
        query, key = self.query(nodes).mean(dim=2), self.key(nodes).mean(dim=2)  # (B, N)
        return self.adjacency + self.alpha * torch.tanh(query[:, :, None] - key[:, None])


class Fused(TypedDict):
    """What an MGFF returns: (B, num_classes), (B, dim), and per map (B, dim, *grid)."""

    logits: Tensor
    embedding: Tensor
    maps: list[Tensor]


class MGFF(nn.Module):
    """Fuse feature maps of several scales, of any network, to one vector and its classes.

    The tokens of all maps are the nodes of a graph, pooled to a thirty-second of them.

    Args:
        in_channels: Channels of every map.
        num_classes: Length of the logits; 0: the logits are the embedding.
        dim: Channels after the fusion; None: those of the last map.
        grid: Height and width in tokens that every map is brought to.
        num_heads: Of the attention.
        kernels: Kernel and stride of every map's convolution, None for a map that is left as it
            is; see `fitting_kernels`.
        se_reduction: Of the squeeze-excitation.

    Example:
        >>> import torch
        >>> maps = [torch.zeros(2, 96, 28, 28), torch.zeros(2, 192, 14, 14)]
        >>> MGFF((96, 192), 3, grid=(14, 14), num_heads=6, kernels=(2, None))(maps)["logits"].shape
        torch.Size([2, 3])
    """

    def __init__(
        self,
        in_channels: Sequence[int] = (256, 512, 1024, 1024),
        num_classes: int = 0,
        *,
        dim: int | None = None,
        grid: tuple[int, int] = (12, 12),
        num_heads: int = 32,
        kernels: Sequence[int | None] = (4, 2, 1, None),
        se_reduction: int = 16,
    ) -> None:
        super().__init__()
        if len(kernels) != len(in_channels):
            raise ValueError(f"{len(in_channels)} maps need as many kernels, not {list(kernels)}")
        dim = dim or in_channels[-1]
        self.maps = nn.ModuleList(
            MapTokens(
                channels, dim, grid, kernel=kernel, num_heads=num_heads, se_reduction=se_reduction
            )
            for channels, kernel in zip(in_channels, kernels, strict=True)
        )
        num_nodes = len(in_channels) * grid[0] * grid[1]
        self.graph = GraphLayer(num_nodes, dim)
        self.pool = nn.Linear(num_nodes, max(1, num_nodes // 32))
        self.head = nn.Linear(dim, num_classes) if num_classes else nn.Identity()
        self.grid = grid

    def forward(self, maps: Sequence[Tensor]) -> Fused:
        """Fuse maps (B, channels, H, W).

        Returns:
            `embedding` (B, dim), the mean of the super-nodes; `logits` (B, num_classes); `maps`,
            the refined maps (B, dim, *grid).
        """
        tokens = [layer(x) for layer, x in zip(self.maps, maps, strict=True)]
        embedding = self.super_nodes(torch.cat(tokens, dim=1)).mean(dim=1)
        refined = [x.transpose(1, 2).unflatten(2, self.grid) for x in tokens]
        return Fused(logits=self.head(embedding), embedding=embedding, maps=refined)

    def super_nodes(self, nodes: Tensor) -> Tensor:
        """Map nodes (B, N, C) to the N / 32 super-nodes of the graph."""
        return self.pool(self.graph(nodes).transpose(1, 2)).transpose(1, 2)


class SkipFusion(nn.Module):
    """Let the skip connections of a U-shaped network know each other: an MGFF without its pool.

    Every map goes on as it is plus what the graph says, brought back to the map's size. That
    addition starts at zero, so that a network with the fusion starts as the one without.

    Args:
        channels: Channels of every map.
        strides: Pixels per token side of every map.
        grid: Height and width in tokens that every map is brought to.
        grid_stride: Pixels per token side of the grid, for images of the size it is meant for.
        num_heads: Of the attention, which is as wide as the last map.
    """

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        *,
        grid: tuple[int, int],
        grid_stride: int,
        num_heads: int,
    ) -> None:
        super().__init__()
        dim = channels[-1]
        self.maps = nn.ModuleList(
            MapTokens(width, dim, grid, kernel=grid_stride // stride, num_heads=num_heads)
            for width, stride in zip(channels, strides, strict=True)
        )
        self.graph = GraphLayer(len(channels) * grid[0] * grid[1], dim)
        self.out = nn.ModuleList(nn.Linear(dim, width) for width in channels)
        self.grid = grid

    def start_at_zero(self) -> None:
        """Make the fusion add nothing until it has learned to."""
        for layer in self.out:
            assert isinstance(layer, nn.Linear)
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Fuse maps (B, H, W, channels), each of its own size, to maps of the same sizes."""
        tokens = [layer(x.permute(0, 3, 1, 2)) for layer, x in zip(self.maps, maps, strict=True)]
        nodes = self.graph(torch.cat(tokens, dim=1)).chunk(len(maps), dim=1)
        return [
            x + self._enlarge(layer(part), x.shape[1:3])
            for x, part, layer in zip(maps, nodes, self.out, strict=True)
        ]

    def _enlarge(self, tokens: Tensor, size: torch.Size) -> Tensor:
        """Bring tokens (B, N, C) of the grid to (B, *size, C)."""
        grid = tokens.transpose(1, 2).unflatten(2, self.grid)
        enlarged = F.interpolate(grid, size=tuple(size), mode="bilinear", align_corners=False)
        return enlarged.permute(0, 2, 3, 1)


def fitting_kernels(map_sizes: Sequence[int], grid_size: int) -> list[int]:
    """Return for every map the kernel, and stride, that brings its side to the grid's.

    A map that is no multiple, or smaller, is pooled for the rest.
    """
    return [max(1, size // grid_size) for size in map_sizes]
