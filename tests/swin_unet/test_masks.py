from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from swin_unet.masks import random_mask


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("size", "hidden", "total"), [(192, 22, 36), (224, 30, 49), (256, 39, 64), (512, 154, 256)]
)
def test_the_published_mask_counts(size, hidden, total):
    mask = random_mask((size // 4, size // 4), 0.6, seeded(), tokens_per_patch=8)
    patches = mask.unfold(0, 8, 8).unfold(1, 8, 8).flatten(2)  # (rows, columns, tokens)
    assert patches.shape[0] * patches.shape[1] == total
    assert int(patches.mean(dim=2).sum()) == hidden
    assert torch.equal(patches.amin(dim=2), patches.amax(dim=2))  # whole patches


@given(
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    side=st.integers(1, 4),
    ratio=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_a_mask_hides_the_share_rounded_up(rows, columns, side, ratio, seed):
    mask = random_mask((rows * side, columns * side), ratio, seeded(seed), side)
    assert mask.shape == (rows * side, columns * side)
    assert mask.sum() == math.ceil(ratio * rows * columns) * side**2


def test_masks_differ_by_seed_and_hide_every_place_in_turn():
    assert torch.equal(random_mask((6, 6), 0.5, seeded(3)), random_mask((6, 6), 0.5, seeded(3)))
    average = torch.stack([random_mask((6, 6), 0.5, seeded(i)) for i in range(400)]).mean(dim=0)
    assert ((average - 0.5).abs() < 0.12).all()


def test_a_mask_must_fit_the_grid():
    with pytest.raises(ValueError, match="multiple of patches of 8"):
        random_mask((50, 48), 0.6, seeded(), 8)
