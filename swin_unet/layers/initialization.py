"""How Swin networks start."""

from __future__ import annotations

from torch import nn

from swin_unet.layers.attention import WindowAttention, WindowAttentionV2


def init_linears(module: nn.Module) -> None:
    """Initialise every linear inside a module as Swin does: normal with deviation 0.02, bias 0.

    Norms, convolutions and parameters of other kinds keep what their constructors gave them.
    """
    for child in module.modules():
        if isinstance(child, nn.Linear):
            nn.init.trunc_normal_(child.weight, std=0.02)
            if child.bias is not None:
                nn.init.zeros_(child.bias)


def look_locally(model: nn.Module) -> None:
    """Start all window attention of a version 1 network with a local look.

    Raises:
        ValueError: For version 2, whose biases are computed.
    """
    for module in model.modules():
        if isinstance(module, WindowAttentionV2):
            raise ValueError("position_init local is for version 1; version 2 computes its biases")
        if isinstance(module, WindowAttention):
            module.look_locally()
