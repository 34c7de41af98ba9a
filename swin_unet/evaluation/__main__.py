"""Score files or folders: python -m swin_unet.evaluation PREDICTIONS LABELS."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from swin_unet.argument_types import positive
from swin_unet.config import UserError
from swin_unet.evaluation.output import print_table, write_metrics
from swin_unet.evaluation.pairs import pair_files
from swin_unet.evaluation.scores import TOLERANCE_MM, score_volumes, summarize
from swin_unet.imaging.alignment import align
from swin_unet.imaging.readers import read_labels
from swin_unet.metrics import Protocol, Record, score_case


def main(argv: Sequence[str] | None = None) -> int:
    """Score files or folders by the command line."""
    arguments = _parser().parse_args(argv)
    classes = _parse_classes(arguments.classes)
    cases = []
    for name, prediction_path, label_path in pair_files(arguments.predictions, arguments.labels):
        print(f"scoring {name}", file=sys.stderr)
        records = _score_files(prediction_path, label_path, classes, arguments)
        cases.append({"case": name, "metrics": records})
    names = list(classes.values()) if classes else _fill_absent(cases, arguments.protocol)
    tolerance_mm = arguments.tolerance_mm
    summary = summarize(cases, names, arguments.protocol, tolerance_mm=tolerance_mm)
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
    tolerance_help = "distance up to which surfaces agree, for the surface Dice (default: 1)"
    parser.add_argument(
        "--tolerance_mm", type=positive, default=TOLERANCE_MM, metavar="MM", help=tolerance_help
    )
    mismatch_help = (
        "what to do with a prediction on another grid than its label map: refuse it, or take for "
        "each voxel of the label map the nearest one of the prediction (default: error)"
    )
    parser.add_argument(
        "--on_mismatch", choices=("error", "resample"), default="error", help=mismatch_help
    )
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


def _score_files(
    prediction_path: Path,
    label_path: Path,
    classes: dict[int, str] | None,
    arguments: argparse.Namespace,
) -> dict[str, Record]:
    num_classes = len(classes) + 1 if classes else None
    prediction = read_labels(prediction_path, num_classes)
    reference = read_labels(label_path, num_classes)
    if arguments.on_mismatch == "resample":
        prediction = align(prediction, reference, "resample")
    else:
        reference = align(reference, prediction)
    return score_volumes(
        prediction,
        reference,
        classes,
        arguments.protocol,
        tolerance_mm=arguments.tolerance_mm,
    )


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
