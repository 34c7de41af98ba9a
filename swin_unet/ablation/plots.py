"""Pictures of a study: Dice with intervals, Dice per class, Dice against cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from swin_unet.ablation.results import Result
from swin_unet.ablation.study import Study
from swin_unet.files import atomic_path

PLOTS = {
    "dice.png": "Mean Dice on the test cases; bars: 95 % interval over the cases",
    "classes.png": "Dice per class",
    "macs.png": "Dice against multiply-accumulates of one slice; size: parameters",
}


def draw_plots(folder: Path, study: Study, results: Sequence[Result]) -> list[str]:
    """Write the pictures and return their names; the last only where MACs are known."""
    _save(folder / "dice.png", study, _draw_dice, results)
    _save(folder / "classes.png", study, _draw_classes, results)
    with_macs = [result for result in results if result.cost.macs]
    if with_macs:
        _save(folder / "macs.png", study, _draw_macs, with_macs)
    return [name for name in PLOTS if (folder / name).is_file()]


def _save(path: Path, study: Study, draw: Any, results: Sequence[Result]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(6.4, 1.1 * len(results) + 2), 4.2), layout="constrained")
    axes = figure.subplots()
    draw(axes, results)
    axes.set_title(study.title)
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def _draw_dice(axes: Any, results: Sequence[Result]) -> None:
    for offset, checkpoint in ((-0.08, "best"), (0.08, "last")):
        scores = [result.scores[checkpoint, "dice"] for result in results]
        drawn = [(x, score) for x, score in enumerate(scores) if score.mean is not None]
        means = [score.mean for _, score in drawn]
        bars = [
            [max(0, (score.mean or 0) - (score.low or 0)) for _, score in drawn],
            [max(0, (score.high or 0) - (score.mean or 0)) for _, score in drawn],
        ]
        positions = [x + offset for x, _ in drawn]
        label = "best epoch on validation" if checkpoint == "best" else "last epoch"
        axes.errorbar(positions, means, yerr=bars, fmt="o", capsize=4, label=label)
    axes.set_xticks(range(len(results)), [result.setting for result in results])
    axes.set_ylabel("Dice, mean over classes")
    axes.legend(fontsize="small")


def _draw_classes(axes: Any, results: Sequence[Result]) -> None:
    classes = list(results[0].scores["best", "dice"].per_class)
    width = 0.8 / len(results)
    for number, result in enumerate(results):
        values = [value or 0.0 for value in result.scores["best", "dice"].per_class.values()]
        shift = (number - (len(results) - 1) / 2) * width
        axes.bar([x + shift for x in range(len(classes))], values, width, label=result.setting)
    axes.set_xticks(range(len(classes)), classes, rotation=20 if len(classes) > 4 else 0)
    axes.set_ylabel("Dice")
    axes.set_ylim(0, 1)
    axes.legend(fontsize="small", ncols=min(4, len(results)), loc="lower right")


def _draw_macs(axes: Any, results: Sequence[Result]) -> None:
    largest = max(result.cost.parameters or 1 for result in results)
    for result in results:
        score, cost = result.scores["best", "dice"], result.cost
        if score.mean is None or cost.macs is None:
            continue
        size = 40 + 360 * (cost.parameters or 0) / largest
        axes.scatter(cost.macs / 1e9, score.mean, s=size, alpha=0.6)
        axes.annotate(
            result.setting,
            (cost.macs / 1e9, score.mean),
            textcoords="offset points",
            xytext=(6, 6),
        )
    axes.set(xlabel="MACs per slice, billions", ylabel="Dice, mean over classes")
    axes.margins(0.2)
