"""Report on a folder of predictions: python -m swin_unet.report PREDICTIONS --images DIR."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from swin_unet.config import UserError
from swin_unet.report.cases import ReportCase, Shown


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report that the command line asks for; return the exit code."""
    from swin_unet.cli import EXIT_PARTIAL, EXIT_USAGE
    from swin_unet.report.page import write_report

    arguments = _parser().parse_args(argv)
    summary = _read_json(arguments.predictions / "metrics.json")
    run = _read_json(arguments.predictions / "run.json")
    cases = find_report_cases(arguments.predictions, arguments.images, arguments.labels, summary)
    if arguments.labels is not None and not summary:
        print(
            "no metrics.json among the predictions, so no scores in the report: "
            "python -m swin_unet.evaluation PREDICTIONS LABELS writes it",
            file=sys.stderr,
        )
    output = arguments.output or arguments.predictions / "report.html"
    settings = run.pop("settings", {})
    window = settings.get("preprocessing", {}).get("window")
    failed = write_report(
        output,
        cases,
        Shown(_class_names(arguments.classes, run, summary), window),
        summary=summary,
        settings=settings,
        provenance={key: value for key, value in run.items() if key != "cases"},
    )
    print(f"{output} ({output.stat().st_size / 1e6:.1f} MB, {len(cases)} cases)")
    for name in failed:
        print(f"{name} could not be read; the report says why", file=sys.stderr)
    if not failed:
        return 0
    return EXIT_PARTIAL if len(failed) < len(cases) else EXIT_USAGE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m swin_unet.report",
        description="Make one HTML file to look at predictions, offline. Scores, statistics and "
        "provenance are taken from metrics.json, statistics.csv and run.json beside them.",
        epilog="Exit codes: 0 done, 1 unexpected failure, 2 wrong usage or input, 3 some cases "
        "could not be read.",
    )
    add = parser.add_argument
    add("predictions", type=Path, help="folder of predicted label maps")
    add("--images", type=Path, required=True, help="folder of the images")
    add("--labels", type=Path, help="folder of reference label maps")
    add("--output", type=Path, help="HTML file (default: report.html among the predictions)")
    add("--classes", metavar="A,B,C", help="names of labels 1, 2, ... (default: as the run knows)")
    return parser


def find_report_cases(
    predictions: Path, images: Path, labels: Path | None, summary: Mapping[str, Any]
) -> list[ReportCase]:
    """Pair predictions with images and references by name.

    Raises:
        UserError: For a prediction without an image or reference.
    """
    from swin_unet.imaging.inputs import find_cases, find_label

    for folder in (predictions, images):
        _check_folder(folder)
    by_name = {case.name: case for case in find_cases([images])}
    records = {case["case"]: case["metrics"] for case in summary.get("cases", [])}
    statistics = _read_statistics(predictions / "statistics.csv")
    found = []
    for prediction in find_cases([predictions]):
        name = prediction.name
        if name not in by_name:
            raise UserError(
                images,
                expected="an image for every prediction",
                found=f"none for {prediction.paths[0].name}",
                fix="Give the folder of the images that were segmented.",
            )
        found.append(
            ReportCase(
                name,
                by_name[name].paths,
                prediction.paths[0],
                None if labels is None else find_label(labels, by_name[name]),
                metrics=records.get(name),
                statistics=statistics.get(name),
            )
        )
    return found


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise UserError(
            folder,
            expected="a folder",
            found="a single file" if folder.exists() else "nothing there",
            fix="Check the path for typing errors.",
        )


def _read_json(path: Path) -> dict[str, Any]:
    """Read a file that infer.py or the evaluation wrote; empty if there is none."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf8"))
    except (ValueError, OSError) as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(content, dict):
        raise _damaged(path, type(content).__name__)
    return content


def _damaged(path: Path, found: str) -> UserError:
    return UserError(
        path,
        expected="what infer.py or the evaluation wrote",
        found=found,
        fix="Write it again, or move it away to do without.",
    )


def _read_statistics(path: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Read statistics.csv as records per case and class; empty if there is none."""
    if not path.is_file():
        return {}
    records: dict[str, dict[str, dict[str, Any]]] = {}
    with path.open(newline="", encoding="utf8") as file:
        for row in csv.DictReader(file):
            case, name = row.pop("case"), row.pop("class")
            values = {key: _number(text) for key, text in row.items()}
            records.setdefault(case, {})[name] = values
    return records


def _number(text: str) -> Any:
    if text in ("", "True", "False"):
        return {"": None, "True": True, "False": False}[text]
    try:
        return float(text)
    except ValueError:
        return text


def _class_names(
    text: str | None, run: Mapping[str, Any], summary: Mapping[str, Any]
) -> dict[int, str]:
    """Return the names of label values: as given, as infer.py or as the evaluation noted them."""
    if text is not None:
        names = [name.strip() for name in text.split(",")]
    else:
        names = run.get("classes") or summary.get("classes") or []
    if names and all(name.isdecimal() for name in names):
        return {int(name): name for name in names}  # the evaluation's, without --classes
    return dict(enumerate(names, start=1))


if __name__ == "__main__":
    from swin_unet.cli import run

    sys.exit(run(main))
