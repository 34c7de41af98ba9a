"""Problems of a data set, and the table that shows them."""

from __future__ import annotations

import shutil
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from swin_unet.config import UserError

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")
HEADINGS = ("severity", "case", "file", "problem", "what to do")
# So many cases with a problem of one kind are shown; the JSON file has them all.
SHOWN = {"error": 20, "warning": 3, "info": 1}
NARROWEST, WIDEST = 100, 200


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, or worth knowing.

    Attributes:
        kind: What sort of problem, a few words; equal kinds are shown together.
        severity: `error`: training, or the test of what it made, refuses the data. `warning`: it
            runs and the result may be worthless. `info`: it is dealt with.
        case: Name of the case, empty for the data set as a whole.
        file: The file or option at fault, empty where there is none.
        message: What is wrong.
        fix: What to do about it.
    """

    kind: str
    severity: Severity
    case: str
    file: str
    message: str
    fix: str

    @classmethod
    def from_error(cls, error: UserError, kind: str, case: str = "") -> Problem:
        """Turn what training would stop with into a row."""
        message = f"expected {error.expected}, found {error.found}"
        return cls(kind, "error", case, error.subject, message, error.fix)


def count_severities(problems: Iterable[Problem]) -> dict[str, int]:
    """Return the number of problems of every severity."""
    counts = Counter(problem.severity for problem in problems)
    return {severity: counts[severity] for severity in SEVERITIES}


def sort_problems(problems: Iterable[Problem]) -> list[Problem]:
    """Put the gravest first and equal kinds together; the data set comes before its cases."""
    problems = list(dict.fromkeys(problems))
    first = {problem.kind: index for index, problem in reversed(list(enumerate(problems)))}
    return sorted(
        problems,
        key=lambda problem: (
            SEVERITIES.index(problem.severity),
            bool(problem.case),
            first[problem.kind],
            problem.case,
        ),
    )


def format_table(problems: Sequence[Problem], root: Path | None) -> str:
    """Lay problems out as a table as wide as the terminal.

    Args:
        problems: As `sort_problems` returns them.
        root: Paths below it are shown relative to it.
    """
    rows = [HEADINGS, *_rows(problems, root)]
    width = min(max(shutil.get_terminal_size((140, 24)).columns, NARROWEST), WIDEST)
    widths = _column_widths(rows, width)
    lines = [line for row in rows for line in _wrapped(row, widths)]
    num_heading_lines = len(list(_wrapped(HEADINGS, widths)))
    lines.insert(num_heading_lines, "  ".join("-" * count for count in widths))
    return "\n".join(lines)


def align_columns(rows: Sequence[Sequence[str]]) -> str:
    """Lay a small table out, the first column to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return "\n".join(lines)


def _rows(problems: Sequence[Problem], root: Path | None) -> Iterator[tuple[str, ...]]:
    """Yield the cells of the first cases of every kind, and how many more there are."""
    totals = Counter((problem.severity, problem.kind) for problem in problems)
    seen: Counter[tuple[str, str]] = Counter()
    for problem in problems:
        key = problem.severity, problem.kind
        seen[key] += 1
        limit = SHOWN[problem.severity]
        if seen[key] <= limit or not problem.case:
            file = _relative(problem.file, root)
            yield problem.severity, problem.case, file, problem.message, problem.fix
        elif seen[key] == limit + 1:
            count = totals[key] - limit
            yield problem.severity, f"{count} more", "", f"as above: {problem.kind}", ""


def _relative(file: str, root: Path | None) -> str:
    path = Path(file)
    is_below = root is not None and path != root and path.is_relative_to(root)
    return path.relative_to(root).as_posix() if root is not None and is_below else file


def _column_widths(rows: Sequence[Sequence[str]], width: int) -> list[int]:
    """Give severity and case what they need, file up to a third, and share the rest 3 to 2."""
    needed = [max(_length(row[column]) for row in rows) for column in range(len(HEADINGS))]
    case, file = min(needed[1], width // 5), min(needed[2], width // 4)
    rest = width - needed[0] - case - file - 2 * (len(HEADINGS) - 1)
    message = min(needed[3], max(rest * 3 // 5, rest - needed[4]))
    return [needed[0], case, file, message, min(needed[4], rest - message)]


def _length(cell: str) -> int:
    return max(map(len, cell.splitlines()), default=0)


def _wrap(line: str, width: int) -> list[str]:
    return textwrap.wrap(line, width, break_on_hyphens=False)


def _wrapped(row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    """Yield the lines of a row; long words such as paths are broken."""
    cells = [
        [part for line in cell.splitlines() for part in _wrap(line, width)] or [""]
        for cell, width in zip(row, widths, strict=True)
    ]
    for number in range(max(map(len, cells))):
        parts = [cell[number] if number < len(cell) else "" for cell in cells]
        line = "  ".join(part.ljust(width) for part, width in zip(parts, widths, strict=True))
        yield line.rstrip()
