"""Scores as files and as a table."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from swin_unet.evaluation.scores import COUNTED_OUTCOMES
from swin_unet.files import atomic_path
from swin_unet.metrics import METRICS

_COLUMNS = {
    "strict": ("dice", "hd95_mm", "surface_dice", "precision", "recall"),
    "paper": ("dice", "hd95_pooled_voxels"),
}
_TITLES = {
    "strict": "Protocol: strict (HD95 in mm, a missed or invented organ is penalised)",
    "paper": "Protocol: paper (pooled HD95 in voxels, a missed organ has HD95 0, an invented one "
    "Dice 1;\nfor comparison with published Swin-Unet tables only)",
}


def write_metrics(summary: Mapping[str, Any], folder: Path) -> None:
    """Write metrics.json and metrics.csv (one row per case and class, undefined cells empty)."""
    with atomic_path(folder / "metrics.json") as path:
        path.write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n", encoding="utf8")
    rows = [
        {"protocol": summary["protocol"], "case": case["case"], "class": name, **record}
        for case in summary["cases"]
        for name, record in case["metrics"].items()
    ]
    columns = ["protocol", "case", "class", *METRICS, "outcome"]
    with (
        atomic_path(folder / "metrics.csv") as path,
        path.open("w", newline="", encoding="utf8") as file,
    ):
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def print_table(summary: Mapping[str, Any]) -> None:
    """Print the means per class, their intervals and the worst cases, headed by the protocol."""
    print(f"{_TITLES[summary['protocol']]}\nCases: {len(summary['cases'])}")
    _print_columns(_mean_rows(summary))
    if "surface_dice" in _COLUMNS[summary["protocol"]]:
        print(f"surface_dice: within {summary['tolerance_mm']:g} mm")
    _print_confidence(summary)
    _print_worst(summary)


def _mean_rows(summary: Mapping[str, Any]) -> list[list[str]]:
    columns = [*_COLUMNS[summary["protocol"]], *COUNTED_OUTCOMES]
    per_class = summary["per_class"]
    counts = {key: sum(values[key] for values in per_class.values()) for key in COUNTED_OUTCOMES}
    rows = [["class", *columns]]
    for name, values in {**per_class, "mean, total": {**summary["mean"], **counts}}.items():
        rows.append([name, *(_format(values[column]) for column in columns)])
    return rows


def _print_confidence(summary: Mapping[str, Any]) -> None:
    """Print the intervals, if there is more than one case."""
    confidence = summary["confidence"]
    columns = _COLUMNS[summary["protocol"]]
    rows = [
        [name, *(_format_interval(intervals.get(column)) for column in columns)]
        for name, intervals in {**confidence["per_class"], "mean": confidence["mean"]}.items()
    ]
    if any(cell != "-" for row in rows for cell in row[1:]):
        print(f"{confidence['level']:.0%} intervals, bootstrap over cases")
        _print_columns([["class", *columns], *rows])


def _print_worst(summary: Mapping[str, Any]) -> None:
    """Print the worst cases, if there is a choice."""
    if len(summary["cases"]) < 2 or not summary["worst"]:
        return
    print("worst cases by Dice, and the worst class of each")
    rows = []
    for row in summary["worst"]:
        outcome = "" if row["outcome"] == "both" else f" ({row['outcome']})"
        worst = f"{row['worst_class']} {row['worst_dice']:.4f}{outcome}"
        rows.append([row["case"], f"{row['dice']:.4f}", worst])
    _print_columns(rows)


def _print_columns(rows: list[list[str]]) -> None:
    """Print a table, numbers to the right."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    for first, *others in rows:
        cells = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        print("  ".join([first.ljust(widths[0]), *cells]))


def _format(value: float | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.4f}"


def _format_interval(interval: list[float] | None) -> str:
    return "-" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"
