"""Results as tables of text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

MAX_CASES = 10
Results = dict[str, dict[str, Any]]


def class_table(results: Results, keys: Sequence[str]) -> list[str]:
    """Write numbers of every class by the best and the last epoch.

    Args:
        results: Of the `best` and the `last` epoch.
        keys: Of `mean` and `per_class`; one that was not computed is left out.
    """
    by_epoch = {result["epoch"]: result for result in results.values()}
    columns = [
        (key if len(by_epoch) == 1 else f"{key} {result['checkpoint']}", key, result)
        for key in keys
        for result in by_epoch.values()
        if result["mean"][key] is not None
    ]
    rows = [["class", *(title for title, _, _ in columns)]]
    for name in results["best"]["classes"]:
        rows.append([name, *(_number(r["per_class"][name][key]) for _, key, r in columns)])
    rows.append(["mean", *(_number(r["mean"][key]) for _, key, r in columns)])
    epochs = ", ".join(f"{r['checkpoint']} of epoch {r['epoch']}" for r in results.values())
    num_cases = len(results["best"]["cases"])
    return [f"{num_cases} case{'s' if num_cases > 1 else ''}, {epochs}", *align(rows)]


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
