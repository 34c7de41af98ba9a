"""Put the page together, case by case, so that memory does not grow with their number."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any, TextIO

from swin_unet.config import UserError
from swin_unet.files import atomic_path
from swin_unet.report.cases import ReportCase, Shown, read_case

# Of the encoded pictures: one case alone, and all cases together.
CASE_BYTES = 11_000_000
REPORT_BYTES = 60_000_000
_SCRIPTS = (
    "volume.js", "planes.js", "viewer.js", "tables.js", "windows.js", "navigation.js", "page.js",
)  # fmt: skip


def write_report(
    path: Path,
    cases: Sequence[ReportCase],
    shown: Shown,
    *,
    summary: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> list[str]:
    """Write one HTML file that needs no other file and no network.

    Args:
        path: The file; replaced if it exists.
        cases: What to show; a case that cannot be read is listed with the reason.
        shown: How to show them.
        summary: Content of metrics.json, for its protocol and means.
        settings: What the run was asked to do, by name.
        provenance: What the run was made by, by name.

    Returns:
        Names of the cases whose files could not be read.

    Raises:
        UserError: When the file cannot be written.
    """
    budget = min(CASE_BYTES, REPORT_BYTES // max(1, len(cases)))
    head, tail = _template().split("{{cases}}")
    records, failed = [], []
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf8") as file:
        file.write(head)
        for number, case in enumerate(cases):
            record = _write_case(file, number, case, shown, budget)
            records.append(record)
            if record["error"] is not None and case.error is None:
                failed.append(case.name)
        content = {
            "cases": records,
            "classes": [{"value": value, "name": name} for value, name in shown.classes.items()],
            "protocol": summary["protocol"] if summary else None,
            "summary": _means(summary),
            "settings": settings or {},
            "provenance": provenance or {},
        }
        _write_json(file, "report", content)
        file.write(tail)
    return failed


def _means(summary: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return {key: summary[key] for key in ("mean", "per_class")} if summary else None


def _write_case(
    file: TextIO, number: int, case: ReportCase, shown: Shown, budget: int
) -> dict[str, Any]:
    """Write the pictures of a case; return what the page must know before they are unpacked."""
    record = {
        key: value for key, value in asdict(case).items() if not key.endswith(("path", "paths"))
    }
    if case.error is not None:
        return {**record, "volumes": []}
    try:
        content = read_case(case, shown, budget)
    except UserError as error:
        return {**record, "volumes": [], "error": str(error)}
    volumes = content.pop("volumes")
    _write_json(file, f"case-{number}", content)
    return {**record, "volumes": volumes, "has_reference": case.label_path is not None}


def _write_json(file: TextIO, name: str, content: Mapping[str, Any]) -> None:
    """Write a data block; no text in it can end the block."""
    file.write(f'<script type="application/json" id="{name}">')
    text = json.dumps(content, allow_nan=False, default=str, separators=(",", ":"))
    file.write(text.replace("<", "\\u003c"))
    file.write("</script>\n")


def _template() -> str:
    """Return the page with its style and scripts in place, `{{cases}}` left open."""
    folder = files("swin_unet.report")
    page, style = (folder.joinpath(name).read_text("utf8") for name in ("page.html", "page.css"))
    scripts = "\n".join(folder.joinpath(name).read_text("utf8") for name in _SCRIPTS)
    return page.replace("{{style}}", style).replace("{{script}}", scripts)
