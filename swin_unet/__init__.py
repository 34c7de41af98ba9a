"""Swin-UNet: segmentation of CT and MRI slices with a Swin Transformer encoder and decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from swin_unet.inference import Segmenter
    from swin_unet.layers.swin_t import SwinT
    from swin_unet.models.resnet import SwinResNet
    from swin_unet.models.unet import SwinUNet

__version__ = "0.1.0"
__all__ = ["Segmenter", "SwinResNet", "SwinT", "SwinUNet", "__version__"]

_HOMES = {
    "Segmenter": "swin_unet.inference",
    "SwinResNet": "swin_unet.models.resnet",
    "SwinT": "swin_unet.layers.swin_t",
    "SwinUNet": "swin_unet.models.unet",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: torch takes seconds to import."""
    if name not in _HOMES:
        raise AttributeError(f"module 'swin_unet' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
