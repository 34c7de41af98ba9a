"""progress.png: the losses, and the score of every class, over the epochs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from swin_unet.files import atomic_path

Row = dict[str, Any]
# What a validation's score is called, by its name in metrics.csv before the slash; only of the
# error less is better.
METRICS = {"dice": "Dice", "accuracy": "accuracy", "f1": "F1", "error": "error"}
_LOSSES = {"train/ce": "cross-entropy", "train/focal": "focal loss", "train/dice": "Dice loss"}
_LINES = ("-", "--", ":", "-.")
_LEGEND_ROWS = 18
_NUM_COLOURS = 10  # of matplotlib's cycle


def draw_progress(
    path: Path, rows: Sequence[Row], losses: Sequence[str], metric: str = "dice"
) -> None:
    """Draw the losses above the score of every class and their mean.

    Args:
        path: Of the picture; the name of its folder becomes the title.
        rows: Of metrics.csv, None where an epoch has no number.
        losses: Their columns; those of the score begin with the metric.
        metric: Of the validation's score, see `METRICS`.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(10, 8), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True)
    for name in losses:
        _plot(top, rows, name, _LOSSES.get(name, name.removeprefix("train/")))
    _draw_score(bottom, rows, metric)
    top.set(ylabel="training loss", title=path.parent.name)
    epochs = [row["epoch"] for row in rows]
    limits = min(epochs) - 0.5, max(epochs) + 0.5
    bottom.set(ylabel=f"validation {METRICS[metric]}", xlabel="epoch", xlim=limits)
    if metric != "error":
        bottom.set_ylim(-0.02, 1.02)
    bottom.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    for axes in (top, bottom):
        axes.grid(alpha=0.3)
        if axes.lines:  # beside the curves, so that it hides none, however many classes there are
            columns = -(-len(axes.lines) // _LEGEND_ROWS)
            place = {"loc": "upper left", "bbox_to_anchor": (1.01, 1)}
            axes.legend(fontsize="small", ncols=columns, **place)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=100, format="png")


def _draw_score(axes: Any, rows: Sequence[Row], metric: str) -> None:
    mean = f"{metric}/mean"
    _plot(axes, rows, mean, "mean", color="black", linewidth=2.5, zorder=3)
    names = dict.fromkeys(name for row in rows for name in row if name.startswith(f"{metric}/"))
    for number, name in enumerate(name for name in names if name != mean):
        line = _LINES[number // _NUM_COLOURS % len(_LINES)]
        _plot(axes, rows, name, name.removeprefix(f"{metric}/"), linestyle=line)
    scored = [row for row in rows if row.get(mean) is not None]
    if scored:
        sign = -1 if metric == "error" else 1
        best = max(scored, key=lambda row: sign * row[mean])
        label = f"best: {best[mean]:.4f}, epoch {best['epoch']}"
        axes.axvline(best["epoch"], color="grey", linestyle="--", linewidth=1, label=label)


def _plot(axes: Any, rows: Sequence[Row], name: str, label: str, **style: Any) -> None:
    points = [(row["epoch"], row[name]) for row in rows if row.get(name) is not None]
    if points:  # with dots, for a single one shows no line
        axes.plot(*zip(*points, strict=True), label=label, marker=".", **style)
