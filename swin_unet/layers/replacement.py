"""Replace convolutions of an existing network by SwinT."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection
from functools import partial
from typing import TypeVar

from torch import nn

from swin_unet.layers.swin_t import NormPosition, SwinT

Network = TypeVar("Network", bound=nn.Module)
Selection = Collection[str] | Callable[[str, nn.Conv2d], bool]


def replace_convolutions(
    network: Network,
    select: Selection,
    *,
    num_heads: int,
    window_size: int,
    mlp_ratio: float = 4.0,
    qkv_bias: bool = True,
    norm_position: NormPosition = "post",
    drop_path_rate: float = 0.0,
) -> Network:
    """Copy a network, with untrained SwinT layers in the place of chosen convolutions.

    A convolution of stride 1 keeps the resolution, one of stride 2 halves it. Its kernel size and
    dilation are lost; its padding must make up for them, so that every shape stays what it was.
    An even kernel of stride 2 rounds odd sizes down, SwinT rounds them up.

    Args:
        network: Any network; it stays as it is.
        select: Names of convolutions as in `network.named_modules()`, or a function of name and
            convolution that tells whether to replace it.
        num_heads: Attention heads, at most; where they do not divide the channels of the input,
            a layer has their greatest common divisor.
        window_size: Tokens per window side.
        mlp_ratio: Hidden channels of the perceptrons by channels of the input.
        qkv_bias: Learn a bias of queries, keys and values.
        norm_position: Norm what the blocks' branches give or what they take.
        drop_path_rate: Stochastic depth, in [0, 1).

    Returns:
        The copy. Other weights are the network's, and so are device, data type and mode.

    Raises:
        ValueError: When a chosen module is no convolution that SwinT can replace, or none is
            chosen.
    """
    build = partial(
        SwinT,
        window_size=window_size,
        mlp_ratio=mlp_ratio,
        qkv_bias=qkv_bias,
        norm_position=norm_position,
        drop_path_rate=drop_path_rate,
    )
    result = copy.deepcopy(network)
    layers: dict[nn.Conv2d, SwinT] = {}  # a convolution used in two places stays one layer
    for name, conv in _selected(result, select).items():
        if conv not in layers:
            _check(name, conv)
            heads = math.gcd(conv.in_channels, num_heads)
            layer = build(conv.in_channels, conv.out_channels, heads, downsample=_stride(conv) == 2)
            layers[conv] = layer.to(conv.weight).train(conv.training)
        result.set_submodule(name, layers[conv])
    return result


def _selected(network: nn.Module, select: Selection) -> dict[str, nn.Conv2d]:
    """Return the chosen convolutions by name, in the network's order."""
    modules = {name: m for name, m in network.named_modules(remove_duplicate=False) if name}
    convolutions = {name: m for name, m in modules.items() if isinstance(m, nn.Conv2d)}
    if callable(select):
        chosen = {name: conv for name, conv in convolutions.items() if select(name, conv)}
    else:
        for name in select:
            if name not in convolutions:
                found = type(modules[name]).__name__ if name in modules else "nothing"
                raise ValueError(f"{name!r} must name a Conv2d of the network, found {found}")
        chosen = {name: conv for name, conv in convolutions.items() if name in select}
    if not chosen:
        raise ValueError(f"select chooses none of the {len(convolutions)} convolutions")
    return chosen


def _check(name: str, conv: nn.Conv2d) -> None:
    """Refuse a convolution that does more, or to another size, than SwinT can."""
    if conv.groups != 1:
        raise ValueError(f"cannot replace {name!r}: it has {conv.groups} groups, SwinT has one")
    stride = _stride(conv)
    if stride not in (1, 2):
        raise ValueError(f"cannot replace {name!r}: stride {conv.stride} is neither 1 nor 2")
    allowed = (0,) if stride == 1 else (0, -1)
    if any(grown not in allowed for grown in _growth(conv)):
        raise ValueError(
            f"cannot replace {name!r}: padding {conv.padding} does not make up for kernel "
            f"{conv.kernel_size}, dilation {conv.dilation}; SwinT gives another size"
        )


def _stride(conv: nn.Conv2d) -> int | None:
    """Return the stride where it is the same on both axes."""
    height, width = conv.stride
    return height if height == width else None


def _growth(conv: nn.Conv2d) -> list[int]:
    """Return by how many pixels the output is larger than the input per axis, at stride 1."""
    lost = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
    if conv.padding == "same":
        return [0, 0]
    padding = (0, 0) if isinstance(conv.padding, str) else conv.padding
    return [2 * p - pixels for p, pixels in zip(padding, lost, strict=True)]
