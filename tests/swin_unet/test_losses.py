from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from swin_unet.losses import DeepSupervisionLoss, SegmentationLoss, soft_dice_loss, subsample

SIZES = st.tuples(st.integers(1, 3), st.integers(2, 5), st.integers(1, 9), st.integers(1, 9))
# The Dice loss that MONAI's compound losses are given, to be ours.
DICE = {
    "softmax": True,
    "to_onehot_y": True,
    "squared_pred": True,
    "batch": True,
    "smooth_nr": 1e-5,
    "smooth_dr": 1e-5,
}


def example(batch, num_classes, height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, num_classes, height, width, generator=generator) * 3
    return logits, torch.randint(0, num_classes, (batch, height, width), generator=generator)


@settings(deadline=None, max_examples=20)
@given(SIZES, st.integers(0, 9))
def test_dice_equals_monai(size, seed):
    from monai.losses import DiceLoss

    logits, label = example(*size, seed)
    expected = DiceLoss(**DICE)(logits, label[:, None])
    assert soft_dice_loss(logits, label).item() == pytest.approx(expected.item(), abs=1e-6)


@settings(deadline=None, max_examples=20)
@given(SIZES, st.integers(0, 9))
def test_both_losses_equal_monais(size, seed):
    from monai.losses import DiceCELoss, DiceFocalLoss

    logits, label = example(*size, seed)
    theirs = {
        "ce_dice": DiceCELoss(**DICE, lambda_dice=0.7, lambda_ce=0.2),
        "dice_focal": DiceFocalLoss(**DICE, lambda_dice=0.7, lambda_focal=0.2),
    }
    for name, loss in theirs.items():
        ours = SegmentationLoss(name, 0.2, 0.7)(logits, label)["loss"]
        expected = loss(logits, label[:, None]).item()
        assert ours.item() == pytest.approx(expected, abs=1e-6, rel=1e-5)


@pytest.mark.parametrize("name", ["ce_dice", "dice_focal"])
def test_gradients_equal_monais(name):
    from monai.losses import DiceCELoss, DiceFocalLoss

    logits, label = example(2, 3, 8, 9)
    theirs = (DiceCELoss if name == "ce_dice" else DiceFocalLoss)(**DICE)
    gradients = []
    for loss in (
        lambda x: SegmentationLoss(name, 1, 1)(x, label)["loss"],
        lambda x: theirs(x, label[:, None]),
    ):
        x = logits.clone().requires_grad_()
        loss(x).backward()
        gradients.append(x.grad)
    assert torch.allclose(*gradients, atol=1e-7)


def test_class_weights_act_on_the_pixels_loss():
    from monai.losses import FocalLoss

    logits, label = example(2, 3, 8, 9)
    weights = torch.tensor([0.5, 2.0, 0.0])
    theirs = {
        "ce": nn.CrossEntropyLoss(weights)(logits, label),
        "focal": FocalLoss(to_onehot_y=True, weight=weights)(logits, label[:, None]),
    }
    for name, part in (("ce_dice", "ce"), ("dice_focal", "focal")):
        losses = SegmentationLoss(name, class_weights=weights.tolist())(logits, label)
        assert losses[part].item() == pytest.approx(theirs[part].item(), rel=1e-5)
        assert losses["dice"].item() == soft_dice_loss(logits, label).item()


def test_a_batch_of_nothing_but_classes_of_weight_zero_is_no_fault():
    logits, _ = example(1, 2, 4, 4)
    logits.requires_grad_()
    loss = SegmentationLoss(class_weights=[0.0, 1.0])(logits, torch.zeros(1, 4, 4).long())
    loss["loss"].backward()
    assert loss["ce"].item() == 0
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize(("name", "part"), [("ce_dice", "ce"), ("dice_focal", "focal")])
def test_the_parts_add_up_and_a_perfect_prediction_costs_nothing(name, part):
    label = torch.randint(0, 3, (2, 8, 8))
    logits = F.one_hot(label, 3).permute(0, 3, 1, 2) * 200.0 - 100
    losses = SegmentationLoss(name)(logits, label)
    assert losses["loss"].item() == pytest.approx(0, abs=1e-5)
    losses = SegmentationLoss(name, 0.4, 0.6)(torch.randn(2, 3, 8, 8), label)
    assert losses.keys() == {"loss", part, "dice"}
    expected = 0.4 * losses[part] + 0.6 * losses["dice"]
    assert losses["loss"].item() == pytest.approx(expected.item())


