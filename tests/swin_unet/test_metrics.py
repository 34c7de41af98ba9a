"""Scores against medpy and MONAI on random masks, and every empty case by both protocols."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from medpy.metric import binary

from swin_unet import metrics
from swin_unet.metrics import METRICS, score_case

SPACINGS = st.tuples(*[st.sampled_from([0.5, 0.7, 1.0, 1.25, 3.0])] * 3)


@st.composite
def mask_pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Two masks, neither empty: boxes that may touch the edges, with any share of noise."""
    shape = draw(st.tuples(*[st.integers(1, 11)] * 3))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    masks = []
    for _ in range(2):
        mask = np.zeros(shape, bool)
        first, second = (draw(st.tuples(*(st.integers(0, n - 1) for n in shape))) for _ in range(2))
        box = tuple(slice(min(pair), max(pair) + 1) for pair in zip(first, second, strict=True))
        mask[box] = True
        mask ^= generator.random(shape) < draw(st.sampled_from([0, 0, 0.02, 0.5]))
        if not mask.any():
            mask[first] = True
        masks.append(mask)
    return masks[0], masks[1]


def score(prediction: np.ndarray, reference: np.ndarray, spacing, **options) -> dict:
    return score_case(prediction, reference, spacing, {1: "organ"}, **options)["organ"]


@settings(max_examples=150, deadline=None)
@given(masks=mask_pairs(), spacing=SPACINGS, order=st.sampled_from("CF"))
def test_medpy_agrees(masks, spacing, order):
    prediction, reference = (np.asarray(mask, order=order) for mask in masks)
    record = score(prediction, reference, spacing)
    assert record["dice"] == pytest.approx(binary.dc(prediction, reference), abs=1e-12)
    assert record["precision"] == pytest.approx(binary.precision(prediction, reference))
    assert record["recall"] == pytest.approx(binary.recall(prediction, reference))
    assert record["hd95_pooled_voxels"] == pytest.approx(
        binary.hd95(prediction, reference), abs=1e-12
    )
    assert record["volume_ml"] == pytest.approx(prediction.sum() * math.prod(spacing) / 1000)
    assert record["reference_volume_ml"] == pytest.approx(
        reference.sum() * math.prod(spacing) / 1000
    )
    assert record["outcome"] == "both"


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")  # MONAI's own call
@settings(max_examples=40, deadline=None)
@given(masks=mask_pairs(), spacing=SPACINGS, tolerance_mm=st.sampled_from([0.9, 2.3, 4.1]))
def test_monai_agrees(masks, spacing, tolerance_mm):
    import monai.metrics as monai
    import torch

    prediction, reference = masks
    record = score(prediction, reference, spacing, tolerance_mm=tolerance_mm)
    tensors = [torch.from_numpy(mask.astype(np.float32))[None, None] for mask in masks]
    hd95 = monai.compute_hausdorff_distance(
        *tensors, include_background=True, percentile=95, spacing=spacing
    )
    surface_dice = monai.compute_surface_dice(
        *tensors, class_thresholds=[tolerance_mm], include_background=True, spacing=spacing
    )
    assert record["hd95_mm"] == pytest.approx(hd95.item(), rel=1e-4, abs=1e-4)
    assert record["surface_dice"] == pytest.approx(surface_dice.item(), abs=1e-5)
    dice = monai.compute_dice(*tensors, include_background=True)
    assert record["dice"] == pytest.approx(dice.item(), abs=1e-5)


