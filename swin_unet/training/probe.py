"""How long a training would take, by a few of its steps."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch

from swin_unet.training.engine import Trainer
from swin_unet.training.memory import Batch
from swin_unet.training.optim import learning_rate

WARM_UP_STEPS = 2  # the first ones wait for the loader to start and for the first kernels


def measure_steps(trainer: Trainer, num_steps: int) -> dict[str, Any]:
    """Take some steps of a training as it would take them, and time them.

    The network is another one afterwards; nothing is written.

    Args:
        trainer: A new one.
        num_steps: Steps to time, after WARM_UP_STEPS that are not.

    Returns:
        `seconds_per_step`, waiting for data included, and `steps`, those of the whole training.
    """
    train, per_epoch = trainer.config.train, trainer.num_batches
    total = train.epochs * per_epoch
    batches = _endless_batches(trainer)
    trainer.task.trained.train()
    started = 0.0
    with trainer.ready():
        for step in range(WARM_UP_STEPS + num_steps):
            if step == WARM_UP_STEPS:
                started = _now(trainer.device)
            rate = learning_rate(min(step, total), total, per_epoch, train)
            trainer.stepper.step(next(batches), rate)
        seconds = _now(trainer.device) - started
    return {"seconds_per_step": seconds / num_steps, "steps": total}


def _endless_batches(trainer: Trainer) -> Iterator[Batch]:
    """Yield the batches of the first epoch, the second one, and so on."""
    epoch = 0
    while True:
        trainer.task.data.set_epoch(epoch, 0)
        yield from trainer.task.data.loader
        epoch += 1


def _now(device: torch.device) -> float:
    """Return the time when all that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.monotonic()
