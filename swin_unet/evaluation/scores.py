"""Scores of volumes, and of all cases together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from swin_unet.evaluation.confidence import confidence_intervals
from swin_unet.imaging.volume import Volume, check_same_grid
from swin_unet.metrics import METRICS, VOLUME_METRICS, Protocol, Record, score_case

COUNTED_OUTCOMES = ("missed", "false_positive", "absent")
MEAN_METRICS = tuple(name for name in METRICS if name not in VOLUME_METRICS)
TOLERANCE_MM = 1.0
NUM_WORST = 5


def score_volumes(
    prediction: Volume,
    reference: Volume,
    classes: Mapping[int, str] | None = None,
    protocol: Protocol = "strict",
    *,
    tolerance_mm: float = TOLERANCE_MM,
    surfaces: bool = True,
) -> dict[str, Record]:
    """Score one case, refusing to compare voxels that lie in different places.

    Where one of the two has no voxel size, what is in mm or ml is undefined.

    Args:
        prediction: Predicted label map.
        reference: Reference label map.
        classes: Label values to score, and their names; None: every label present, as "1", "2", ...
        protocol: Conventions for absent classes, see `swin_unet.metrics`.
        tolerance_mm: Distance up to which two surfaces agree, for the surface Dice.
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
        tolerance_mm=tolerance_mm,
        protocol=protocol,
        surfaces=surfaces,
    )
    return {str(name): record for name, record in records.items()}


def summarize(
    cases: Iterable[Mapping[str, Any]],
    classes: Sequence[str],
    protocol: Protocol = "strict",
    *,
    tolerance_mm: float = TOLERANCE_MM,
) -> dict[str, Any]:
    """Collect the records of all cases as the content of metrics.json.

    Args:
        cases: One {"case": name, "metrics": {class name: record}} each, with every class.
        classes: Class names.
        protocol: What the records were made with.
        tolerance_mm: What the records were made with.

    Returns:
        Plain dicts, lists, numbers, strings and None for what is undefined.
    """
    plain_cases = []
    for case in cases:
        metrics = {name: _plain(case["metrics"][name]) for name in classes}
        plain_cases.append({"case": case["case"], "metrics": metrics})
    records = {name: [case["metrics"][name] for case in plain_cases] for name in classes}
    per_class = {name: _summarize_class(records[name]) for name in classes}
    return {
        "protocol": protocol,
        "tolerance_mm": tolerance_mm,
        "classes": list(classes),
        "cases": plain_cases,
        "mean": {key: _mean(values[key] for values in per_class.values()) for key in MEAN_METRICS},
        "per_class": per_class,
        "confidence": confidence_intervals(records, MEAN_METRICS),
        "worst": _worst_cases(plain_cases),
    }


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


def _worst_cases(cases: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """List the cases of lowest Dice, mean of the classes, each with its worst class."""
    rows = []
    for case in cases:
        defined = {
            name: record for name, record in case["metrics"].items() if record["dice"] is not None
        }
        if not defined:
            continue
        worst = min(defined, key=lambda name: defined[name]["dice"])
        rows.append({
            "case": case["case"],
            "dice": fmean(record["dice"] for record in defined.values()),
            "worst_class": worst,
            "worst_dice": defined[worst]["dice"],
            "outcome": defined[worst]["outcome"],
        })  # fmt: skip
    return sorted(rows, key=lambda row: row["dice"])[:NUM_WORST]
