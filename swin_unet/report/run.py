"""The report of a run of infer.py, from what the run knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swin_unet.report.cases import ReportCase, Shown
from swin_unet.report.page import write_report

if TYPE_CHECKING:
    from swin_unet.imaging.inputs import InputCase


def write_run_report(
    folder: Path,
    cases: Sequence[InputCase],
    labels: Path | None,
    *,
    outcomes: Sequence[Mapping[str, Any]],
    records: Sequence[Mapping[str, Any]],
    summary: Mapping[str, Any] | None,
    facts: Mapping[str, Any],
) -> Path:
    """Write report.html among the predictions; the files are read again, one case at a time.

    Args:
        folder: The predictions.
        cases: What was segmented.
        labels: Folder of the reference label maps.
        outcomes: Of each case in order: `error`, if it failed.
        records: Of the cases that did not: `case`, and `statistics` if they were measured.
        summary: Content of metrics.json.
        facts: Content of run.json: `classes` and `settings`, and what made the run.

    Returns:
        The path of the report.
    """
    from swin_unet.imaging.inputs import find_label

    scores = {case["case"]: case["metrics"] for case in summary["cases"]} if summary else {}
    statistics = {record["case"]: record.get("statistics") for record in records}
    content = [
        ReportCase(
            case.name,
            case.paths,
            folder / case.output_name,
            None if labels is None else find_label(labels, case),
            metrics=scores.get(case.name),
            statistics=statistics.get(case.name),
            error=outcome.get("error"),
        )
        for case, outcome in zip(cases, outcomes, strict=True)
    ]
    settings = facts["settings"]
    classes = dict(enumerate(facts["classes"], start=1))
    window = settings["preprocessing"]["window"]
    provenance = {key: value for key, value in facts.items() if key != "settings"}
    path = folder / "report.html"
    write_report(
        path,
        content,
        Shown(classes, window),
        summary=summary,
        settings=settings,
        provenance=provenance,
    )
    return path
