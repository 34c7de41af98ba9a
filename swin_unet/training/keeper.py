"""The checkpoints of a run folder: last.pt to continue from, best.pt to keep."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch

from swin_unet import checkpoint as checkpoints
from swin_unet.config import UserError
from swin_unet.training.distributed import ALONE, World
from swin_unet.training.resume import Restart
from swin_unet.training.state import Progress, Totals, all_finite
from swin_unet.training.step import Stepper


class Keeper:
    """Holds all that changes while a run goes on, saves it and restores it.

    Args:
        folder: The run folder.
        stepper: Model, optimizer and the like.
        description: What every checkpoint holds beside the weights: `model_description`,
            `preprocessing`, `classes` and `config`.
        facts: What else makes the run, see `resume.check_data`.
        world: The processes of the run, all of which save and restore together; the first writes.

    Attributes:
        progress: How far the run is.
        totals: Sums of the epoch under way.
        validations: Results of the `best` and the `last` validation, as in metrics.json, with the
            epoch; None: not known.
    """

    def __init__(
        self,
        folder: Path,
        stepper: Stepper,
        description: dict[str, Any],
        facts: dict[str, Any],
        world: World = ALONE,
    ) -> None:
        self.folder = folder
        self.stepper = stepper
        self.description = description
        self.facts = facts
        self.world = world
        self.progress = Progress()
        self.totals = Totals()
        self.validations: dict[str, dict[str, Any] | None] = {"best": None, "last": None}
        self._keeps_previous = True

    def start_epoch(self, epochs_done: int) -> None:
        """Begin the epoch after those that are done."""
        self.progress.epoch, self.progress.position = epochs_done, 0
        self.totals = Totals()

    def judge(self, epoch: int, score: float, summary: dict[str, Any]) -> bool:
        """Keep the results of a validation; tell whether it is the best so far."""
        results, progress = self.validations, self.progress
        results["last"] = {"epoch": epoch, **summary}
        # After a restart, an epoch may come again that best.pt is already of.
        again = score == progress.best_score and epoch == progress.best_epoch
        if score > progress.best_score or again:
            progress.best_score, progress.best_epoch = score, epoch
            results["best"] = results["last"]
            return True
        return False

    def save(self) -> None:
        """Write last.pt, and keep the one before.

        Raises:
            UserError: The weights are not finite, or the disk does not take the file.
        """
        content = self._content()
        if not all_finite(content["model"]):
            raise UserError(
                f"step {self.progress.step}",
                expected="finite weights",
                found="NaN or infinity",
                fix="Lower train.learning_rate, set train.gradient_clip to 1, or use "
                "train.precision fp32. The last good checkpoint is kept.",
            )
        training = {
            "stepper": self.stepper.state_dict(),
            "totals": vars(self.totals),
            "validations": self.validations,
            "facts": self.facts,
            "random": self.world.gather(checkpoints.random_states()),
            "num_processes": self.world.size,
            "num_threads": torch.get_num_threads(),
            "torch": str(torch.__version__),
            "precision": self.stepper.precision,
        }
        # The file of before is not worth keeping where it was found to be damaged.
        write = checkpoints.save_keeping_previous if self._keeps_previous else checkpoints.save
        if self.world.is_first:
            write(self.folder / "last.pt", {**content, "training": training})
        self._keeps_previous = True

    def save_best(self) -> None:
        """Write best.pt, which is all that inference needs."""
        if self.world.is_first:
            checkpoints.save(self.folder / "best.pt", self._content())

    def _content(self) -> dict[str, Any]:
        weights = self.stepper.result.state_dict()
        return {**self.description, "model": weights, **asdict(self.progress)}

    def restore(self, restart: Restart) -> list[str]:
        """Put everything back where a last.pt has it.

        Returns:
            What the user is to know.

        Raises:
            UserError: When the weights are of another architecture.
        """
        content, training = restart.content, restart.content["training"]
        checkpoints.restore_model(self.stepper.network, content, restart.path)
        self.stepper.load_state_dict(training["stepper"])
        if self.world.rank < len(training["random"]):
            checkpoints.restore_random_states(training["random"][self.world.rank])
        self.progress = Progress(**{item.name: content[item.name] for item in fields(Progress)})
        self.totals = Totals(**training["totals"]).to(self.stepper.device)
        self.validations = training["validations"]
        self._keeps_previous = restart.path.name == "last.pt"
        notes = [f"resumed {restart.path} {_where(self.progress)}", *restart.notes]
        return [*notes, *self._adopt_surroundings(training)]

    def _adopt_surroundings(self, training: dict[str, Any]) -> list[str]:
        """Compute as the run did so far; say where that is not possible."""
        notes = []
        is_cpu = self.stepper.device.type == "cpu"
        if is_cpu and torch.get_num_threads() != training["num_threads"]:
            # Another number of threads adds up in another order.
            torch.set_num_threads(training["num_threads"])
            notes.append(f"as before, the network runs in {training['num_threads']} threads")
        now = {
            "torch": str(torch.__version__),
            "precision": self.stepper.precision,
            "num_processes": self.world.size,
        }
        notes += [
            f"{name} was {training[name]} before and is {value} now: the run goes on, but not "
            "exactly as it would have"
            for name, value in now.items()
            if training[name] != value
        ]
        return notes

    def restore_best(self, folder: Path, wanted: int) -> list[str]:
        """Make best.pt what the restored state says, where a killed process left another.

        Args:
            folder: Of the checkpoint that was restored.
            wanted: The epoch that best.pt is to be of; 0: there is none yet.

        Returns:
            What the user is to know.
        """
        notes = self._restore_best(folder, wanted) if self.world.is_first else []
        found = self.world.gather((self.progress, self.validations))[0]
        self.progress, self.validations = found
        return notes

    def _restore_best(self, folder: Path, wanted: int) -> list[str]:
        if wanted == 0:
            return []
        path = folder / "best.pt"
        is_ours = folder.resolve() == self.folder.resolve()
        best = _load_if_good(path)
        if best is not None and best["epoch"] == wanted:
            if not is_ours:
                checkpoints.save(self.folder / "best.pt", best)
            return []
        if wanted == self.progress.epoch and self.progress.position == 0:
            self.save_best()
            return []
        self.validations["best"] = None
        if is_ours and best is not None and best["epoch"] > wanted:
            self.progress.best_epoch = best["best_epoch"]
            self.progress.best_score = best["best_score"]
            return [f"best.pt of epoch {best['epoch']} stays until there is a better one"]
        self.progress.best_epoch, self.progress.best_score = 0, -1.0
        return [f"the best.pt of epoch {wanted} is lost: the best of the coming epochs counts"]


def _load_if_good(path: Path) -> dict[str, Any] | None:
    try:
        return checkpoints.load(path)
    except UserError:
        return None


def _where(progress: Progress) -> str:
    number = progress.position
    batches = f", {number} batch{'es' if number > 1 else ''} into the next one" if number else ""
    return f"after epoch {progress.epoch}{batches}"