@settings(max_examples=50, deadline=None)
@given(masks=mask_pairs(), spacing=SPACINGS)
def test_tree_and_transform_find_equal_distances(masks, spacing):
    """The faster of two searches is chosen by density: both must be exact on anything."""
    records = []
    for threshold in (0.0, 2.0):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(metrics, "_DENSE_SURFACE", threshold)
            records.append(score(*masks, spacing))
    assert records[0] == pytest.approx(records[1], abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(masks=mask_pairs(), spacing=SPACINGS, axes=st.permutations(range(3)))
def test_axis_order_and_padding_change_nothing(masks, spacing, axes):
    padded = [np.pad(mask, ((2, 0), (0, 3), (1, 1))).transpose(axes) for mask in masks]
    permuted = [spacing[axis] for axis in axes]
    assert score(*padded, permuted) == pytest.approx(score(*masks, spacing), abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(masks=mask_pairs(), spacing=SPACINGS)
def test_swapping_exchanges_precision_and_recall_only(masks, spacing):
    forward, backward = score(*masks, spacing), score(*masks[::-1], spacing)
    assert forward["precision"] == backward["recall"]
    assert forward["volume_ml"] == backward["reference_volume_ml"]
    for key in ("dice", "hd95_mm", "hd95_pooled_voxels", "surface_dice"):
        assert forward[key] == pytest.approx(backward[key])


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from([np.uint8, np.uint16, np.int16, np.int64]),
    orders=st.tuples(*[st.sampled_from("CF")] * 2),
)
def test_a_class_scores_as_its_mask_alone(seed, dtype, orders):
    generator = np.random.default_rng(seed)
    prediction, reference = (
        generator.integers(0, 5, (6, 5, 4)).astype(dtype, order=order) for order in orders
    )
    spacing = (0.7, 0.7, 2.0)
    records = score_case(prediction, reference, spacing)
    assert set(records) == set(np.union1d(prediction, reference).tolist()) - {0}
    for value, record in records.items():
        expected = score(prediction == value, reference == value, spacing)
        assert record == pytest.approx(expected, nan_ok=True)


def test_arguments_stay_as_they_were():
    prediction, reference = np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8)
    prediction[1:3], reference[0:2] = 1, 1
    copies = prediction.copy(), reference.copy()
    score(prediction, reference, (1.0, 1.0, 2.0))
    np.testing.assert_array_equal(prediction, copies[0])
    np.testing.assert_array_equal(reference, copies[1])


SHAPE, SPACING = (3, 4, 12), (1.0, 2.0, 3.0)
DIAGONAL_MM = math.sqrt(3**2 + 8**2 + 36**2)
NAN = math.nan
STRICT = {
    "missed": {
        "dice": 0, "hd95_mm": DIAGONAL_MM, "hd95_pooled_voxels": 13, "surface_dice": 0,
        "precision": NAN, "recall": 0, "volume_ml": 0, "reference_volume_ml": 0.006,
        "outcome": "missed",
    },
    "false_positive": {
        "dice": 0, "hd95_mm": DIAGONAL_MM, "hd95_pooled_voxels": 13, "surface_dice": 0,
        "precision": 0, "recall": NAN, "volume_ml": 0.006, "reference_volume_ml": 0,
        "outcome": "false_positive",
    },
    "absent": {
        "dice": NAN, "hd95_mm": NAN, "hd95_pooled_voxels": NAN, "surface_dice": NAN,
        "precision": NAN, "recall": NAN, "volume_ml": 0, "reference_volume_ml": 0,
        "outcome": "absent",
    },
}  # fmt: skip
PAPER = {"missed": (0, 0), "false_positive": (1, 0), "absent": (0, 0)}


def empty_case(outcome: str) -> tuple[np.ndarray, np.ndarray]:
    empty, one_voxel = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    one_voxel[1, 2, 3] = 1
    return {
        "missed": (empty, one_voxel),
        "false_positive": (one_voxel, empty),
        "absent": (empty, empty),
    }[outcome]


@pytest.mark.parametrize("outcome", STRICT)
def test_strict_protocol_penalises_what_is_missing(outcome):
    record = score(*empty_case(outcome), SPACING)
    assert record == pytest.approx(STRICT[outcome], nan_ok=True)
    assert set(record) == {*METRICS, "outcome"}