@pytest.mark.parametrize("name", ["ce_dice", "dice_focal"])
def test_the_sums_of_parts_give_the_loss_of_the_whole(name):
    """What several processes do, one after the other: add up, then compute."""
    logits, label = example(5, 3, 8, 9)
    weights = [0.5, 1.0, 2.0]
    parts: list[torch.Tensor] = []

    def record(sums):
        parts.append(sums)
        return sums

    criterion = SegmentationLoss(name, class_weights=weights, total=record)
    criterion(logits[:2], label[:2])
    criterion(logits[2:], label[2:])
    joined = SegmentationLoss(name, class_weights=weights, total=lambda sums: sum(parts))
    expected = SegmentationLoss(name, class_weights=weights)(logits, label)
    for key, value in joined(logits[:1], label[:1]).items():
        assert value.item() == pytest.approx(expected[key].item(), rel=1e-5)
    joined_dice = soft_dice_loss(logits[:1], label[:1], total=lambda _: sum(parts)[2:].view(2, 3))
    assert joined_dice.item() == pytest.approx(expected["dice"].item(), rel=1e-5)


@pytest.mark.parametrize("name", ["ce_dice", "dice_focal"])
def test_half_precision_logits_are_summed_in_float32(name):
    logits = torch.zeros(1, 2, 600, 600, dtype=torch.bfloat16)
    label = torch.zeros(1, 600, 600, dtype=torch.int64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = SegmentationLoss(name)(logits, label)
    assert {value.dtype for value in losses.values()} == {torch.float32}
    # class 0: 2 * 0.5 n / (0.25 n + n); class 1: 0 / 0.25 n
    assert losses["dice"].item() == pytest.approx(1 - 0.5 * 0.8, abs=1e-6)
    expected = {"ce": np.log(2), "focal": 0.25 * np.log(2)}
    pixel = (losses.keys() & expected).pop()
    assert losses[pixel].item() == pytest.approx(expected[pixel], rel=1e-6)


def test_deep_supervision_equals_monais():
    from monai.losses import DeepSupervisionLoss as MonaiLoss
    from monai.losses import DiceCELoss

    logits, label = example(2, 3, 32, 48)
    strides = (1, 4, 8, 16)
    outputs = [logits, *(torch.randn(2, 3, 32 // s, 48 // s) for s in strides[1:])]
    ours = DeepSupervisionLoss(SegmentationLoss("ce_dice", 1, 1), strides)(outputs, label)
    theirs = MonaiLoss(DiceCELoss(**DICE))(outputs, label[:, None].float())
    assert ours["loss"].item() == pytest.approx(theirs.item() / 1.875, rel=1e-5)
    finest = SegmentationLoss("ce_dice", 1, 1)(logits, label)
    assert ours["ce"] == finest["ce"]
    assert ours["dice"] == finest["dice"]


@given(st.integers(1, 20), st.integers(1, 20), st.sampled_from([1, 2, 3, 4, 8]))
def test_a_coarse_label_is_the_middle_pixel_of_its_square(height, width, stride):
    label = torch.arange(height * width).view(1, height, width)
    size = -(-height // stride), -(-width // stride)
    coarse = subsample(label, stride, size)
    assert coarse.shape == (1, *size)
    for row, column in np.ndindex(*size):
        y = min(row * stride + stride // 2, height - 1)
        x = min(column * stride + stride // 2, width - 1)
        assert coarse[0, row, column] == label[0, y, x]
