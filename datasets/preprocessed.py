"""What the preprocessed files of Synapse and ACDC have in common: single slices, and lists."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets.cases import Case, few
from datasets.pairing import check_names
from swin_unet.config import UserError

SEARCH_DEPTH = 4
WHOLE = -1
_ENDING = re.compile(r"\.(npz|npy\.h5|h5|npy|nii\.gz)$")


@dataclass(frozen=True)
class SliceFile:
    """One slice of a volume, or a whole one.

    Attributes:
        case: Name of the volume.
        number: Of the slice; WHOLE: it is the volume.
        path: Holds its image and its label map.
    """

    case: str
    number: int
    path: Path


def walk(root: Path, depth: int = SEARCH_DEPTH) -> Iterator[Path]:
    """Yield what lies in a folder and so many levels below it, in order, hidden names left out."""
    for path in sorted(root.iterdir()):
        if path.name.startswith("."):
            continue
        yield path
        if depth > 0 and path.is_dir():
            yield from walk(path, depth - 1)


def parse_slices(paths: Iterable[Path], pattern: re.Pattern[str]) -> list[SliceFile]:
    """List the files whose stem is CASE and NUMBER, the groups of the pattern, in this order."""
    found = []
    for path in paths:
        match = pattern.fullmatch(stem(path.name))
        if match:
            found.append(SliceFile(match["case"], int(match["number"]), path))
    return sorted(found, key=lambda item: (item.case, item.number))


def stack_slices(slices: Sequence[SliceFile], groups: re.Pattern[str]) -> list[Case]:
    """Make one case of the slices of each volume, or of the whole volume.

    Args:
        slices: In order.
        groups: Finds the group in the name of a case.

    Raises:
        UserError: A slice or volume that is there twice.
    """
    stacks: dict[str, list[SliceFile]] = defaultdict(list)
    for item in slices:
        stacks[item.case].append(item)
    cases = []
    for name, items in stacks.items():
        check_names(items[0].path.parent, [_title(item) for item in items])
        files = tuple(item.path for item in items)
        stacked = items[0].number != WHOLE
        cases.append(Case(name, files, files, group=group_of(name, groups), stacked=stacked))
    return cases


def group_of(name: str, pattern: re.Pattern[str]) -> str:
    """Return what the pattern finds in a name, or all of it."""
    match = pattern.search(name)
    return match[0] if match else name


def _title(item: SliceFile) -> str:
    return item.case if item.number == WHOLE else f"{item.case} slice {item.number}"


def gap_notes(slices: Sequence[SliceFile]) -> list[str]:
    """Say of which volumes slices are missing in between."""
    numbers: dict[str, list[int]] = defaultdict(list)
    for item in slices:
        numbers[item.case].append(item.number)
    broken = [
        f"{name} (slices {found[0]} to {found[-1]}, {found[-1] - found[0] + 1 - len(found)} gone)"
        for name, found in numbers.items()
        if found[-1] - found[0] + 1 != len(found)
    ]
    text = f"slices are missing in between and the others are stacked without them: {few(broken)}"
    return [text] if broken else []


def find_list(places: Iterable[Path], name: str) -> Path | None:
    """Return the first list of this name in some folders."""
    return next((place / name for place in places if (place / name).is_file()), None)


def read_names(path: Path) -> list[str]:
    """Read a list of names, one a line, without folders and endings.

    Raises:
        UserError: Unreadable or empty file.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            path, expected="a list of names", found=str(error), fix="Restore it."
        ) from error
    names = [stem(Path(line.strip()).name) for line in lines if line.strip()]
    if not names:
        raise UserError(
            path, expected="one name a line", found="an empty file", fix="Restore or remove it."
        )
    return list(dict.fromkeys(names))


def stem(name: str) -> str:
    """Return a file name without its ending."""
    return _ENDING.sub("", name)


def choose(files: Sequence[SliceFile], path: Path, notes: list[str]) -> list[SliceFile]:
    """Return the files that a list names, by slice or by case; note what it names in vain."""
    names = set(read_names(path))
    chosen = [item for item in files if {stem(item.path.name), item.case} & names]
    found = {name for item in chosen for name in (stem(item.path.name), item.case)}
    missing = sorted(names - found)
    if missing:
        notes.append(f"files that {path} names are not there: {len(missing)} ({few(missing)})")
    return chosen
