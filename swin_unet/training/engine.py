"""The training loop, readable from top to bottom."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from swin_unet.config import Config, to_plain
from swin_unet.training.compilation import compile_training
from swin_unet.training.determinism import deterministic_algorithms
from swin_unet.training.faults import loader_fault, loader_processes
from swin_unet.training.keeper import Keeper
from swin_unet.training.memory import Batch, forget_peak, peak_mb
from swin_unet.training.optim import learning_rate
from swin_unet.training.record import Recorder, Row, describe_epoch, epoch_bar, logger
from swin_unet.training.resume import Restart
from swin_unet.training.signals import Stopped, StopRequest
from swin_unet.training.state import LossWatch, Progress, Totals, random_states_kept
from swin_unet.training.step import Losses, Stepper
from swin_unet.training.task import Task, Validation

GPU_CHECK_INTERVAL = 20  # steps between looks at the loss; each look waits for the GPU


class Trainer:
    """Trains one model on one task in one run folder.

    Killed at any moment, a run continues from its last.pt as if nothing had happened: the order
    and the augmentation of the data follow from (seed, epoch, index), and the file has the rest.

    Args:
        config: The run's configuration.
        task: Loss and validation; holds the model.
        folder: The run folder.
        model_description: What rebuilds the model, for the checkpoints.
        precision: `fp32`, `bf16` or `fp16`.
        facts: What else makes the run, see `resume.check_data`.

    Attributes:
        stop: Whether a signal has asked to stop.
    """

    def __init__(
        self,
        config: Config,
        task: Task,
        folder: Path,
        *,
        model_description: dict[str, Any],
        precision: str,
        facts: dict[str, Any] | None = None,
    ) -> None:
        self.config = config
        self.task = task
        self.folder = folder
        self.world = task.world
        self.stop = StopRequest(heeds_repeats=self.world.size == 1)
        self.stepper = Stepper(
            task.trained,
            task.model,
            task.loss,
            config.train,
            precision,
            world=self.world,
            without_sync=task.without_sync,
        )
        self.device = self.stepper.device
        description = {
            "model_description": model_description,
            "preprocessing": task.data.preprocessing.to_dict(),
            "classes": list(task.data.classes),
            "config": to_plain(config),
            **task.checkpoint_facts,
        }
        self.keeper = Keeper(folder, self.stepper, description, facts or {}, self.world)
        self.num_batches = len(task.data.loader)
        interval = GPU_CHECK_INTERVAL if self.device.type == "cuda" else 1
        self._watch = LossWatch(interval, self.world)
        self._restart: Restart | None = None

    @property
    def progress(self) -> Progress:
        """How far the run is."""
        return self.keeper.progress

    @property
    def totals(self) -> Totals:
        """Sums of the epoch under way."""
        return self.keeper.totals

    def resume(self, restart: Restart) -> list[str]:
        """Continue where a last.pt left off; return what the user is to know.

        Raises:
            UserError: When the checkpoint is of another architecture.
        """
        self._restart = restart
        return self.keeper.restore(restart)

    def train(self) -> None:
        """Train until all epochs are done, or patience is at its end.

        Raises:
            Stopped: By a signal or the time budget; the state is saved.
            UserError: Whatever a user can mend; the checkpoints are good.
        """
        self._started = self._saved = time.monotonic()
        with self.stop, self.ready(), self._recorder() as recorder:
            while not self.is_done:
                self._train_epoch()
                self._finish_epoch(recorder)
                self._stop_if_asked(is_saved=True)

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Set torch up for the steps in the block, and compile the network if wanted."""
        # The backward pass of some CPU kernels is not reproducible unless told to be.
        exact = self.device.type == "cpu" or self.config.train.deterministic
        with deterministic_algorithms(exact):
            if self.config.train.compile:
                compile_training(self.task, self.stepper, self.config.train)
            yield

    @property
    def is_done(self) -> bool:
        """Whether all epochs are done, or as many without a better validation as allowed."""
        epoch, patience = self.progress.epoch, self.config.train.patience
        if epoch >= self.config.train.epochs:
            return True
        if patience is None or epoch == 0 or not self._validates_after(epoch):
            return False
        return epoch - self.progress.best_epoch >= patience

    @contextmanager
    def _recorder(self) -> Iterator[Recorder | None]:
        """Open what the run writes down, cut back to where the run continues."""
        if self._restart is not None:
            best = self.progress.best_epoch if self.task.data.validation else self.progress.epoch
            for note in self.keeper.restore_best(self._restart.path.parent, best):
                logger.info(note)
        if not self.world.is_first:
            yield None
            return
        epochs_done = None if self._restart is None else self.progress.epoch
        recorder = Recorder(self.folder, to_plain(self.config), epochs_done, self.task.metric)
        try:
            yield recorder
        finally:
            recorder.close()

    def _train_epoch(self) -> None:
        """Run the steps of an epoch, or what is left of them."""
        train, progress = self.config.train, self.progress
        num_steps = train.epochs * self.num_batches
        self.task.trained.train()
        forget_peak(self.device)
        title = f"epoch {progress.epoch + 1}/{train.epochs}"
        with epoch_bar(title, self.num_batches, progress.position, self.world.is_first) as bar:
            for batch in self._batches():
                rate = learning_rate(progress.step, num_steps, self.num_batches, train)
                losses = self.stepper.step(batch, rate)
                self._count(batch, losses)
                self._show(bar, losses)
                self._stop_if_asked()
                self._save_if_due()
        self._watch.look()

    def _batches(self) -> Iterator[Batch]:
        """Yield the batches of the epoch that are left, and take the time."""
        self.task.data.set_epoch(self.progress.epoch, self.progress.position)
        loader = self.task.data.loader
        # The processes of the epoch before, if they outlive it, may be gone.
        with self._saved_on_failure(loader_processes(loader)), random_states_kept():
            iterator = iter(loader)
        workers = loader_processes(loader, iterator)
        self.stop.let_workers_die()
        self._lap = time.monotonic()
        while True:
            with self._saved_on_failure(workers):
                batch = next(iterator, None)
            self.totals.wait_seconds += self._count_time()
            if batch is None:
                return
            yield batch
            self._count_time()

    def _count_time(self) -> float:
        """Add the time since the last call to the epoch's, and return it."""
        before, self._lap = self._lap, time.monotonic()
        self.totals.seconds += self._lap - before
        return self._lap - before

    def _count(self, batch: Batch, losses: Losses) -> None:
        """Count a step that is done, with its time, before it is saved."""
        self._count_time()
        self.progress.step += 1
        self.progress.position += 1
        self.totals.add(losses, len(batch["image"]) * self.world.size)
        step = f"epoch {self.progress.epoch + 1}, step {self.progress.step}"
        self._watch.add(step, losses["loss"], batch)

    def _finish_epoch(self, recorder: Recorder | None) -> None:
        """Validate if it is time, write everything down, and save."""
        epoch = self.progress.epoch + 1
        started = time.monotonic()
        validation = self._validate() if self._validates_after(epoch) else None
        validation_seconds = time.monotonic() - started
        is_best = validation is not None and self.keeper.judge(
            epoch, validation.score, validation.summary
        )
        row = self._row(epoch, validation)
        if recorder is not None:
            recorder.epoch(row, validation.pictures if validation else {})
        num_epochs = self.config.train.epochs
        logger.info(describe_epoch(row, self.task.metric, num_epochs, validation_seconds, is_best))
        self.keeper.start_epoch(epoch)
        self._save()
        if is_best or not self.task.data.validation:
            self.keeper.save_best()

    def _validate(self) -> Validation:
        with self._saved_on_failure():
            return self.task.validate(self.stepper.result, self.raise_if_signalled)

    def _validates_after(self, epoch: int) -> bool:
        is_due = epoch % self.config.train.val_interval == 0
        is_last = epoch == self.config.train.epochs
        return bool(self.task.data.validation) and (is_due or is_last)

    def _row(self, epoch: int, validation: Validation | None) -> Row:
        """Return what metrics.csv and TensorBoard hold of an epoch."""
        rate = max(group["lr"] for group in self.stepper.optimizer.param_groups)
        row: Row = {"epoch": epoch, "step": self.progress.step, "learning_rate": rate}
        losses = self.totals.means(self.num_batches)
        row |= {f"train/{name}": value for name, value in losses.items()}
        row |= {**self.totals.speed(), "train/peak_memory_mb": peak_mb(self.device)}
        if validation is not None:
            row |= validation.values
        return row

    def _show(self, bar: Any, losses: Losses) -> None:
        """Move the bar, with the loss at every look at it."""
        bar.update()
        if not bar.disable and self.progress.position % self._watch.interval == 0:
            bar.set_postfix(loss=f"{float(losses['loss']):.4f}", refresh=False)

    def _save(self) -> None:
        """Write last.pt, unless the weights are ruined."""
        self._watch.look()
        self.keeper.save()
        self._saved = time.monotonic()

    def _save_if_due(self) -> None:
        seconds = 60 * self.config.train.save_minutes
        (is_due,) = self.world.anywhere(time.monotonic() - self._saved >= seconds)
        if is_due:
            self._save()

    @contextmanager
    def _saved_on_failure(self, workers: Sequence[BaseProcess] = ()) -> Iterator[None]:
        """Save when something fails between two steps, so that they are not lost.

        One of several processes cannot save by itself; all of them can, when all stop.
        """
        try:
            yield
        except Exception as error:
            if self.world.size == 1 or isinstance(error, Stopped):
                self._save()
                if self.stop.signal is not None:  # mostly it ended the loader's processes
                    raise self.stop.stopped() from error
            fault = loader_fault(error, workers)
            if fault is None:
                raise
            raise fault from error

    def raise_if_signalled(self) -> None:
        """End the run when a signal has asked to, this process or another one."""
        (is_asked,) = self.world.anywhere(self.stop.signal is not None)
        if is_asked:
            raise self.stop.stopped()

    def _stop_if_asked(self, is_saved: bool = False) -> None:
        """Save and end the run, by a signal or because its time is over."""
        minutes = self.config.train.max_minutes
        is_late = minutes is not None and time.monotonic() - self._started >= 60 * minutes
        is_asked, is_late = self.world.anywhere(
            self.stop.signal is not None, is_late and not self.is_done
        )
        if not (is_asked or is_late):
            return
        if not is_saved:
            self._save()
        if is_asked:
            raise self.stop.stopped()
        raise Stopped(f"stopped after {minutes:g} minutes, as train.max_minutes says", 0)
