"""The networks, built from configuration."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from swin_unet.config import ModelConfig, UserError

if TYPE_CHECKING:
    from torch import nn

NOT_ARGUMENTS = {"name", "pretrained"}


def model_arguments(config: ModelConfig, in_channels: int, num_classes: int) -> dict[str, Any]:
    """Return what rebuilds the network: `name` and its constructor's arguments, plain values."""
    fields = {key: value for key, value in asdict(config).items() if key not in NOT_ARGUMENTS}
    arguments = {"in_channels": in_channels, "num_classes": num_classes, **fields}
    return {"name": config.name, "arguments": arguments}


def build_model(description: dict[str, Any]) -> nn.Module:
    """Build the network that `model_arguments` describes, with random weights.

    Raises:
        UserError: When the options contradict each other.
    """
    from swin_unet.models.unet import SwinUNet

    models: dict[str, type[nn.Module]] = {"swin_unet": SwinUNet}
    try:
        return models[description["name"]](**description["arguments"])
    except ValueError as error:
        raise UserError(
            "model",
            expected="options that fit together",
            found=str(error),
            fix="Correct the model section of the configuration.",
        ) from error
