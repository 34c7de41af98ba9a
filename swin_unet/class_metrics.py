"""Scores of a classification: arrays in, plain records out.

What is not defined is None and left out of means: the recall and AUROC of a class that no sample
has, and all of a class that neither occurs nor is predicted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
METRICS = ("precision", "recall", "f1", "auroc")
THRESHOLD = 0.5


def score_classes(
    labels: Array, probabilities: Array, classes: Sequence[str], *, multi_label: bool
) -> dict[str, Any]:
    """Score samples that have one class each, or any number of them.

    Args:
        labels: (n,) class numbers from 0 on; with `multi_label` (n, K) of zeros and ones.
        probabilities: (n, K).
        classes: Names of the K classes.
        multi_label: Every class is a question of its own; yes from probability one half on.

    Returns:
        `classes`, `num_samples`; `per_class`: `precision`, `recall`, `f1`, `auroc` of one class
        against the others, `support`, its number of samples; `mean` of these over the classes;
        `confusion`: (K, K) counts, rows the true class, or with `multi_label` per class
        [[true negatives, false positives], [false negatives, true positives]]; `accuracy`, the
        share of right answers; for single labels `top5`, the share of samples whose class is among
        the five most probable ones (None up to five classes); for multi labels `exact`, the share
        of samples with all answers right.
    """
    positive = labels.astype(bool) if multi_label else one_hot(labels, len(classes))
    predicted = decide(probabilities, multi_label=multi_label)
    per_class = {
        name: _score_class(positive[:, k], predicted[:, k], probabilities[:, k])
        for k, name in enumerate(classes)
    }
    summary = {
        "classes": list(classes),
        "multi_label": multi_label,
        "num_samples": len(labels),
        "per_class": per_class,
        "mean": {key: mean([scores[key] for scores in per_class.values()]) for key in METRICS},
    }
    if multi_label:
        return {**summary, **_multi_label_scores(positive, predicted)}
    return {**summary, **_single_label_scores(labels, probabilities)}


def decide(probabilities: Array, *, multi_label: bool) -> Array:
    """Return which classes are predicted, (n, K) bool: the likely ones, or the most likely one."""
    if multi_label:
        return probabilities >= THRESHOLD
    return one_hot(probabilities.argmax(axis=1), probabilities.shape[1])


def one_hot(labels: Array, num_classes: int) -> Array:
    """Return (n, K) bool of class numbers (n,)."""
    return labels[:, None] == np.arange(num_classes)


def area_under_curve(positive: Array, scores: Array) -> float | None:
    """Return the area under the ROC curve of one class: how likely a positive sample beats another.

    Args:
        positive: (n,) bool.
        scores: (n,), higher for what looks positive; ties count one half.
    """
    num_positive = int(positive.sum())
    num_negative = len(positive) - num_positive
    if not num_positive or not num_negative:
        return None
    values, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    assert len(values)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]  # from 1 on, tied ones share theirs
    wins = ranks[positive].sum() - num_positive * (num_positive + 1) / 2
    return float(wins / (num_positive * num_negative))


def mean(values: Sequence[float | None]) -> float | None:
    """Average what is defined."""
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


def _score_class(positive: Array, predicted: Array, scores: Array) -> dict[str, Any]:
    right = int((positive & predicted).sum())
    support, claimed = int(positive.sum()), int(predicted.sum())
    is_there = support + claimed > 0
    return {
        "precision": (right / claimed if claimed else 0.0) if is_there else None,
        "recall": right / support if support else None,
        "f1": 2 * right / (support + claimed) if is_there else None,
        "auroc": area_under_curve(positive, scores),
        "support": support,
    }


def _single_label_scores(labels: Array, probabilities: Array) -> dict[str, Any]:
    num_classes = probabilities.shape[1]
    order = np.argsort(-probabilities, axis=1, kind="stable")
    hits = order == labels[:, None]
    confusion = np.zeros((num_classes, num_classes), dtype=np.int64)
    np.add.at(confusion, (labels, order[:, 0]), 1)
    return {
        "accuracy": _share(hits[:, 0]),
        "top5": _share(hits[:, :5].any(axis=1)) if num_classes > 5 else None,
        "confusion": confusion.tolist(),
    }


def _multi_label_scores(positive: Array, predicted: Array) -> dict[str, Any]:
    right = positive == predicted
    tables = []
    for truth, answer in zip(positive.T, predicted.T, strict=True):
        rows = [
            [int((row & column).sum()) for column in (~answer, answer)] for row in (~truth, truth)
        ]
        tables.append(rows)
    return {"accuracy": _share(right), "exact": _share(right.all(axis=1)), "confusion": tables}


def _share(right: Array) -> float | None:
    return float(right.mean()) if right.size else None
