"""Linear layers by oneDNN with weights packed once, for inference on a CPU.

`torch.nn.functional.linear` multiplies by MKL in float32, which leaves half of the speed of an AMD
processor unused, and under autocast converts the weights at every call. The layers are changed for
the time of a with block only; parameters, structure and state dict stay as they are.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@contextmanager
def packed_linears(model: nn.Module, device: torch.device, precision: str) -> Iterator[None]:
    """Let the linear layers of a network multiply by packed weights, where that can be done.

    Weights that change within the block are not noticed.

    Args:
        model: Any network.
        device: Where it runs; nothing is changed but for a CPU with x86 instructions.
        precision: `fp32` or `bf16`: what the products are computed in.
    """
    layers = _layers(model) if _is_possible(device, precision) else []
    for layer in layers:
        packed = _Packed(layer, _DTYPES[precision])
        layer.forward = packed.multiply  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _is_possible(device: torch.device, precision: str) -> bool:
    return (
        device.type == "cpu"
        and precision in _DTYPES
        and platform.machine().lower() in ("x86_64", "amd64")
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def _layers(model: nn.Module) -> list[nn.Linear]:
    """List plain linear layers whose forward is their class's; a layer used twice once."""
    return [
        layer
        for layer in model.modules()
        if type(layer) is nn.Linear and "forward" not in vars(layer)
    ]


class _Packed:
    """The weights of one layer."""

    def __init__(self, layer: nn.Linear, dtype: torch.dtype) -> None:
        self.dtype = dtype
        with torch.no_grad():
            weight = layer.weight.to(dtype)
            self.weight = torch.ops.mkldnn._reorder_linear_weight(weight)
            self.bias = None if layer.bias is None else layer.bias.to(dtype)

    def multiply(self, x: Tensor) -> Tensor:
        """Do what the layer does."""
        y: Tensor = torch.ops.mkldnn._linear_pointwise(
            x.to(self.dtype), self.weight, self.bias, "none", [], ""
        )
        return y
