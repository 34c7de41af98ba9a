"""How far a run is, and what its checkpoints hold."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from swin_unet import checkpoint as checkpoints
from swin_unet.config import UserError
from swin_unet.training.distributed import ALONE, World

MAX_NAMES = 8


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        epoch: Epochs done.
        step: Optimizer steps done.
        position: Batches done of the epoch after those.
        best_score: Best validation score so far, -1 before the first.
        best_epoch: The epoch it was reached after, 0 before the first.
    """

    epoch: int = 0
    step: int = 0
    position: int = 0
    best_score: float = -1.0
    best_epoch: int = 0


@dataclass
class Totals:
    """What adds up over an epoch.

    Attributes:
        losses: Sums over the steps, by name.
        slices: Number of them.
        seconds: Since the epoch's start, without the time that the run was not running.
        wait_seconds: How much of it was spent waiting for data.
    """

    losses: dict[str, Tensor] = field(default_factory=dict)
    slices: int = 0
    seconds: float = 0.0
    wait_seconds: float = 0.0

    def add(self, losses: dict[str, Tensor], num_slices: int) -> None:
        """Add the losses of a step."""
        self.losses = {
            name: value if name not in self.losses else self.losses[name] + value
            for name, value in losses.items()
        }
        self.slices += num_slices

    def means(self, num_steps: int) -> dict[str, float]:
        """Return the mean losses."""
        return {name: float(value) / num_steps for name, value in self.losses.items()}

    def speed(self) -> dict[str, float]:
        """Return what metrics.csv and the log tell about the time of the epoch."""
        seconds = max(self.seconds, 1e-9)
        return {
            "train/seconds": round(self.seconds, 3),
            "train/slices_per_second": round(self.slices / seconds, 2),
            "train/data_wait": round(self.wait_seconds / seconds, 4),
        }

    def to(self, device: torch.device) -> Totals:
        """Return the same with its tensors on a device."""
        losses = {name: value.to(device) for name, value in self.losses.items()}
        return Totals(**{**vars(self), "losses": losses})


class LossWatch:
    """Finds the step whose loss is no number, without waiting for the GPU at every step.

    Args:
        interval: Steps between looks; each of them waits for the GPU.
        world: The processes that share each batch and have the same losses.
    """

    def __init__(self, interval: int, world: World = ALONE) -> None:
        self.interval = interval
        self.world = world
        self._unseen: list[tuple[str, Tensor, list[str]]] = []

    def add(self, step: str, loss: Tensor, batch: dict[str, Any]) -> None:
        """Note the loss of a step, and look when it is time.

        Raises:
            UserError: As `look`.
        """
        names = list(dict.fromkeys(batch.get("case", [])))
        self._unseen.append((step, loss, names))
        if len(self._unseen) >= self.interval:
            self.look()

    def look(self) -> None:
        """Look at the losses noted since the last look.

        Raises:
            UserError: For the first that is not finite, with the cases of its batch.
        """
        for step, loss, names in self._unseen:
            value = float(loss)
            if not math.isfinite(value):
                names = [name for part in self.world.gather(names) for name in part]
                shown = ", ".join(names[:MAX_NAMES]) + (", ..." if names[MAX_NAMES:] else "")
                raise UserError(
                    step,
                    expected="a finite loss",
                    found=str(value) + (f" for slices of {shown}" if shown else ""),
                    fix="Look at these cases, lower train.learning_rate, set train.gradient_clip "
                    "to 1, or use train.precision fp32. The last good checkpoint is kept; "
                    "--resume auto goes on from it.",
                )
        self._unseen.clear()


def all_finite(tensors: dict[str, Tensor]) -> bool:
    """Tell whether all numbers of a state dict are finite."""
    floating = [value for value in tensors.values() if value.is_floating_point()]
    return all(bool(torch.isfinite(value).all()) for value in floating)


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and torch's global generators."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextmanager
def random_states_kept() -> Iterator[None]:
    """Leave the global generators as they were; a loader draws from them when it starts."""
    states = checkpoints.random_states()
    try:
        yield
    finally:
        checkpoints.restore_random_states(states)
