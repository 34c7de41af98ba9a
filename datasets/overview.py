"""What a data set holds, as a table and as sentences."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from datasets.cases import Case, Dataset, few

HEADINGS = ("case", "image", "label", "group")
SHOWN_CASES = 8


def pairing_table(dataset: Dataset, limit: int | None = SHOWN_CASES) -> str:
    """Show which image goes with which label map.

    Args:
        dataset: What to show.
        limit: Cases at most; None: all.

    Returns:
        One line per case under a heading, paths relative to what all have in common, and a count.
    """
    cases = dataset.cases[:limit]
    files = [path for case in dataset.cases for path in (*case.images, *case.labels)]
    base = Path(os.path.commonpath([path.parent.absolute() for path in files]) if files else ".")
    rows = [HEADINGS, *(_row(case, base, dataset.images_only) for case in cases)]
    if not any(case.group for case in dataset.cases):
        rows = [row[:3] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    hidden = len(dataset.cases) - len(cases)
    more = [f"... and {hidden} more"] if hidden else []
    return "\n".join([*lines, *more, f"{_count(dataset)} in {base}"])


def class_table(dataset: Dataset) -> str:
    """Count the pictures of every class."""
    assert dataset.targets is not None
    counts = Counter(dataset.targets.values())
    rows = [("class", "pictures"), *((n, str(counts[v])) for v, n in dataset.classes.items())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [f"{name.ljust(widths[0])}  {count.rjust(widths[1])}" for name, count in rows]
    return "\n".join([*lines, f"{len(dataset.cases)} pictures of {len(dataset.classes)} classes"])


def table_of(dataset: Dataset) -> str:
    """Show what a data set holds: pairs of files, or how many pictures of every class."""
    return pairing_table(dataset) if dataset.targets is None else class_table(dataset)


def absence_notes(dataset: Dataset) -> tuple[str, ...]:
    """Say what is not known: label maps, and which cases are of one patient."""
    if dataset.targets is not None:
        return ()
    notes = []
    unlabelled = [case.name for case in dataset.cases if not case.labels]
    if unlabelled:
        count = f"{len(unlabelled)} of {len(dataset.cases)} cases ({few(unlabelled)})"
        notes.append(f"without a label map, so in no part of a split: {count}")
    if len(dataset.cases) > 1 and not any(case.group for case in dataset.cases):
        notes.append(
            "nothing says which cases are of one patient: each is taken for a patient of its own; "
            "data.group_pattern or the column `group` of a list says otherwise"
        )
    return tuple(notes)


def _row(case: Case, base: Path, images_only: bool) -> tuple[str, ...]:
    label = _paths(case.labels, base, case.stacked) or "(none)"
    if images_only:
        label = "(not read)"
    elif case.labels == case.images:
        label = "(in the same file)" if len(case.images) == 1 else "(in the same files)"
    return case.name, _paths(case.images, base, case.stacked), label, case.group or ""


def _paths(paths: Sequence[Path], base: Path, stacked: bool) -> str:
    """Show one path, all channels, or the first of many slices."""
    names = [os.path.relpath(path.absolute(), base) for path in paths]
    if stacked:
        return f"{names[0]} ... ({len(names)} slices)"
    return ", ".join(names[:1] + [Path(name).name for name in names[1:]])


def _count(dataset: Dataset) -> str:
    num_labelled = sum(bool(case.labels) for case in dataset.cases)
    groups = {case.group for case in dataset.cases if case.group}
    cases = "1 case" if len(dataset.cases) == 1 else f"{len(dataset.cases)} cases"
    patients = f" of {len(groups)} patients" if groups else ""
    if dataset.images_only:
        return f"{cases}{patients}, none of whose labels is read,"
    return f"{cases}{patients}, {num_labelled} with labels,"
