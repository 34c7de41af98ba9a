"""How Swin networks start."""

from __future__ import annotations

from torch import nn


def init_linears(module: nn.Module) -> None:
    """Initialise every linear inside a module as Swin does: normal with deviation 0.02, bias 0.

    Norms, convolutions and parameters of other kinds keep what their constructors gave them.
    """
    for child in module.modules():
        if isinstance(child, nn.Linear):
            nn.init.trunc_normal_(child.weight, std=0.02)
            if child.bias is not None:
                nn.init.zeros_(child.bias)
