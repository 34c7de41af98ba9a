"""One optimizer step: forward and backward in parts, clipping, update, running average."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from swin_unet.config import TrainConfig, UserError
from swin_unet.devices import autocast, is_out_of_memory
from swin_unet.training.distributed import ALONE, World
from swin_unet.training.ema import MovingAverage
from swin_unet.training.memory import Batch, Undo, release, split_batch
from swin_unet.training.optim import build_optimizer, set_learning_rate
from swin_unet.training.record import logger

Losses = dict[str, Tensor]


class Stepper:
    """Holds and changes everything that an optimizer step changes.

    A step that does not fit into memory is taken again, with the same random numbers, in parts of
    half the size; the gradients of the parts add up to the gradient of the batch. Not so where
    several processes share the batch: they cannot tell each other in the middle of a step.

    Args:
        model: What is trained.
        network: The part of it that is kept, without what only serves training.
        loss: Computes `loss` and its parts, means over the samples of a batch on the device.
        config: The recipe.
        precision: `fp32`, `bf16` or `fp16`.
        world: The processes that share each batch.
        without_sync: Wraps the computation of all parts but the last one.

    Attributes:
        part_size: Samples that are computed at once.
        average: The running average of the network; None: there is none.
    """

    def __init__(
        self,
        model: nn.Module,
        network: nn.Module,
        loss: Callable[[Batch], Losses],
        config: TrainConfig,
        precision: str,
        *,
        world: World = ALONE,
        without_sync: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.model = model
        self.network = network
        self.loss = loss
        self.gradient_clip = config.gradient_clip
        self.precision = precision
        self.device = next(model.parameters()).device
        self.optimizer = build_optimizer(model, config)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision == "fp16")
        self.world = world
        self.without_sync = without_sync
        self.part_size = -(-config.batch_size // world.size // config.accumulation)
        self.average = None
        if config.ema_decay is not None:
            self.average = MovingAverage(network, config.ema_decay)

    @property
    def result(self) -> nn.Module:
        """The network to validate and to keep: the average if there is one."""
        return self.network if self.average is None else self.average.model

    def step(self, batch: Batch, rate: float) -> Losses:
        """Take one step and return the losses before it, detached."""
        set_learning_rate(self.optimizer, rate)
        losses = self.compute_gradient(batch)
        if self.gradient_clip is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.gradient_clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update(self.network)
        return losses

    def compute_gradient(self, batch: Batch) -> Losses:
        """Compute losses and gradient, in smaller parts where memory runs out."""
        undo = Undo(self.model)
        while True:
            try:
                return self._forward_and_backward(batch)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            # Out of the handler: the error holds on to all tensors of the attempt.
            self._use_smaller_parts(len(batch["image"]))
            undo()

    def _forward_and_backward(self, batch: Batch) -> Losses:
        """Compute the gradient part by part; return the mean losses."""
        self.optimizer.zero_grad(set_to_none=True)
        num_samples = len(batch["image"])
        sums: dict[str, Any] = {}
        parts = list(split_batch(batch, self.part_size))
        for number, part in enumerate(parts, start=1):
            share = len(part["image"]) / num_samples
            part = {name: value.to(self.device, non_blocking=True) for name, value in part.items()}
            with nullcontext() if number == len(parts) else self.without_sync():
                with autocast(self.device, self.precision):
                    losses = self.loss(part)
                self.scaler.scale(losses["loss"] * share).backward()
            sums = {
                name: sums.get(name, 0) + loss.detach() * share for name, loss in losses.items()
            }
        return sums

    def _use_smaller_parts(self, num_samples: int) -> None:
        size = min(self.part_size, num_samples)
        if self.world.size > 1 and size > 1:
            raise UserError(
                "train.accumulation",
                expected=f"memory for {size} slices at a time in every process",
                found=f"too little in process {self.world.rank}",
                fix="Start again with twice the train.accumulation.",
            )
        self.optimizer.zero_grad(set_to_none=True)
        release()
        if size == 1:
            raise UserError(
                "train.batch_size",
                expected="memory for one slice at a time",
                found="too little",
                fix="Set model.checkpointing, or use a smaller network or data.image_size.",
            )
        self.part_size = size // 2
        num_parts = -(-num_samples // self.part_size)
        logger.warning(
            f"out of memory with {size} slices at a time: going on with {self.part_size}, "
            f"{num_parts} parts to a step; the batch stays {num_samples} slices"
        )

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a step changes, as plain values and tensors."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "part_size": self.part_size,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put everything back where `state_dict` found it."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.part_size = state["part_size"]
