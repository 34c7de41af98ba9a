"""A study in TensorBoard: one run per training, and the hparams tab."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from swin_unet.ablation.plan import PlannedRun

Plain = Mapping[str, Any]


def write_board(
    folder: Path, runs: Sequence[PlannedRun], varied: Sequence[str], measured: Mapping[Path, Plain]
) -> None:
    """Write the curves and results of the finished runs anew.

    Args:
        folder: For the event files; replaced.
        runs: All planned runs; those without a result are left out.
        varied: The options that the study varies, shown as hyper-parameters.
        measured: Run folder to the content of its test_metrics.json.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for run in runs:
        if run.folder in measured:
            _write_run(folder / _folder_name(run), run, varied, measured[run.folder])


def _write_run(folder: Path, run: PlannedRun, varied: Sequence[str], results: Plain) -> None:
    from torch.utils.tensorboard import SummaryWriter
    from torch.utils.tensorboard.summary import hparams

    parameters = {key: _look_up(run.config, key) for key in varied} | {"seed": run.seed}
    parameters["setting"] = run.setting
    metrics = {
        f"test/{metric}_{checkpoint}": results[checkpoint]["mean"][metric]
        for checkpoint in ("best", "last")
        for metric in ("dice", "hd95_mm")
        if results[checkpoint]["mean"][metric] is not None
    }
    with SummaryWriter(str(folder)) as writer:
        # The writer's own method would put the results into a run of their own.
        assert writer.file_writer is not None
        for summary in hparams(parameters, metrics):
            writer.file_writer.add_summary(summary)
        for name, value in metrics.items():
            writer.add_scalar(name, value, 0)
        for epoch, name, value in _curves(run.folder / "metrics.csv"):
            writer.add_scalar(name, value, epoch)


def _curves(path: Path) -> list[tuple[int, str, float]]:
    with path.open(newline="", encoding="utf8") as file:
        rows = list(csv.DictReader(file))
    return [
        (int(row["epoch"]), name, float(value))
        for row in rows
        for name, value in row.items()
        if value and name not in ("epoch", "step")
    ]


def _look_up(config: Plain, key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = value[part]
    return value if isinstance(value, bool | int | float | str) else str(value)


def _folder_name(run: PlannedRun) -> str:
    name = "".join(c if c.isalnum() or c in "._-" else "_" for c in run.setting)
    fold = "" if run.fold is None else f"-fold{run.fold}"
    return f"{name}-seed{run.seed}{fold}"
