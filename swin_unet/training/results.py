"""What a run comes to: best and last epoch side by side, per class and per case."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from swin_unet import checkpoint as checkpoints
from swin_unet.provenance import write_json
from swin_unet.training.engine import Trainer
from swin_unet.training.record import logger

MAX_CASES = 10
# Which checkpoint a result is of; the last one's is never chosen by a score.
NAMES = {"best": "best.pt", "last": "last.pt"}
Results = dict[str, dict[str, Any]]


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
        logger.info("\n".join(["validation cases", *class_table(results)]))
        logger.info("\n".join(case_table(results["best"])))
    if data.test and trainer.config.train.test:
        path = trainer.folder / "test_metrics.json"
        results, seconds = _test_results(trainer, path)
        _write(trainer, path, {**results, "seconds_per_case": seconds})
        title = "test cases, which trained nothing and chose nothing"
        logger.info("\n".join([title, *class_table(results)]))


def _write(trainer: Trainer, path: Path, content: dict[str, Any]) -> None:
    if trainer.world.is_first:
        write_json(path, content)


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


def class_table(results: Results) -> list[str]:
    """Write Dice, and HD95 where it was computed, of every class by the best and the last epoch."""
    by_epoch = {result["epoch"]: result for result in results.values()}
    columns = [
        (key if len(by_epoch) == 1 else f"{key} {result['checkpoint']}", key, result)
        for key in ("dice", "hd95_mm")
        for result in by_epoch.values()
        if result["mean"][key] is not None
    ]
    rows = [["class", *(title for title, _, _ in columns)]]
    for name in results["best"]["classes"]:
        rows.append([name, *(_number(r["per_class"][name][key]) for _, key, r in columns)])
    rows.append(["mean", *(_number(r["mean"][key]) for _, key, r in columns)])
    epochs = ", ".join(f"{r['checkpoint']} of epoch {r['epoch']}" for r in results.values())
    return [f"{len(results['best']['cases'])} cases, {epochs}", *align(rows)]


def case_table(result: dict[str, Any]) -> list[str]:
    """Write the Dice of the worst cases, worst first."""
    classes = result["classes"]
    dice = {
        case["case"]: [case["metrics"][name]["dice"] for name in classes]
        for case in result["cases"]
    }
    means = {name: _mean(values) for name, values in dice.items()}
    worst = sorted((name for name in means if means[name] is not None), key=lambda n: means[n] or 0)
    rows = [["case", *classes, "mean"]]
    for name in worst[:MAX_CASES]:
        rows.append([name, *(_number(value) for value in (*dice[name], means[name]))])
    title = f"Dice of the worst cases by {result['checkpoint']}, worst first"
    return [title, *align(rows)]


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Write a table, its first column to the left and the others to the right."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return [
        "  ".join(
            [
                f"  {row[0].ljust(widths[0])}",
                *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
            ]
        )
        for row in rows
    ]
