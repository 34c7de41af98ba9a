"""The networks, built from configuration."""

from __future__ import annotations

from dataclasses import asdict
from importlib import import_module
from typing import TYPE_CHECKING, Any

from swin_unet.config import MODEL_OPTIONS, ModelConfig, UserError

if TYPE_CHECKING:
    from torch import nn

# Where each network is; imported when it is built, as torch and MONAI take seconds to import.
MODELS: dict[str, tuple[str, str]] = {
    "swin_unet": ("swin_unet.models.unet", "SwinUNet"),
    "swin_classifier": ("swin_unet.models.classifier", "SwinClassifier"),
    "swin_resnet": ("swin_unet.models.resnet", "SwinResNet"),
    "resnet50": ("swin_unet.models.resnet", "ResNet"),
    "localizer": ("swin_unet.models.localizer", "Localizer"),
    "simmim": ("swin_unet.models.simmim", "build_simmim"),
    "basic_unet": ("swin_unet.models.baselines", "basic_unet"),
    "attention_unet": ("swin_unet.models.baselines", "attention_unet"),
    "swin_unetr": ("swin_unet.models.baselines", "swin_unetr"),
    "dyn_unet": ("swin_unet.models.baselines", "dyn_unet"),
}
# Networks that are made for an image size.
_SIZED = ("swin_classifier", "swin_resnet", "localizer")
# Parameters that the recipes of Swin and ViT spare from weight decay, beside all vectors.
_UNDECAYED = (
    "relative_position_bias_table", "absolute_pos_embed", "logit_scale", "cpb_mlp.", "cls_token",
    "position_embeddings",
)  # fmt: skip


def model_arguments(
    config: ModelConfig,
    in_channels: int,
    num_classes: int,
    image_size: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """Return what rebuilds the network: `name` and its constructor's arguments, plain values.

    Args:
        config: The model section.
        in_channels: Channels of the image.
        num_classes: Channels of the logits.
        image_size: Height and width of the images, for classifiers.
    """
    applicable = MODEL_OPTIONS[config.name] - {"pretrained", "pretrained_decoder"}
    fields = {key: value for key, value in asdict(config).items() if key in applicable}
    if config.name in _SIZED:
        assert image_size is not None
        fields["image_size"] = list(image_size)
    arguments = {"in_channels": in_channels, "num_classes": num_classes, **fields}
    return {"name": config.name, "arguments": arguments}


def is_decayed(name: str, parameter: nn.Parameter) -> bool:
    """Tell whether weight decay acts on a parameter: a matrix that is no position or scale."""
    return parameter.ndim > 1 and not any(part in name for part in _UNDECAYED)


def build_model(description: dict[str, Any]) -> nn.Module:
    """Build the network that `model_arguments` describes, with random weights.

    Raises:
        UserError: When the options contradict each other.
    """
    module, name = MODELS[description["name"]]
    try:
        model: nn.Module = getattr(import_module(module), name)(**description["arguments"])
        return model
    except ValueError as error:
        raise UserError(
            "model",
            expected="options that fit together",
            found=str(error),
            fix="Correct the model section of the configuration.",
        ) from error
