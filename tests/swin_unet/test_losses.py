from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from swin_unet.losses import DiceCrossEntropyLoss, soft_dice_loss


@settings(deadline=None, max_examples=20)
@given(
    st.integers(1, 3), st.integers(2, 5), st.integers(1, 9), st.integers(1, 9), st.integers(0, 9)
)
def test_dice_equals_monai(batch, num_classes, height, width, seed):
    from monai.losses import DiceLoss

    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, num_classes, height, width, generator=generator) * 3
    label = torch.randint(0, num_classes, (batch, height, width), generator=generator)
    theirs = DiceLoss(
        softmax=True,
        to_onehot_y=True,
        squared_pred=True,
        batch=True,
        smooth_nr=1e-5,
        smooth_dr=1e-5,
    )
    assert soft_dice_loss(logits, label).item() == pytest.approx(
        theirs(logits, label[:, None]).item(), abs=1e-6
    )


def test_the_parts_add_up_and_a_perfect_prediction_costs_nothing():
    label = torch.randint(0, 3, (2, 8, 8))
    logits = torch.nn.functional.one_hot(label, 3).permute(0, 3, 1, 2) * 100.0
    losses = DiceCrossEntropyLoss()(logits, label)
    assert losses["loss"].item() == pytest.approx(0, abs=1e-5)
    losses = DiceCrossEntropyLoss(0.4, 0.6)(torch.randn(2, 3, 8, 8), label)
    expected = 0.4 * losses["ce"] + 0.6 * losses["dice"]
    assert losses["loss"].item() == pytest.approx(expected.item())


def test_half_precision_logits_are_summed_in_float32():
    logits = torch.zeros(1, 2, 600, 600, dtype=torch.bfloat16)
    label = torch.zeros(1, 600, 600, dtype=torch.int64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = DiceCrossEntropyLoss()(logits, label)
    assert losses["dice"].dtype == torch.float32
    # class 0: 2 * 0.5 n / (0.25 n + n); class 1: 0 / 0.25 n
    assert losses["dice"].item() == pytest.approx(1 - 0.5 * 0.8, abs=1e-6)
