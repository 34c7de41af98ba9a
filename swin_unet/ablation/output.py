"""Everything a study folder shows, written anew from the files of the finished runs."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from swin_unet.ablation.board import write_board
from swin_unet.ablation.execute import is_done, measured
from swin_unet.ablation.page import write_page
from swin_unet.ablation.plan import PlannedRun, replicates
from swin_unet.ablation.plots import draw_plots
from swin_unet.ablation.results import Cost, Result, collect
from swin_unet.ablation.study import Study
from swin_unet.ablation.tables import write_tables

Networks = Mapping[str, tuple[int, int]]


def write_results(
    folder: Path,
    study: Study,
    runs: Sequence[PlannedRun],
    networks: Networks,
    notes: Sequence[str],
    overlays: Mapping[str, Path],
) -> str:
    """Write tables, plots, index.html and the TensorBoard folder.

    Args:
        folder: The study's.
        study: What is compared.
        runs: All planned runs; what is not done yet is left out and counted.
        networks: Setting to parameters and MACs.
        notes: For the reader, a sentence each.
        overlays: Title to picture, for the page.

    Returns:
        The tables as text, empty while no run is done.
    """
    finished = {run.folder: measured(run) for run in runs if is_done(run)}
    results = _collect(study, runs, networks, finished)
    if not results:
        return ""
    text = write_tables(folder, study, results, notes)
    draw_plots(folder, study, results)
    varied = sorted({key for setting in study.settings for key in setting.overrides})
    write_board(folder / "tensorboard", runs, varied, finished)
    write_page(folder, study, results, notes, overlays)
    return text


def _collect(
    study: Study,
    runs: Sequence[PlannedRun],
    networks: Networks,
    finished: Mapping[Path, Mapping[str, Any]],
) -> list[Result]:
    by_setting = {setting.name: replicates(runs, setting.name) for setting in study.settings}
    done = {
        name: [run for run in planned if run.folder in finished]
        for name, planned in by_setting.items()
    }
    summaries = {name: [finished[run.folder] for run in group] for name, group in done.items()}
    costs = {name: _cost(group, networks[name], finished) for name, group in done.items()}
    planned = {name: len(group) for name, group in by_setting.items()}
    return collect(summaries, planned, costs, study.baseline)


def _cost(
    runs: Sequence[PlannedRun],
    network: tuple[int, int],
    finished: Mapping[Path, Mapping[str, Any]],
) -> Cost:
    rows = [row for run in runs for row in _rows(run.folder / "metrics.csv")]
    seconds = [float(row["train/seconds"]) for row in rows if row.get("train/seconds")]
    memory = [float(row["train/peak_memory_mb"]) for row in rows if row.get("train/peak_memory_mb")]
    tests = [finished[run.folder].get("seconds_per_case") for run in runs]
    timed = [value for value in tests if value is not None]
    return Cost(
        parameters=network[0],
        macs=network[1],
        train_minutes=sum(seconds) / len(runs) / 60 if runs and seconds else None,
        test_seconds=fmean(timed) if timed else None,
        peak_memory_mb=max(memory, default=None),
    )


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf8") as file:
        return list(csv.DictReader(file))
