"""Bootstrap confidence intervals: how far a mean could be off with other cases of this kind.

Cases are drawn with replacement, as many as there are, and the means are taken of each draw; the
interval holds the middle 95 % of them. Cases count as independent of each other, which several
scans of one patient are not. With a handful of cases such intervals are too narrow.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

LEVEL = 0.95
NUM_RESAMPLES = 2000

Array = np.ndarray[Any, Any]


def confidence_intervals(
    records: Mapping[str, Sequence[Mapping[str, Any]]], metrics: Sequence[str]
) -> dict[str, Any]:
    """Compute intervals of every mean, per class and of all classes.

    Args:
        records: For each class the records of all cases in one order, None where undefined.
        metrics: Fields of the records.

    Returns:
        `level`, `resamples`, and under `mean` and `per_class` [low, high] by metric, None for a
        single case and where nothing is defined. The same records give the same numbers.
    """
    num_cases = len(next(iter(records.values()), ()))
    counts = _draw(num_cases)
    # metric -> (draws, classes)
    means = {
        metric: np.column_stack([_drawn_means(counts, each, metric) for each in records.values()])
        for metric in metrics
        if records
    }
    return {
        "level": LEVEL,
        "resamples": NUM_RESAMPLES,
        "mean": {metric: _interval(_nanmean(values)) for metric, values in means.items()},
        "per_class": {
            name: {metric: _interval(values[:, index]) for metric, values in means.items()}
            for index, name in enumerate(records)
        },
    }


def _draw(num_cases: int) -> Array:
    """Return how often each case is in each draw, (draws, cases); no draws of a single case."""
    if num_cases < 2:
        return np.zeros((0, num_cases))
    shares = np.full(num_cases, 1 / num_cases)
    return np.random.default_rng(0).multinomial(num_cases, shares, NUM_RESAMPLES).astype(float)


def _drawn_means(counts: Array, records: Sequence[Mapping[str, Any]], metric: str) -> Array:
    """Return the mean of each draw's defined values, NaN where there is none."""
    values = np.array([record[metric] for record in records], dtype=float)  # None becomes NaN
    is_defined = ~np.isnan(values)
    totals = counts @ np.where(is_defined, values, 0.0)
    numbers = counts @ is_defined
    means = np.full(len(counts), np.nan)
    np.divide(totals, numbers, out=means, where=numbers > 0)
    return means


def _nanmean(values: Array) -> Array:
    """Return the mean over the classes that a draw has, NaN where it has none."""
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # of such draws
        means: Array = np.nanmean(values, axis=1)
    return means


def _interval(means: Array) -> list[float] | None:
    defined = means[~np.isnan(means)]
    if not len(defined):
        return None
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(defined, [tail, 1 - tail]).tolist()
    return [low, high]
