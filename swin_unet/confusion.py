"""Confusion matrices as pictures."""

from __future__ import annotations

from typing import Any

import numpy as np

ANSWERS = ("true\nnegatives", "false\npositives", "false\nnegatives", "true\npositives")
MAX_NUMBERED = 20  # classes; beyond them numbers in the cells cannot be read


def confusion_picture(summary: dict[str, Any]) -> np.ndarray[Any, Any]:
    """Draw the confusion of a summary of `score_classes`.

    Single labels: true classes down, predicted ones to the right. Multi labels: a row per class
    with its four kinds of answers. Colours are shares of the row, numbers are counts.

    Returns:
        (H, W, 3) uint8.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    classes, is_multi = summary["classes"], summary["multi_label"]
    counts = np.array(summary["confusion"], dtype=np.int64).reshape(len(classes), -1)
    columns = ANSWERS if is_multi else classes
    side = 2.5 + 0.45 * min(len(classes), 40)
    figure = Figure(figsize=(5 if is_multi else side, side), layout="constrained", dpi=100)
    axes = figure.subplots()
    axes.imshow(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), "Blues", vmin=0, vmax=1)
    axes.set_aspect("auto")
    axes.set_xticks(range(len(columns)), columns, rotation=0 if is_multi else 90)
    axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="" if is_multi else "predicted", ylabel="class" if is_multi else "true class")
    if len(classes) <= MAX_NUMBERED:
        _write_counts(axes, counts)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _write_counts(axes: Any, counts: np.ndarray[Any, Any]) -> None:
    """Write the counts into the cells, white where the cell is dark."""
    totals = np.maximum(counts.sum(axis=1), 1)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if count > 0.6 * totals[row] else "black"
        axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)
