"""A running average of a network's weights, smoother than the weights themselves."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn


class MovingAverage:
    """Exponential moving average of parameters and of floating-point buffers.

    The decay rises as (1 + t) / (10 + t) with the number t of updates until it reaches its value,
    so that the random weights of the start are soon forgotten.

    Args:
        model: The network to follow.
        decay: In (0, 1); 0.999 averages over about the last 1000 steps.

    Attributes:
        model: A copy of the network with the average as its weights, in evaluation mode.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.num_updates = 0
        self.model = copy.deepcopy(model).requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the network's present weights."""
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        self.num_updates += 1
        averages, values = self.model.state_dict().values(), model.state_dict().values()
        for average, value in zip(averages, values, strict=True):
            if average.is_floating_point():
                average.lerp_(value, 1 - decay)
            else:  # such as the number of batches that a batch norm has seen
                average.copy_(value)

    def state_dict(self) -> dict[str, Any]:
        """Return the average and the number of updates."""
        return {"model": self.model.state_dict(), "num_updates": self.num_updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put the average back where `state_dict` found it."""
        self.model.load_state_dict(state["model"])
        self.num_updates = state["num_updates"]
