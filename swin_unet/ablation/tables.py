"""The results of a study as table.md, table.csv and table.tex."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path

from swin_unet.ablation.results import CHECKPOINTS, Result, Score
from swin_unet.ablation.study import Study
from swin_unet.files import atomic_path

Rows = list[list[str]]
_TITLES = {"best": "Best epoch on validation", "last": "Last epoch"}
READING = (
    "Dice and HD95 (mm) on test cases: mean ± standard deviation over the runs (seeds, folds); "
    "[95 % interval over the cases, bootstrap]; p: Wilcoxon signed-rank over the cases' mean Dice "
    "against the baseline, Holm-corrected. The interval says what other cases might give, the "
    "deviation what another seed might."
)


def write_tables(
    folder: Path, study: Study, results: Sequence[Result], notes: Sequence[str]
) -> str:
    """Write the three files.

    Returns:
        The text of table.md.
    """
    markdown = markdown_text(study, results, notes)
    contents = {
        "table.md": markdown,
        "table.csv": csv_text(results),
        "table.tex": latex_text(study, results),
    }
    for name, text in contents.items():
        with atomic_path(folder / name) as path:
            path.write_text(text, encoding="utf8")
    return markdown


def markdown_text(study: Study, results: Sequence[Result], notes: Sequence[str]) -> str:
    """Return both tables (best epoch, last epoch), the costs and what was held fixed."""
    parts = [f"# {study.title}", ""]
    for checkpoint in CHECKPOINTS:
        rows = score_rows(study, results, checkpoint)
        parts += [f"## {_TITLES[checkpoint]}", "", _markdown(rows), ""]
    parts += ["## Cost", "", _markdown(cost_rows(results)), ""]
    parts += [READING, "", *(f"- {note}" for note in notes), ""]
    return "\n".join(parts)


def score_rows(study: Study, results: Sequence[Result], checkpoint: str) -> Rows:
    """Return the header and one row per setting, and the paper's below where it belongs."""
    classes = list(results[0].scores[checkpoint, "dice"].per_class)
    header = ["setting", "runs", "cases", "Dice", "95 %", "p", "HD95, mm", *classes]
    return [
        header,
        *(_score_row(study, result, checkpoint) for result in results),
        *_published_rows(study, classes),
    ]


def cost_rows(results: Sequence[Result]) -> Rows:
    """Return the header and one row per setting."""
    header = ["setting", "parameters", "MACs", "training, min", "test, s per case", "memory, MB"]
    rows = [header]
    for result in results:
        cost = result.cost
        rows.append([
            result.setting,
            _text(cost.parameters, "{:,}".format),
            _text(cost.macs, lambda value: f"{value / 1e9:.3g} G"),
            _text(cost.train_minutes, "{:.1f}".format),
            _text(cost.test_seconds, "{:.2f}".format),
            _text(cost.peak_memory_mb, "{:.0f}".format),
        ])  # fmt: skip
    return rows


def csv_text(results: Sequence[Result]) -> str:
    """Return one row per setting, checkpoint and metric with full precision."""
    classes = list(results[0].scores["best", "dice"].per_class)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    head = ["setting", "checkpoint", "metric", "runs", "planned_runs", "cases", "mean"]
    costs = list(vars(results[0].cost))
    writer.writerow([*head, "deviation", "low", "high", "p_value", *classes, *costs])
    for result in results:
        counts = [result.num_runs, result.num_planned, result.num_cases]
        for (checkpoint, metric), score in result.scores.items():
            values = [score.mean, score.deviation, score.low, score.high, score.p_value]
            values += [score.per_class[name] for name in classes]
            cells = [*values, *vars(result.cost).values()]
            row = [result.setting, checkpoint, metric, *counts]
            writer.writerow([*row, *("" if cell is None else cell for cell in cells)])
    return stream.getvalue()


def latex_text(study: Study, results: Sequence[Result]) -> str:
    """Return the table of the best epochs for booktabs."""
    header, *rows = score_rows(study, results, "best")
    lines = [
        f"% {study.title}. {READING}",
        rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}",
        r"\toprule",
        _latex(header),
        r"\midrule",
        *(_latex(row) for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _score_row(study: Study, result: Result, checkpoint: str) -> list[str]:
    dice, hd95 = (result.scores[checkpoint, metric] for metric in ("dice", "hd95_mm"))
    is_baseline = result.setting == study.baseline
    return [
        f"{result.setting} (baseline)" if is_baseline else result.setting,
        _count(result),
        str(result.num_cases),
        _spread(dice, 4),
        _interval(dice),
        _text(dice.p_value, "{:.2g}".format),
        _spread(hd95, 2),
        *(_text(value, "{:.4f}".format) for value in dice.per_class.values()),
    ]


def _published_rows(study: Study, classes: Sequence[str]) -> Rows:
    if study.published is None:
        return []
    rows = []
    for name, row in study.published.dice.items():
        mean = _text(row.get("mean"), "{:.4f}".format)
        values = [_text(row.get(key), "{:.4f}".format) for key in classes]
        label = f"{name}, published ({study.published.source})"
        rows.append([label, "1", "12", mean, "", "", "", *values])
    return rows


def _count(result: Result) -> str:
    is_whole = result.num_runs == result.num_planned
    return str(result.num_runs) if is_whole else f"{result.num_runs} of {result.num_planned}"


def _spread(score: Score, digits: int) -> str:
    if score.mean is None:
        return ""
    spread = "" if score.deviation is None else f" ± {score.deviation:.{digits}f}"
    return f"{score.mean:.{digits}f}{spread}"


def _interval(score: Score) -> str:
    return "" if score.low is None else f"[{score.low:.4f}, {score.high:.4f}]"


def _text(value: float | None, form: Callable[[float], str]) -> str:
    return "" if value is None else form(value)


def _markdown(rows: Rows) -> str:
    lines = [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def _latex(cells: Sequence[str]) -> str:
    escaped = (
        cell.replace("%", r"\%").replace("_", r"\_").replace("±", r"$\pm$") for cell in cells
    )
    return " & ".join(escaped) + r" \\"
