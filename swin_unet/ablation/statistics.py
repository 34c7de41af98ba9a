"""Means, spreads, intervals and paired tests for tables of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
RESAMPLES = 10_000
CONFIDENCE = 0.95


def bootstrap_interval(values: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """Return the 95 % percentile interval of the mean over cases drawn with replacement.

    Args:
        values: One per case.
        seed: Of the resampling; the same values give the same interval.
    """
    array = np.asarray(values, dtype=np.float64)
    draws = np.random.default_rng(seed).integers(0, array.size, (RESAMPLES, array.size))
    tail = (1 - CONFIDENCE) / 2 * 100
    low, high = np.percentile(array[draws].mean(axis=1), [tail, 100 - tail])
    return float(low), float(high)


def deviation(values: Sequence[float]) -> float | None:
    """Return the standard deviation of a sample (n - 1), None for fewer than two values."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def paired_test(values: Sequence[float], baseline: Sequence[float]) -> float:
    """Return the two-sided p-value of Wilcoxon's signed-rank test over cases.

    Pairs without a difference count half for either sign (Pratt); 1 if all are so.
    """
    from scipy.stats import wilcoxon

    differences = np.asarray(values, dtype=np.float64) - np.asarray(baseline, dtype=np.float64)
    if not differences.any():
        return 1.0
    return float(wilcoxon(differences, zero_method="zsplit").pvalue)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Correct p-values for their number by Holm's step-down method."""
    ordered = sorted(p_values, key=lambda name: p_values[name])
    corrected: dict[str, float] = {}
    largest = 0.0
    for rank, name in enumerate(ordered):
        largest = max(largest, min(1.0, (len(ordered) - rank) * p_values[name]))
        corrected[name] = largest
    return {name: corrected[name] for name in p_values}
