"""Multi-granularity feature fusion: one description of an image from maps of several scales.

Source: the MGFF module of Pattern Recognition 146:110042, whose code is not public, as described
in a review; the graph layer follows FGVC-PIM. Marked [choice] is what the description leaves
open: the relative position term, attention before squeeze-excitation, and joining the maps by
their tokens rather than their channels (its graph has positions times scales as nodes).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swin_unet.layers.attention import WindowAttention


class SqueezeExcitation(nn.Module):
    """Scale the channels of tokens by a gate in (0, 1) that their mean decides.

    Args:
        dim: Channels C.
        reduction: The gate's hidden layer has C / reduction units.
    """

    def __init__(self, dim: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(1, dim // reduction)
        self.squeeze = nn.Linear(dim, hidden)
        self.excite = nn.Linear(hidden, dim)

    def gate(self, x: Tensor) -> Tensor:
        """Return the gate (B, C) of tokens (B, N, C)."""
        return torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean(dim=1)))))

    def forward(self, x: Tensor) -> Tensor:
        """Gate tokens (B, N, C)."""
        return x * self.gate(x)[:, None]


class GraphFusion(nn.Module):
    """Mix N nodes by a learned adjacency and pool them to super-nodes.

    The adjacency is `A + alpha tanh(q_i - k_j)`: a matrix of its own, at first 1/100 everywhere
    and 1/100 more on the diagonal, and a part that depends on the nodes, at first off (alpha 0).

    Args:
        num_nodes: N.
        dim: Channels C of a node.
        reduction: N / reduction super-nodes.
    """

    def __init__(self, num_nodes: int, dim: int, reduction: int = 32) -> None:
        super().__init__()
        self.num_super_nodes = max(1, num_nodes // reduction)
        self.adjacency = nn.Parameter(torch.eye(num_nodes) / 100 + 1 / 100)
        self.alpha = nn.Parameter(torch.zeros(1))
        hidden = max(1, dim // 4)
        self.query = nn.Linear(dim, hidden)
        self.key = nn.Linear(dim, hidden)
        self.mix = nn.Linear(dim, dim)
        self.norm = nn.BatchNorm1d(dim)
        self.pool = nn.Linear(num_nodes, self.num_super_nodes)

    def forward(self, nodes: Tensor) -> Tensor:
        """Map nodes (B, N, C) to super-nodes (B, M, C)."""
        return self.pool(self.propagate(nodes).transpose(1, 2)).transpose(1, 2)

    def propagate(self, nodes: Tensor) -> Tensor:
        """Send every node's features (B, N, C) along the edges."""
        query = self.query(nodes).mean(dim=2)
        key = self.key(nodes).mean(dim=2)
        edges = self.adjacency + self.alpha * torch.tanh(query[:, :, None] - key[:, None])
        mixed = torch.einsum("bnc,bnm->bmc", self.mix(nodes), edges)
        return self.norm(mixed.transpose(1, 2)).transpose(1, 2)


class MGFF(nn.Module):
    """Fuse feature maps of several scales to one vector.

    Every map is brought to `grid` x `grid` tokens of `dim` channels (by a convolution whose kernel
    is its stride, and pooling where that does not give the grid), attends to itself with relative
    positions, and is gated; the tokens of all maps are the nodes of a graph.

    Args:
        in_channels: Channels of every map.
        dim: Channels after the fusion; None: those of the last map.
        grid: Tokens per side of every map.
        num_heads: Of the attention.
        kernels: Kernel and stride of every map's convolution, None for a map that is left as it
            is; by default 1 for all maps.
        se_reduction: Of the squeeze-excitation.

    Example:
        >>> maps = [torch.zeros(2, 96, 28, 28), torch.zeros(2, 192, 14, 14)]
        >>> MGFF((96, 192), grid=14, num_heads=6)(maps)["embedding"].shape
        torch.Size([2, 192])
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        *,
        dim: int | None = None,
        grid: int = 12,
        num_heads: int = 8,
        kernels: Sequence[int | None] | None = None,
        se_reduction: int = 16,
    ) -> None:
        super().__init__()
        dim = dim or in_channels[-1]
        kernels = [1] * len(in_channels) if kernels is None else kernels
        if len(kernels) != len(in_channels):
            raise ValueError(f"{len(in_channels)} maps need as many kernels, not {list(kernels)}")
        self.dim, self.grid = dim, grid
        self.projections = nn.ModuleList(
            _projection(channels, dim, kernel)
            for channels, kernel in zip(in_channels, kernels, strict=True)
        )
        self.attentions = nn.ModuleList(
            WindowAttention(dim, (grid, grid), num_heads) for _ in in_channels
        )
        self.gates = nn.ModuleList(SqueezeExcitation(dim, se_reduction) for _ in in_channels)
        self.graph = GraphFusion(len(in_channels) * grid**2, dim)

    def forward(self, maps: Sequence[Tensor]) -> dict[str, Tensor | list[Tensor]]:
        """Fuse maps (B, channels, H, W).

        Returns:
            `embedding` (B, dim), the mean of the super-nodes; `maps`, the refined maps
            (B, dim, grid, grid).
        """
        tokens = [self.refine(number, x) for number, x in enumerate(maps)]
        super_nodes = self.graph(torch.cat(tokens, dim=1))
        size = (-1, self.dim, self.grid, self.grid)
        refined = [x.transpose(1, 2).reshape(size) for x in tokens]
        return {"embedding": super_nodes.mean(dim=1), "maps": refined}

    def refine(self, number: int, x: Tensor) -> Tensor:
        """Bring one map (B, channels, H, W) to gated tokens (B, grid * grid, dim)."""
        x = F.adaptive_avg_pool2d(self.projections[number](x), self.grid)
        tokens = x.flatten(2).transpose(1, 2)
        return self.gates[number](self.attentions[number](tokens, (self.grid, self.grid), None))


def _projection(in_channels: int, dim: int, kernel: int | None) -> nn.Module:
    if kernel is None:
        if in_channels != dim:
            raise ValueError(f"a map of {in_channels} channels needs a kernel to become {dim}")
        return nn.Identity()
    return nn.Conv2d(in_channels, dim, kernel_size=kernel, stride=kernel)
