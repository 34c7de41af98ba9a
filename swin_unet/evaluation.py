"""Score predicted label maps against reference ones: metrics.json, metrics.csv and a table.

Means: per class over the cases, leaving out undefined values (NaN, null in the files), which the
counts `missed`, `false_positive` and `absent` account for; `mean` is the mean of the classes.
What is undefined, and what the protocols do with absent classes: see `swin_unet.metrics`.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, get_args

import numpy as np

from swin_unet.config import UserError
from swin_unet.files import atomic_path
from swin_unet.imaging.formats import VOLUME_SUFFIXES, split_name
from swin_unet.imaging.readers import read_labels
from swin_unet.imaging.volume import Volume, check_same_grid
from swin_unet.metrics import METRICS, VOLUME_METRICS, Protocol, Record, score_case

COUNTED_OUTCOMES = ("missed", "false_positive", "absent")
_MEAN_METRICS = tuple(name for name in METRICS if name not in VOLUME_METRICS)
_COLUMNS = {
    "strict": ("dice", "hd95_mm", "surface_dice", "precision", "recall"),
    "paper": ("dice", "hd95_pooled_voxels"),
}
_TITLES = {
    "strict": "Protocol: strict (HD95 in mm, a missed or invented organ is penalised)",
    "paper": "Protocol: paper (pooled HD95 in voxels, a missed organ has HD95 0, an invented one "
    "Dice 1;\nfor comparison with published Swin-Unet tables only)",
}


def score_volumes(
    prediction: Volume,
    reference: Volume,
    classes: Mapping[int, str] | None = None,
    protocol: Protocol = "strict",
    *,
    surfaces: bool = True,
) -> dict[str, Record]:
    """Score one case, refusing to compare voxels that lie in different places.

    Where one of the two has no voxel size, what is in mm or ml is undefined.

    Args:
        prediction: Predicted label map.
        reference: Reference label map.
        classes: Label values to score, and their names; None: every label present, as "1", "2", ...
        protocol: Conventions for absent classes, see `swin_unet.metrics`.
        surfaces: Compute surface distances; False leaves their fields NaN.

    Returns:
        A record per class name.

    Raises:
        UserError: When the two lie on different grids.
    """
    check_same_grid(prediction, reference)
    has_spacing = prediction.has_spacing and reference.has_spacing
    records = score_case(
        prediction.array,
        reference.array,
        reference.spacing_mm if has_spacing else None,
        classes,
        protocol=protocol,
        surfaces=surfaces,
    )
    return {str(name): record for name, record in records.items()}


def summarize(
    cases: Iterable[Mapping[str, Any]], classes: Sequence[str], protocol: Protocol = "strict"
) -> dict[str, Any]:
    """Collect the records of all cases as the content of metrics.json.

    Args:
        cases: One {"case": name, "metrics": {class name: record}} each, with every class.
        classes: Class names.
        protocol: What the records were made with.

    Returns:
        Plain dicts, lists, numbers, strings and None for what is undefined.
    """
    plain_cases = []
    for case in cases:
        metrics = {name: _plain(case["metrics"][name]) for name in classes}
        plain_cases.append({"case": case["case"], "metrics": metrics})
    per_class = {
        name: _summarize_class([case["metrics"][name] for case in plain_cases]) for name in classes
    }
    mean = {key: _mean(values[key] for values in per_class.values()) for key in _MEAN_METRICS}
    head = {"protocol": protocol, "classes": list(classes)}
    return {**head, "cases": plain_cases, "mean": mean, "per_class": per_class}


def _plain(record: Mapping[str, Any]) -> dict[str, Any]:
    """Replace NaN by None: JSON has no NaN."""
    return {
        key: None if isinstance(value, float) and math.isnan(value) else value
        for key, value in record.items()
    }


def _summarize_class(records: list[dict[str, Any]]) -> dict[str, Any]:
    outcomes = [record["outcome"] for record in records]
    means = {key: _mean(record[key] for record in records) for key in METRICS}
    return {**means, **{outcome: outcomes.count(outcome) for outcome in COUNTED_OUTCOMES}}


def _mean(values: Iterable[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return fmean(defined) if defined else None


def write_metrics(summary: Mapping[str, Any], folder: Path) -> None:
    """Write metrics.json and metrics.csv (one row per case and class, undefined cells empty)."""
    with atomic_path(folder / "metrics.json") as path:
        path.write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n", encoding="utf8")
    rows = [
        {"protocol": summary["protocol"], "case": case["case"], "class": name, **record}
        for case in summary["cases"]
        for name, record in case["metrics"].items()
    ]
    columns = ["protocol", "case", "class", *METRICS, "outcome"]
    with (
        atomic_path(folder / "metrics.csv") as path,
        path.open("w", newline="", encoding="utf8") as file,
    ):
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def print_table(summary: Mapping[str, Any]) -> None:
    """Print the means per class as a table, headed by the protocol."""
    columns = [*_COLUMNS[summary["protocol"]], *COUNTED_OUTCOMES]
    per_class = summary["per_class"]
    counts = {key: sum(values[key] for values in per_class.values()) for key in COUNTED_OUTCOMES}
    rows = [["class", *columns]]
    for name, values in {**per_class, "mean, total": {**summary["mean"], **counts}}.items():
        rows.append([name, *(_format(values[column]) for column in columns)])
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    print(f"{_TITLES[summary['protocol']]}\nCases: {len(summary['cases'])}")
    for first, *others in rows:
        cells = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        print("  ".join([first.ljust(widths[0]), *cells]))


def _format(value: float | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.4f}"


def main(argv: Sequence[str] | None = None) -> int:
    """Score files or folders by the command line."""
    arguments = _parser().parse_args(argv)
    classes = _parse_classes(arguments.classes)
    cases = []
    for name, prediction_path, label_path in pair_files(arguments.predictions, arguments.labels):
        print(f"scoring {name}", file=sys.stderr)
        records = _score_files(prediction_path, label_path, classes, arguments.protocol)
        cases.append({"case": name, "metrics": records})
    names = list(classes.values()) if classes else _fill_absent(cases, arguments.protocol)
    summary = summarize(cases, names, arguments.protocol)
    predictions = arguments.predictions
    folder = arguments.output or (predictions if predictions.is_dir() else predictions.parent)
    write_metrics(summary, folder)
    print_table(summary)
    print(f"Written: {folder / 'metrics.json'} and metrics.csv", file=sys.stderr)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m swin_unet.evaluation",
        description="Score predicted label maps against reference ones of the same file names.",
        epilog="Exit codes: 0 done, 1 unexpected failure, 2 wrong usage or input.",
    )
    parser.add_argument("predictions", type=Path, help="label map, or folder of them")
    parser.add_argument("labels", type=Path, help="reference label map, or folder of them")
    parser.add_argument(
        "--output", type=Path, help="folder for metrics.json and .csv (default: the predictions')"
    )
    protocol_help = (
        "how absent organs count; paper is the original Swin-Unet's, meaningful for "
        "predictions by `infer.py --protocol paper` only (default: strict)"
    )
    parser.add_argument(
        "--protocol", choices=get_args(Protocol), default="strict", help=protocol_help
    )
    classes_help = "names of labels 1, 2, ...; others are refused (default: every label, by number)"
    parser.add_argument("--classes", metavar="A,B,C", help=classes_help)
    return parser


def _parse_classes(text: str | None) -> dict[int, str] | None:
    if text is None:
        return None
    names = [name.strip() for name in text.split(",")]
    if not all(names) or len(set(names)) < len(names):
        raise UserError(
            "--classes",
            expected="different names separated by commas",
            found=repr(text),
            fix="Name labels 1, 2, 3, ... in this order.",
        )
    return dict(enumerate(names, start=1))


def pair_files(predictions: Path, labels: Path) -> list[tuple[str, Path, Path]]:
    """Pair two files, or the files of two folders by name whatever their format.

    Labels without a prediction are left out, and said so on stderr.

    Returns:
        Case name, prediction and label of each case, sorted by name.

    Raises:
        UserError: For a prediction without a label, and for names that occur twice.
    """
    if predictions.is_file() and labels.is_file():
        return [(split_name(predictions)[0], predictions, labels)]
    prediction_paths, label_paths = _list_folder(predictions), _list_folder(labels)
    unpaired = [name for name in prediction_paths if name not in label_paths]
    if unpaired:
        raise UserError(
            labels,
            expected=f"a label map for every prediction in {predictions}",
            found=f"none for {', '.join(unpaired[:5])}{', ...' if unpaired[5:] else ''}",
            fix="Give both the same file name, or move these predictions elsewhere.",
        )
    num_left = len(label_paths) - len(prediction_paths)
    if num_left:
        print(f"{num_left} label maps have no prediction and are not scored", file=sys.stderr)
    return [(name, path, label_paths[name]) for name, path in sorted(prediction_paths.items())]


def _list_folder(folder: Path) -> dict[str, Path]:
    """Return the label maps of a folder by case name, hidden ones (macOS leaves some) aside."""
    if not folder.is_dir():
        raise UserError(
            folder,
            expected="a folder, or two files",
            found="a single file" if folder.exists() else "nothing there",
            fix="Give two folders or two files.",
        )
    paths = [
        path
        for path in sorted(folder.iterdir())
        if split_name(path)[1].lower() in VOLUME_SUFFIXES and not path.name.startswith(".")
    ]
    by_name = {split_name(path)[0]: path for path in paths}
    if not paths or len(by_name) < len(paths):
        twice = [path.name for path in paths if path not in by_name.values()]
        raise UserError(
            folder,
            expected="one label map per case",
            found=f"another file for the case of {twice[0]}" if twice else "none",
            fix="Keep one of them only." if twice else "Check the path for typing errors.",
        )
    return by_name


def _score_files(
    prediction_path: Path, label_path: Path, classes: dict[int, str] | None, protocol: Protocol
) -> dict[str, Record]:
    num_classes = len(classes) + 1 if classes else None
    prediction = read_labels(prediction_path, num_classes)
    reference = read_labels(label_path, num_classes, like=prediction)
    return score_volumes(prediction, reference, classes, protocol)


def _fill_absent(cases: list[dict[str, Any]], protocol: Protocol) -> list[str]:
    """Give every case a record of every label found in any; return their names in order."""
    values = sorted({int(name) for case in cases for name in case["metrics"]})
    classes = {value: str(value) for value in values}
    background = np.zeros((1, 1, 1), np.uint8)
    for case in cases:
        volumes = [record["volume_ml"] for record in case["metrics"].values()]
        spacing = None if any(map(math.isnan, volumes)) else (1.0, 1.0, 1.0)
        absent = score_case(background, background, spacing, classes, protocol=protocol)
        case["metrics"] = absent | case["metrics"]
    return list(classes.values())


if __name__ == "__main__":
    from swin_unet.cli import run

    sys.exit(run(main))
