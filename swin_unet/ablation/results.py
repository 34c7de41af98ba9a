"""From the files of finished runs to one record per setting."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from swin_unet.ablation.statistics import bootstrap_interval, deviation, holm, paired_test

CHECKPOINTS = ("best", "last")
METRICS = ("dice", "hd95_mm")


@dataclass(frozen=True)
class Score:
    """A metric of a setting.

    Attributes:
        mean: Over the replicates (seeds and folds) of the mean over classes; None: undefined.
        deviation: Standard deviation over the replicates, None for one.
        low: Lower end of the 95 % interval over the cases, None where there is none.
        high: Its upper end.
        p_value: Holm-corrected, of the paired test against the baseline; None for the baseline.
        per_class: Mean over the replicates of every class.
    """

    mean: float | None
    deviation: float | None
    low: float | None
    high: float | None
    p_value: float | None
    per_class: Mapping[str, float | None]


@dataclass(frozen=True)
class Cost:
    """What a setting takes.

    Attributes:
        parameters: Of the network.
        macs: Multiply-accumulates of one slice.
        train_minutes: Of one run, mean.
        test_seconds: Per test case, mean.
        peak_memory_mb: Of the training process, largest.
    """

    parameters: int | None = None
    macs: int | None = None
    train_minutes: float | None = None
    test_seconds: float | None = None
    peak_memory_mb: float | None = None


@dataclass(frozen=True)
class Result:
    """A row of the table.

    Attributes:
        setting: Its name.
        num_runs: Finished trainings.
        num_planned: Trainings that were planned.
        num_cases: Test cases.
        scores: Checkpoint (`best` on validation, `last` epoch) and metric to score.
        cost: What it takes.
    """

    setting: str
    num_runs: int
    num_planned: int
    num_cases: int
    scores: Mapping[tuple[str, str], Score]
    cost: Cost


def collect(
    summaries: Mapping[str, Sequence[Mapping[str, Any]]],
    planned: Mapping[str, int],
    costs: Mapping[str, Cost],
    baseline: str,
) -> list[Result]:
    """Compare the settings.

    Args:
        summaries: Per setting, in the order of the table, the contents of its finished runs'
            test_metrics.json.
        planned: Per setting, how many runs there are to be.
        costs: Per setting, what it takes.
        baseline: The setting that the others are tested against.

    Returns:
        One record per setting that has a finished run.
    """
    done = {name: runs for name, runs in summaries.items() if runs}
    scores = {
        (checkpoint, metric): _scores(done, checkpoint, metric, baseline)
        for checkpoint in CHECKPOINTS
        for metric in METRICS
    }
    return [
        Result(
            setting=name,
            num_runs=len(runs),
            num_planned=planned[name],
            num_cases=len(runs[0]["best"]["cases"]),
            scores={key: table[name] for key, table in scores.items()},
            cost=costs.get(name, Cost()),
        )
        for name, runs in done.items()
    ]


def case_means(runs: Sequence[Mapping[str, Any]], checkpoint: str, metric: str) -> dict[str, float]:
    """Return for every case the mean over replicates of the mean over its defined classes."""
    collected: dict[str, list[float]] = {}
    for run in runs:
        for case in run[checkpoint]["cases"]:
            value = _mean(record[metric] for record in case["metrics"].values())
            if value is not None:
                collected.setdefault(case["case"], []).append(value)
    return {name: fmean(values) for name, values in collected.items()}


def _scores(
    done: Mapping[str, Sequence[Mapping[str, Any]]], checkpoint: str, metric: str, baseline: str
) -> dict[str, Score]:
    cases = {name: case_means(runs, checkpoint, metric) for name, runs in done.items()}
    p_values = holm({
        name: _p_value(values, cases[baseline])
        for name, values in cases.items()
        if name != baseline and baseline in cases
    })  # fmt: skip
    return {
        name: _score(runs, checkpoint, metric, cases[name], p_values.get(name))
        for name, runs in done.items()
    }


def _score(
    runs: Sequence[Mapping[str, Any]],
    checkpoint: str,
    metric: str,
    cases: Mapping[str, float],
    p_value: float | None,
) -> Score:
    means = [run[checkpoint]["mean"][metric] for run in runs]
    defined = [value for value in means if value is not None]
    low, high = bootstrap_interval(list(cases.values())) if cases else (None, None)
    classes = runs[0][checkpoint]["classes"]
    return Score(
        mean=_mean(defined),
        deviation=deviation(defined),
        low=low,
        high=high,
        p_value=p_value,
        per_class={
            name: _mean(run[checkpoint]["per_class"][name][metric] for run in runs)
            for name in classes
        },
    )


def _p_value(values: Mapping[str, float], baseline: Mapping[str, float]) -> float:
    common = sorted(set(values) & set(baseline))
    if not common:
        return 1.0
    return paired_test([values[name] for name in common], [baseline[name] for name in common])


def _mean(values: Iterable[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return fmean(defined) if defined else None
