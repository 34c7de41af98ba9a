"""Optimizers, and the learning rate as a pure function of the step."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from swin_unet.config import TrainConfig
from swin_unet.models import is_decayed

_BLOCK = re.compile(r"(?:^|\.)encoder\.stages\.(\d+)\.blocks\.(\d+)\.")
_MERGE = re.compile(r"(?:^|\.)encoder\.merges\.(\d+)\.")
_EMBEDDING = re.compile(r"(?:^|\.)encoder\.(patch_embed\.|absolute_pos_embed$)")


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Build the optimizer of a recipe.

    SGD decays every parameter, as the paper does. AdamW spares vectors, positions and scales, as
    Swin does: decay would pull them towards zero to no good.
    """
    groups = parameter_groups(model, config)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.learning_rate)
    momentum = 0.9 if config.momentum is None else config.momentum
    return torch.optim.SGD(
        groups,
        lr=config.learning_rate,
        momentum=momentum,
        weight_decay=config.weight_decay,
    )


def parameter_groups(model: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """Sort the parameters by their weight decay and their share of the learning rate.

    Returns:
        Groups with `params`, `weight_decay` and `lr_scale`; the first has the whole learning rate.
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = defaultdict(list)
    depths = encoder_depths(model)
    for name, parameter in model.named_parameters():
        decays = config.optimizer == "sgd" or is_decayed(name, parameter)
        scale = 1.0
        if config.layer_decay is not None:
            scale = config.layer_decay ** layers_above(name, depths)
        groups[scale, decays].append(parameter)
    return [
        {
            "params": groups[scale, decays],
            "weight_decay": config.weight_decay if decays else 0.0,
            "lr_scale": scale,
        }
        for scale, decays in sorted(groups, reverse=True)
    ]


def encoder_depths(model: nn.Module) -> list[int]:
    """Count the blocks of each of the encoder's stages; a network without such has none."""
    depths: dict[int, int] = {}
    for name, _ in model.named_parameters():
        if match := _BLOCK.search(name):
            stage, block = int(match[1]), int(match[2])
            depths[stage] = max(depths.get(stage, 0), block + 1)
    return [depths[stage] for stage in sorted(depths)]


def layers_above(name: str, depths: Sequence[int]) -> int:
    """Count the encoder's layers above a parameter's, as Swin's and SimMIM's fine-tuning do.

    The patch embedding is the lowest layer, every block is one, and a merge belongs to the block
    before it. What comes after the encoder's blocks, such as decoder and head, has none above.

    Args:
        name: Of the parameter.
        depths: Blocks of each stage of the encoder.
    """
    highest = sum(depths) + 1
    if match := _BLOCK.search(name):
        return highest - (sum(depths[: int(match[1])]) + int(match[2]) + 1)
    if match := _MERGE.search(name):
        return highest - sum(depths[: int(match[1]) + 1])
    return highest if _EMBEDDING.search(name) else 0


def learning_rate(step: int, num_steps: int, steps_per_epoch: int, config: TrainConfig) -> float:
    """Return the learning rate of a step.

    Args:
        step: Steps done so far, 0 at the start.
        num_steps: Steps of the whole run.
        steps_per_epoch: Steps of one epoch, the unit of the warm-up.
        config: The recipe.

    Returns:
        Linear warm-up to the peak, then (1 - t)^0.9 or (1 + cos(pi t)) / 2 of it.
    """
    warmup = config.warmup_epochs * steps_per_epoch
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(num_steps - warmup, 1)
    if config.schedule == "poly":
        return config.learning_rate * (1 - progress) ** 0.9
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Set the learning rate: every parameter group takes its share, `lr_scale`, of it."""
    for group in optimizer.param_groups:
        group["lr"] = value * group.get("lr_scale", 1.0)  # absent in old checkpoints
