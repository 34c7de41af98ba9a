from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from swin_unet.class_metrics import METRICS, area_under_curve, one_hot, score_classes

CLASSES = ["cat", "dog", "eel", "fox", "gnu", "hen"]


def samples(seed, multi_label, number=40, num_classes=6):
    random = np.random.default_rng(seed)
    probabilities = random.random((number, num_classes)).round(1)  # with ties
    if multi_label:
        return (random.random((number, num_classes)) < 0.3).astype(int), probabilities
    return random.integers(num_classes, size=number), probabilities


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_scores_per_class_equal_monai(seed, multi_label):
    from monai.metrics import compute_confusion_matrix_metric, compute_roc_auc
    from monai.metrics.confusion_matrix import get_confusion_matrix

    labels, probabilities = samples(seed, multi_label)
    summary = score_classes(labels, probabilities, CLASSES, multi_label=multi_label)
    truth = labels if multi_label else np.eye(6)[labels]
    answers = probabilities >= 0.5 if multi_label else np.eye(6)[probabilities.argmax(axis=1)]
    matrix = get_confusion_matrix(torch.tensor(answers).float(), torch.tensor(truth).float())
    for name, key in (("precision", "precision"), ("recall", "recall"), ("f1", "f1 score")):
        expected = compute_confusion_matrix_metric(key, matrix.sum(dim=0)).numpy()
        found = [summary["per_class"][c][name] for c in CLASSES]
        assert np.allclose(found, expected)
        assert summary["mean"][name] == pytest.approx(expected.mean())
    areas = compute_roc_auc(torch.tensor(probabilities), torch.tensor(truth), average="none")
    assert np.allclose([summary["per_class"][c]["auroc"] for c in CLASSES], areas)
    if multi_label:
        tp, fp, tn, fn = matrix.sum(dim=0).T.int().numpy()
        assert np.array_equal(summary["confusion"], np.stack([tn, fp, fn, tp], 1).reshape(6, 2, 2))


@given(
    positive=st.lists(st.booleans(), min_size=2, max_size=30),
    seed=st.integers(0, 999),
    values=st.integers(1, 9),
)
def test_the_area_is_mann_whitneys_statistic(positive, seed, values):
    positive = np.array(positive)
    scores = np.random.default_rng(seed).integers(values, size=len(positive)).astype(float)
    area = area_under_curve(positive, scores)
    if positive.all() or not positive.any():
        assert area is None
        return
    statistic = mannwhitneyu(scores[positive], scores[~positive]).statistic
    assert area == pytest.approx(statistic / positive.sum() / (~positive).sum())
    assert area_under_curve(positive, -scores) == pytest.approx(1 - area)


def test_accuracy_top_five_and_confusion_equal_their_definitions():
    labels, probabilities = samples(3, multi_label=False)
    probabilities += np.arange(6) * 1e-3  # no ties between classes
    summary = score_classes(labels, probabilities, CLASSES, multi_label=False)
    right = [int(np.argmax(p)) == label for p, label in zip(probabilities, labels, strict=True)]
    assert summary["accuracy"] == pytest.approx(np.mean(right))
    ranked = [set(np.argsort(p)[-5:]) for p in probabilities]
    hits = [label in five for label, five in zip(labels, ranked, strict=True)]
    assert summary["top5"] == pytest.approx(np.mean(hits))
    confusion = np.array(summary["confusion"])
    assert confusion.sum() == summary["num_samples"] == 40
    assert np.array_equal(confusion.sum(axis=1), np.bincount(labels, minlength=6))
    assert np.trace(confusion) == sum(right)
    truth, answer = labels[0], probabilities[0].argmax()
    others = sum(
        t == truth and p.argmax() == answer for t, p in zip(labels, probabilities, strict=True)
    )
    assert confusion[truth, answer] == others


def test_right_answers_have_perfect_scores():
    labels = np.arange(6).repeat(2)
    summary = score_classes(labels, one_hot(labels, 6) * 0.9, CLASSES, multi_label=False)
    assert summary["accuracy"] == summary["top5"] == 1
    assert summary["mean"] == dict.fromkeys(METRICS, 1.0)
    truth = np.array([[1, 0], [1, 1], [0, 0]])
    summary = score_classes(truth, truth * 0.6, ["a", "b"], multi_label=True)
    assert summary["accuracy"] == summary["exact"] == 1
    assert summary["confusion"] == [[[1, 0], [0, 2]], [[2, 0], [0, 1]]]


def test_five_classes_have_no_top_five():
    labels, probabilities = samples(0, multi_label=False, num_classes=5)
    assert score_classes(labels, probabilities, CLASSES[:5], multi_label=False)["top5"] is None


def test_what_is_not_defined_is_none_and_in_no_mean():
    """Class a is there and never claimed, b claimed and not there, c neither."""
    labels = np.array([[1, 0, 0], [0, 0, 0]])
    probabilities = np.array([[0.1, 0.9, 0.1], [0.2, 0.1, 0.1]])
    summary = score_classes(labels, probabilities, ["a", "b", "c"], multi_label=True)
    a, b, c = (summary["per_class"][name] for name in "abc")
    assert (a["precision"], a["recall"], a["f1"], a["auroc"]) == (0, 0, 0, 0)
    assert (b["precision"], b["recall"], b["f1"], b["auroc"]) == (0, None, 0, None)
    assert (c["precision"], c["recall"], c["f1"], c["auroc"]) == (None, None, None, None)
    assert summary["mean"] == {"precision": 0, "recall": 0, "f1": 0, "auroc": 0}


def test_no_samples_have_no_scores():
    summary = score_classes(np.zeros(0, int), np.zeros((0, 6)), CLASSES, multi_label=False)
    assert summary["accuracy"] is None
    assert summary["mean"] == dict.fromkeys(METRICS)
