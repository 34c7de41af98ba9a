"""Optimizers, and the learning rate as a pure function of the step."""

from __future__ import annotations

import math

import torch
from torch import nn

from swin_unet.config import TrainConfig
from swin_unet.models import is_decayed


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Build the optimizer of a recipe.

    SGD decays every parameter, as the paper does. AdamW spares vectors, positions and scales, as
    Swin does: decay would pull them towards zero to no good.
    """
    if config.optimizer == "sgd":
        momentum = 0.9 if config.momentum is None else config.momentum
        return torch.optim.SGD(
            model.parameters(),
            lr=config.learning_rate,
            momentum=momentum,
            weight_decay=config.weight_decay,
        )
    decayed: list[nn.Parameter] = []
    spared: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        (decayed if is_decayed(name, parameter) else spared).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": spared, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate)


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
    """Set the learning rate of all parameter groups."""
    for group in optimizer.param_groups:
        group["lr"] = value