@pytest.mark.parametrize("outcome", PAPER)
def test_paper_protocol_changes_dice_and_pooled_hd95_only(outcome):
    record = score(*empty_case(outcome), SPACING, protocol="paper")
    dice, hd95 = PAPER[outcome]
    expected = {**STRICT[outcome], "dice": dice, "hd95_pooled_voxels": hd95}
    assert record == pytest.approx(expected, nan_ok=True)


@given(masks=mask_pairs(), spacing=SPACINGS)
@settings(max_examples=20, deadline=None)
def test_protocols_agree_where_both_have_the_class(masks, spacing):
    assert score(*masks, spacing, protocol="paper") == score(*masks, spacing)


@pytest.mark.parametrize("outcome", [*STRICT, "both"])
def test_unknown_spacing_leaves_millimetres_undefined(outcome):
    if outcome == "both":
        prediction = reference = empty_case("missed")[1]
    else:
        prediction, reference = empty_case(outcome)
    record, known = score(prediction, reference, None), score(prediction, reference, SPACING)
    undefined = ("hd95_mm", "surface_dice", "volume_ml", "reference_volume_ml")
    assert all(math.isnan(record[key]) for key in undefined)
    rest = {key: value for key, value in known.items() if key not in undefined}
    assert {key: record[key] for key in rest} == pytest.approx(rest, nan_ok=True)


@pytest.mark.parametrize("outcome", [*STRICT, "both"])
def test_surfaces_can_be_left_out(outcome):
    pair = empty_case("missed")[1:] * 2 if outcome == "both" else empty_case(outcome)
    full, quick = score(*pair, SPACING), score(*pair, SPACING, surfaces=False)
    expected = {**full, "hd95_mm": NAN, "hd95_pooled_voxels": NAN, "surface_dice": NAN}
    assert quick == pytest.approx(expected, nan_ok=True)


def test_missing_an_organ_is_never_better_than_finding_it_at_the_other_end():
    prediction, reference = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    prediction[0, 0, 0], reference[-1, -1, -1] = 1, 1
    found = score(prediction, reference, SPACING)
    missed = score(np.zeros_like(prediction), reference, SPACING)
    assert missed["hd95_mm"] > found["hd95_mm"]
    assert missed["hd95_pooled_voxels"] > found["hd95_pooled_voxels"]


def test_surfaces_at_the_tolerance_agree_in_spite_of_rounding():
    prediction, reference = np.zeros((9, 1, 1), np.uint8), np.zeros((9, 1, 1), np.uint8)
    prediction[0], reference[3] = 1, 1
    spacing = np.float32([0.1, 1, 1])
    assert score(prediction, reference, spacing, tolerance_mm=0.3)["surface_dice"] == 1
    assert score(prediction, reference, spacing, tolerance_mm=0.29)["surface_dice"] == 0


def test_planar_label_maps_are_scored_in_pixels():
    prediction, reference = np.zeros((6, 6), np.uint8), np.zeros((6, 6), np.uint8)
    prediction[0, 0], reference[3, 4] = 1, 1
    assert score(prediction, reference, None)["hd95_pooled_voxels"] == 5


def test_listed_classes_only_and_by_name():
    labels = np.arange(8, dtype=np.uint8).reshape(2, 2, 2)
    records = score_case(labels, labels, SPACING, {7: "liver", 300: "spleen"})
    assert list(records) == ["liver", "spleen"]
    assert records["liver"]["dice"] == 1
    assert records["spleen"]["outcome"] == "absent"


LABELS = np.zeros((2, 2, 2), np.uint8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((LABELS, LABELS[:1], SPACING), "shapes"),
        ((LABELS.astype(np.float32), LABELS, SPACING), "integers"),
        ((LABELS, LABELS.astype(np.int8) - 1, SPACING), "negative"),
        ((LABELS, LABELS, (1.0, 1.0)), "spacing"),
        ((LABELS, LABELS, (1.0, 0.0, 1.0)), "spacing"),
        ((LABELS, LABELS, (1.0, NAN, 1.0)), "spacing"),
        ((LABELS, LABELS, SPACING, {0: "background"}), "label 1"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        score_case(*arguments)
