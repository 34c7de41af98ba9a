"""Statistics against textbook formulas and scipy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap, wilcoxon

from swin_unet.ablation.statistics import bootstrap_interval, deviation, holm, paired_test

SCORES = st.lists(st.floats(0, 1), min_size=2, max_size=30)


def test_the_interval_is_that_of_scipy() -> None:
    values = np.random.default_rng(0).beta(8, 2, 40)
    reference = bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    low, high = bootstrap_interval(values.tolist())
    assert low == pytest.approx(reference.low, abs=2e-3)
    assert high == pytest.approx(reference.high, abs=2e-3)


@given(SCORES)
def test_the_interval_holds_the_mean_and_is_repeatable(values: list[float]) -> None:
    low, high = bootstrap_interval(values)
    assert low - 1e-9 <= np.mean(values) <= high + 1e-9
    assert (low, high) == bootstrap_interval(values)


def test_the_deviation_is_that_of_a_sample() -> None:
    assert deviation([1.0, 2.0, 4.0]) == pytest.approx(np.sqrt(7 / 3))
    assert deviation([1.0]) is None


def test_the_paired_test_is_wilcoxons() -> None:
    rng = np.random.default_rng(0)
    baseline = rng.uniform(0.6, 0.9, 25)
    better = baseline + rng.normal(0.02, 0.02, 25)
    expected = wilcoxon(better, baseline).pvalue
    assert paired_test(better.tolist(), baseline.tolist()) == pytest.approx(expected)
    assert paired_test(baseline.tolist(), baseline.tolist()) == 1.0


def test_holm_on_a_worked_example() -> None:
    """0.01 * 4, 0.02 * 3 = 0.06, 0.03 * 2 = 0.06, then never below the one before."""
    corrected = holm({"d": 0.005, "a": 0.01, "b": 0.03, "c": 0.04})
    assert corrected == pytest.approx({"d": 0.02, "a": 0.03, "b": 0.06, "c": 0.06})


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1), max_size=8))
def test_holm_lies_between_no_correction_and_bonferroni(p_values: dict[str, float]) -> None:
    corrected = holm(p_values)
    for name, value in p_values.items():
        assert value <= corrected[name] <= min(1.0, max(value * len(p_values), corrected[name]))
        assert corrected[name] <= 1
    order = sorted(p_values, key=lambda name: p_values[name])
    values = [corrected[name] for name in order]
    assert values == sorted(values)
