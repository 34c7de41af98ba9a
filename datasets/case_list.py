"""A CSV or JSON list of cases, written by hand or by a script."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets.cases import PARTS, few
from swin_unet.config import UserError

KEYS = ("image", "label", "name", "group", "part")


@dataclass(frozen=True)
class Row:
    """One case of a list.

    Attributes:
        images: One file with all channels, or one per channel; as written.
        label: None: unlabelled.
        name: None: the image's.
        group: None: the case alone.
        part: One of PARTS; None: none.
    """

    images: tuple[str, ...]
    label: str | None = None
    name: str | None = None
    group: str | None = None
    part: str | None = None


def read_list(path: Path) -> list[Row]:
    """Read a list of cases.

    CSV: a header of `image`, `label`, `name`, `group`, `part`, all but the first optional; commas,
    tabs or semicolons between columns; several images by `;` or `|`. JSON: a list of objects of
    these keys, where `image` may be a list, or an object that holds it under `cases`.

    Raises:
        UserError: Unreadable file, unknown columns, no rows, or a row without image.
    """
    text = _read_text(path)
    is_json = path.suffix.lower() == ".json"
    records = list(_json_records(path, text) if is_json else _csv_records(path, text))
    if not records:
        raise _fault(path, "cases", "none", "Write one row per case below the header.")
    return [_row(path, number, record) for number, record in enumerate(records, start=1)]


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        found = error.strerror or "none"
        raise _fault(path, "a CSV or JSON list of cases", found, "Check the path.") from error
    except UnicodeDecodeError as error:
        raise _fault(path, "text in UTF-8", "other bytes", "Save it as UTF-8.") from error


def _csv_records(path: Path, text: str) -> Iterator[dict[str, Any]]:
    header = text.partition("\n")[0]
    delimiter = next((mark for mark in "\t,;" if mark in header), ",")
    reader = csv.DictReader(text.splitlines(), delimiter=delimiter, strict=True)
    marks = ("|",) if delimiter == ";" else ("|", ";")
    try:
        _check_keys(path, [name.strip() for name in reader.fieldnames or ()])
        for record in reader:
            if None in record:
                raise _fault(path, "as many cells as columns", str(record[None]), "Correct it.")
            cells = {key.strip(): (value or "").strip() for key, value in record.items()}
            if any(cells.values()):
                yield {**cells, "image": _several(cells["image"], marks)}
    except csv.Error as error:
        raise _fault(path, "a CSV table", str(error), "Save it as CSV.") from error


def _several(cell: str, marks: Iterable[str]) -> list[str]:
    for mark in marks:
        cell = cell.replace(mark, "\n")
    return [part.strip() for part in cell.splitlines() if part.strip()]


def _json_records(path: Path, text: str) -> Iterator[dict[str, Any]]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise _fault(path, "valid JSON", str(error), "Correct the file.") from error
    records = content.get("cases") if isinstance(content, dict) else content
    if not isinstance(records, list) or not all(isinstance(item, dict) for item in records):
        expected = "a list of objects, or one under `cases`"
        raise _fault(path, expected, "something else", f"Give each the keys {', '.join(KEYS)}.")
    for record in records:
        _check_keys(path, list(record))
        images = record["image"]
        yield {**record, "image": images if isinstance(images, list) else [images]}


def _check_keys(path: Path, keys: list[str]) -> None:
    wrong = [key for key in keys if key not in KEYS or keys.count(key) > 1]
    if wrong or "image" not in keys:
        found = f"`{few(wrong)}`" if wrong else f"no `image` in `{', '.join(keys)}`"
        expected = f"the columns or keys {', '.join(KEYS)}, of which `image` is needed"
        raise _fault(path, expected, found, "Rename or remove it.")


def _row(path: Path, number: int, record: dict[str, Any]) -> Row:
    cells = {key: _text(path, number, record.get(key)) for key in KEYS[1:]}
    images = [_text(path, number, image) for image in record["image"]]
    if not images or None in images:
        raise _fault(path, f"an image in row {number}", "none", "Fill in the path.")
    if cells["part"] not in (None, *PARTS):
        expected = f"one of {', '.join(PARTS)} or nothing as part in row {number}"
        raise _fault(path, expected, f"'{cells['part']}'", "Correct it.")
    if re.search(r"[/\\]", cells["name"] or ""):
        expected = f"a name that can be a file's in row {number}"
        raise _fault(path, expected, f"'{cells['name']}'", "Leave out the slashes.")
    return Row(tuple(image for image in images if image), **cells)


def _text(path: Path, number: int, value: Any) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str | int):
        expected = f"text in every field of row {number}"
        raise _fault(path, expected, repr(value), "Write paths and names in quotes.")
    return str(value)


def _fault(path: Path, expected: str, found: str, fix: str) -> UserError:
    return UserError(path, expected=expected, found=found, fix=fix)
