"""Bootstrap intervals against SciPy's, and what they must be by their meaning."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from swin_unet.evaluation.confidence import NUM_RESAMPLES, confidence_intervals


def records(table: np.ndarray) -> dict[str, list[dict[str, float | None]]]:
    """Make records of "dice" from (cases, classes), NaN being None as in metrics.json."""
    return {
        str(index): [{"dice": None if math.isnan(value) else value} for value in column.tolist()]
        for index, column in enumerate(table.T)
    }


def test_scipy_finds_the_same_intervals():
    """Of skewed scores with gaps; two bootstraps of 2000 draws differ by their own noise only."""
    random = np.random.default_rng(1)
    table = random.beta(8, 2, (40, 3))
    table[random.random(table.shape) < 0.2] = np.nan

    def mean_of_classes(*columns, axis=-1):
        return np.mean([np.nanmean(column, axis=axis) for column in columns], axis=0)

    expected = stats.bootstrap(
        tuple(table.T),
        mean_of_classes,
        paired=True,
        n_resamples=20000,
        method="percentile",
        rng=np.random.default_rng(2),
    ).confidence_interval
    found = confidence_intervals(records(table), ["dice"])
    assert found["resamples"] == NUM_RESAMPLES
    width = expected.high - expected.low
    assert found["mean"]["dice"] == pytest.approx(list(expected), abs=0.05 * width)
    for index, column in enumerate(table.T):
        defined = column[~np.isnan(column)]
        error = 1.96 * defined.std() / math.sqrt(len(defined))
        interval = found["per_class"][str(index)]["dice"]
        assert np.diff(interval)[0] == pytest.approx(2 * error, rel=0.15)


@settings(deadline=None, max_examples=50)
@given(
    st.integers(2, 12).flatmap(
        lambda num_cases: st.lists(
            st.lists(st.floats(0, 1) | st.just(math.nan), min_size=num_cases, max_size=num_cases),
            min_size=1,
            max_size=3,
        )
    )
)
def test_intervals_lie_within_the_values_and_do_not_change(columns):
    table = np.array(columns).T
    found = confidence_intervals(records(table), ["dice"])
    assert found == confidence_intervals(records(table), ["dice"])
    for index, column in enumerate(table.T):
        interval = found["per_class"][str(index)]["dice"]
        if np.isnan(column).all():
            assert interval is None
            continue
        low, high = interval
        slack = 1e-12
        assert np.nanmin(column) - slack <= low <= high <= np.nanmax(column) + slack


def test_one_case_has_no_interval():
    found = confidence_intervals(records(np.array([[0.5, 0.6]])), ["dice"])
    assert found["mean"] == {"dice": None}
    assert found["per_class"] == {"0": {"dice": None}, "1": {"dice": None}}


def test_equal_cases_have_an_interval_of_no_width():
    found = confidence_intervals(records(np.full((5, 2), 0.25)), ["dice"])
    assert found["mean"]["dice"] == pytest.approx([0.25, 0.25])
