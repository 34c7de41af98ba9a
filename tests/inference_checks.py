"""Networks whose answer is known, and checkpoints of networks that have learned nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from swin_unet import checkpoint as checkpoints
from swin_unet.config import Config, DataConfig, ModelConfig, to_plain
from swin_unet.imaging import Preprocessing, Volume
from swin_unet.inference import VolumeSegmenter
from swin_unet.models import build_model, model_arguments


class Threshold(nn.Module):
    """Logits that are a function of the pixel alone: the right answer is known."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        middle = image[:, image.shape[1] // 2]
        return torch.stack([0.5 - middle, middle - 0.5], dim=1)


def preprocessing(**changes: Any) -> Preprocessing:
    options: dict[str, Any] = {"intensity": "window", "window": (0, 100), "image_size": (16, 16)}
    return Preprocessing.from_config(DataConfig(**{**options, **changes}))


def blocks(shape: tuple[int, int, int] = (20, 18, 5)) -> Volume:
    """Make a volume of large bright and dark blocks, int16."""
    grid = np.indices(shape).sum(axis=0) // 8 % 2
    return Volume((grid * 100).astype(np.int16), np.diag([1.0, 1.5, 4.0, 1.0]))


def segmenter(settings: Preprocessing, **options: Any) -> VolumeSegmenter:
    return VolumeSegmenter(Threshold(), settings, num_channels=1, classes=("bright",), **options)


def random_checkpoint(
    path: Path, classes: tuple[str, ...] = ("a", "b"), seed: int = 0, **data: Any
) -> Path:
    """Write a checkpoint of a small network of random weights, for windows of [-1000, 1000]."""
    options: dict[str, Any] = {
        "intensity": "window", "window": (-1000, 1000), "image_size": (32, 32),
    }  # fmt: skip
    config = Config(
        model=ModelConfig(embed_dim=8, depths=[1, 1], num_heads=[1, 1], skips=1, window_size=4),
        data=DataConfig(**{**options, **data}),
    )
    description = model_arguments(config.model, config.data.context_slices, len(classes) + 1)
    torch.manual_seed(seed)
    model = build_model(description)
    with torch.no_grad():
        model.head.weight.mul_(50)  # as sure as a trained one
    content = {
        "model_description": description,
        "model": model.state_dict(),
        "preprocessing": Preprocessing.from_config(config.data).to_dict(),
        "classes": list(classes),
        "config": to_plain(config),
    }
    checkpoints.save(path, content)
    return path


def noise(shape: tuple[int, int, int] = (24, 20, 6), seed: int = 0) -> Volume:
    """Make a volume of smooth noise in [-1000, 1000], int16."""
    from scipy import ndimage

    random = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(random.normal(size=shape), 1.5)
    array = np.clip(smooth / smooth.std() * 400, -1000, 1000).astype(np.int16)
    return Volume(array, np.diag([-1.0, -1.5, 3.0, 1.0]))
