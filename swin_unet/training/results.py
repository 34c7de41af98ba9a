"""What a run comes to: best and last epoch side by side, per class and per case."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from torch import nn

from swin_unet import checkpoint as checkpoints
from swin_unet.confusion import confusion_picture
from swin_unet.overlays import save_picture
from swin_unet.provenance import write_json
from swin_unet.training.engine import Trainer
from swin_unet.training.record import logger
from swin_unet.training.tables import Results

# Which checkpoint a result is of; the last one's is never chosen by a score.
NAMES = {"best": "best.pt", "last": "last.pt"}


def finish(trainer: Trainer) -> None:
    """Tell how good the run's networks are on its validation cases, and score its test cases.

    Writes validation_metrics.json and test_metrics.json, each with the results of `best` and
    `last`, the second with the `seconds_per_case` of segmenting. The test cases are scored once
    for each network and choose nothing.

    Raises:
        Stopped: By a signal, to be continued.
        UserError: A case cannot be read.
    """
    data = trainer.task.data
    if data.validation:
        results = _validation_results(trainer)
        _write(trainer, trainer.folder / "validation_metrics.json", results)
        _tell(trainer, "validation cases", results)
    if data.test and trainer.config.train.test:
        path = trainer.folder / "test_metrics.json"
        results, seconds = _test_results(trainer, path)
        _write(trainer, path, {**results, "seconds_per_case": seconds})
        _tell(trainer, "test cases, which trained nothing and chose nothing", results)


def _tell(trainer: Trainer, title: str, results: Results) -> None:
    logger.info("\n".join([title, *chain.from_iterable(trainer.task.tables(results))]))


def _write(trainer: Trainer, path: Path, content: dict[str, Any]) -> None:
    """Write results, of a classification also its confusion as a picture."""
    if not trainer.world.is_first:
        return
    write_json(path, content)
    if "confusion" in content["best"]:
        picture = confusion_picture(content["best"])
        save_picture(path.with_name(path.name.replace("metrics.json", "confusion.png")), picture)


def _validation_results(trainer: Trainer) -> Results:
    """Return the results of the two validations, computed again where a restart has lost one."""
    results: Results = {}
    for name, known in trainer.keeper.validations.items():
        if known is None:
            network, epoch = _network(trainer, name)
            summary, _ = _score(trainer, network, trainer.task.data.validation, surfaces=False)
            known = {"epoch": epoch, **summary}
        results[name] = {"checkpoint": NAMES[name], **known}
    return results


def _test_results(trainer: Trainer, path: Path) -> tuple[Results, float | None]:
    """Return the results on the test cases: those of the file, as far as it is of these epochs.

    Returns:
        Them, and the seconds per case of the networks scored now, else those of the file.
    """
    known: Results = json.loads(path.read_text(encoding="utf8")) if path.is_file() else {}
    known_seconds: Any = known.pop("seconds_per_case", None)
    results: Results = {}
    seconds: list[float] = []
    for name in NAMES:
        network, epoch = _network(trainer, name)
        same = [
            result for result in (*known.values(), *results.values()) if result["epoch"] == epoch
        ]
        if not same:
            logger.info(f"scoring the test cases by {NAMES[name]} of epoch {epoch}")
            summary, taken = _score(trainer, network, trainer.task.data.test, surfaces=True)
            seconds.append(taken)
            same = [{"epoch": epoch, **summary}]
        results[name] = {**same[0], "checkpoint": NAMES[name]}
    return results, sum(seconds) / len(seconds) if seconds else known_seconds


def _network(trainer: Trainer, name: str) -> tuple[nn.Module, int]:
    """Return the network of a checkpoint, and the epoch it is of."""
    if name == "last":
        return trainer.stepper.result, trainer.progress.epoch
    path = trainer.folder / NAMES[name]
    content = checkpoints.load(path)
    return checkpoints.load_model(content, path).to(trainer.device), content["epoch"]


def _score(
    trainer: Trainer, network: nn.Module, names: Sequence[str], *, surfaces: bool
) -> tuple[dict[str, Any], float]:
    with trainer.stop:
        return trainer.task.score(network, names, trainer.raise_if_signalled, surfaces=surfaces)
