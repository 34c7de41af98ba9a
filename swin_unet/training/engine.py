"""The training loop, readable from top to bottom."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from swin_unet import checkpoint as checkpoints
from swin_unet.config import Config, UserError, to_plain
from swin_unet.devices import autocast
from swin_unet.training.optim import build_optimizer, learning_rate, set_learning_rate
from swin_unet.training.record import Recorder, logger
from swin_unet.training.tasks import SegmentationTask, Validation

CHECK_INTERVAL = 20  # steps between looks at the loss; each look waits for the GPU


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        epoch: Epochs done.
        step: Optimizer steps done.
        best_score: Best validation score so far, -1 before the first.
        best_epoch: The epoch it was reached after, 0 before the first.
    """

    epoch: int = 0
    step: int = 0
    best_score: float = -1.0
    best_epoch: int = 0


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and torch's global generators."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


class Trainer:
    """Trains one model on one task in one run folder.

    Args:
        config: The run's configuration.
        task: Loss and validation; holds the model.
        folder: The run folder.
        model_description: What rebuilds the model, for the checkpoints.
        precision: `fp32`, `bf16` or `fp16`.
    """

    def __init__(
        self,
        config: Config,
        task: SegmentationTask,
        folder: Path,
        *,
        model_description: dict[str, Any],
        precision: str,
    ) -> None:
        self.config = config
        self.task = task
        self.folder = folder
        self.model_description = model_description
        self.precision = precision
        self.model: nn.Module = task.model
        self.device = next(self.model.parameters()).device
        self.optimizer = build_optimizer(self.model, config.train)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision == "fp16")
        self.progress = Progress()

    def train(self) -> Progress:
        """Train until the configured number of epochs is done."""
        # The backward pass of some CPU kernels is not reproducible unless told to be.
        torch.use_deterministic_algorithms(self.device.type == "cpu")
        recorder = Recorder(self.folder, self.progress.epoch)
        try:
            for epoch in range(self.progress.epoch, self.config.train.epochs):
                self._run_epoch(epoch, recorder)
        finally:
            torch.use_deterministic_algorithms(False)
            recorder.close()
        return self.progress

    def _run_epoch(self, epoch: int, recorder: Recorder) -> None:
        """Train one epoch, validate if it is time, save, and write it all down."""
        started = time.monotonic()
        losses = self._train_epoch(epoch)
        seconds = time.monotonic() - started
        validation = self.task.validate() if self._validates_after(epoch) else None
        self.progress.epoch = epoch + 1
        is_best = validation is not None and validation.score > self.progress.best_score
        if validation is not None and is_best:
            self.progress.best_score = validation.score
            self.progress.best_epoch = epoch + 1
        recorder.epoch(
            self._row(losses, validation, seconds), validation.pictures if validation else {}
        )
        self._save(is_best)
        self._announce(losses, validation, time.monotonic() - started)

    def _train_epoch(self, epoch: int) -> dict[str, float]:
        """Run all steps of an epoch and return the mean losses."""
        loader = self.task.data.loader
        self.task.data.set_epoch(epoch)
        self.model.train()
        num_steps = self.config.train.epochs * len(loader)
        sums: dict[str, Tensor] = {}
        for position, batch in enumerate(self._with_bar(loader, epoch)):
            rate = learning_rate(self.progress.step, num_steps, len(loader), self.config.train)
            set_learning_rate(self.optimizer, rate)
            losses = self._step(batch)
            sums = {name: sums.get(name, 0.0) + value.detach() for name, value in losses.items()}
            if position % CHECK_INTERVAL == 0 or position == len(loader) - 1:
                self._check_finite(sums["loss"], epoch)
        return {name: float(value) / len(loader) for name, value in sums.items()}

    def _step(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Take one optimizer step and return the losses before it."""
        batch = {
            name: value.to(self.device, non_blocking=True) if isinstance(value, Tensor) else value
            for name, value in batch.items()
        }
        with autocast(self.device, self.precision):
            losses = self.task.loss(batch)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(losses["loss"]).backward()
        if self.config.train.gradient_clip is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.train.gradient_clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.progress.step += 1
        return losses

    def _with_bar(self, loader: Any, epoch: int) -> Iterable[dict[str, Any]]:
        """Show a progress bar on a terminal, and nothing in a log file."""
        title = f"epoch {epoch + 1}/{self.config.train.epochs}"
        bar = tqdm(loader, desc=title, leave=False, disable=not sys.stderr.isatty())
        return bar

    def _check_finite(self, loss: Tensor, epoch: int) -> None:
        if not torch.isfinite(loss):
            raise UserError(
                f"epoch {epoch + 1}, step {self.progress.step}",
                expected="a finite loss",
                found=str(float(loss)),
                fix="Lower train.learning_rate, set train.gradient_clip to 1, or use "
                f"train.precision fp32; the last good checkpoint in {self.folder} is kept.",
            )

    def _validates_after(self, epoch: int) -> bool:
        is_last = epoch + 1 == self.config.train.epochs
        is_due = (epoch + 1) % self.config.train.val_interval == 0
        return bool(self.task.data.validation) and (is_due or is_last)

    def _row(
        self, losses: dict[str, float], validation: Validation | None, seconds: float
    ) -> dict[str, Any]:
        """Return what metrics.csv and TensorBoard hold of an epoch."""
        row: dict[str, Any] = {"epoch": self.progress.epoch, "step": self.progress.step}
        row["learning_rate"] = self.optimizer.param_groups[0]["lr"]
        row |= {f"train/{name}": value for name, value in losses.items()}
        row["train/seconds"] = round(seconds, 3)
        if validation is not None:
            row["dice/mean"] = validation.score
            row |= {f"dice/{name}": value for name, value in validation.per_class.items()}
        return row

    def _announce(
        self, losses: dict[str, float], validation: Validation | None, seconds: float
    ) -> None:
        parts = [f"epoch {self.progress.epoch}/{self.config.train.epochs}"]
        parts.append(f"loss {losses['loss']:.4f}")
        if validation is not None:
            marker = " (best)" if self.progress.best_epoch == self.progress.epoch else ""
            parts.append(f"validation Dice {validation.score:.4f}{marker}")
        remaining = seconds * (self.config.train.epochs - self.progress.epoch)
        parts.append(f"{seconds:.1f} s, about {_duration(remaining)} left")
        logger.info("  ".join(parts))

    def _save(self, is_best: bool) -> None:
        """Write last.pt to resume from, and best.pt, which is all that inference needs."""
        content = {
            "model_description": self.model_description,
            "model": self.model.state_dict(),
            "preprocessing": self.task.data.preprocessing.to_dict(),
            "classes": list(self.task.data.classes),
            "config": to_plain(self.config),
            **vars(self.progress),
        }
        if is_best or not self.task.data.validation:
            checkpoints.save(self.folder / "best.pt", content)
        resumable = {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random": checkpoints.random_states(),
            "num_threads": torch.get_num_threads(),
        }
        checkpoints.save(self.folder / "last.pt", {**content, **resumable})

    def resume(self, path: Path) -> None:
        """Continue where a last.pt left off.

        Raises:
            UserError: When the file is not such a checkpoint, or of another architecture or
                optimizer.
        """
        content = checkpoints.load(path)
        if "optimizer" not in content:
            raise UserError(
                path,
                expected="a last.pt with the optimizer's state",
                found="a checkpoint for inference only",
                fix="Resume from the last.pt of the run folder.",
            )
        checkpoints.restore_model(self.model, content, path)
        self._restore_optimizer(content, path)
        self.scaler.load_state_dict(content["scaler"])
        checkpoints.restore_random_states(content["random"])
        if self.device.type == "cpu":  # another number of threads adds up in another order
            torch.set_num_threads(content["num_threads"])
        self.progress = Progress(**{name: content[name] for name in vars(self.progress)})

    def _restore_optimizer(self, content: dict[str, Any], path: Path) -> None:
        try:
            self.optimizer.load_state_dict(content["optimizer"])
        except ValueError as error:
            raise UserError(
                path,
                expected=f"the state of optimizer {self.config.train.optimizer}",
                found=f"that of {content['config']['train']['optimizer']}",
                fix="Resume with the train.optimizer that the run was started with.",
            ) from error


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"
