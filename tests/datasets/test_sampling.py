from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.sampling import SampleKey, SliceSampler
from swin_unet.config import UserError

# 60 slices: one class in forty of them, one in four, one in a single one, sixteen are empty.
CLASSES: list[tuple[int, ...]] = [(1,)] * 38 + [(1, 3), (1, 3, 7), (3,), (3,)] + [()] * 18


def keys(epoch: int = 0, start: int = 0, **options: Any) -> list[SampleKey]:
    sampler = SliceSampler(CLASSES, **({"seed": 0} | options))
    sampler.set_epoch(epoch, start)
    return list(sampler)


def test_every_slice_comes_once_in_a_new_order() -> None:
    orders = []
    for epoch in (0, 1, 2):
        drawn = keys(epoch, seed=3)
        assert {key.epoch for key in drawn} == {epoch}
        assert [key.position for key in drawn] == list(range(60))
        assert {key.target for key in drawn} == {0}
        order = [key.slice_index for key in drawn]
        assert sorted(order) == list(range(60)) != order
        assert drawn == keys(epoch, seed=3)
        orders.append(tuple(order))
    orders.append(tuple(key.slice_index for key in keys(0, seed=4)))
    assert len(set(orders)) == 4


@settings(deadline=None)
@given(fraction=st.floats(0, 1), seed=st.integers(0, 100), epoch=st.integers(0, 100))
def test_a_fraction_is_drawn_for_classes_that_the_slice_has(
    fraction: float, seed: int, epoch: int
) -> None:
    drawn = keys(epoch, seed=seed, foreground_fraction=fraction)
    assert len(drawn) == 60
    assert [key.position for key in drawn] == list(range(60))
    for_class = [key for key in drawn if key.target]
    assert len(for_class) == round(fraction * 60)
    assert all(key.target in CLASSES[key.slice_index] for key in for_class)
    others = [key.slice_index for key in drawn if not key.target]
    assert len(set(others)) == len(others)


def test_classes_are_as_likely_and_so_are_the_slices_of_a_class() -> None:
    drawn = [key for epoch in range(200) for key in keys(epoch, foreground_fraction=0.5)]
    for_class = [key for key in drawn if key.target]
    assert len(for_class) == 200 * 30
    targets = Counter(key.target for key in for_class)
    for value in (1, 3, 7):
        assert targets[value] == pytest.approx(2000, abs=150)
    slices_of_three = Counter(key.slice_index for key in for_class if key.target == 3)
    assert set(slices_of_three) == {38, 39, 40, 41}
    assert max(slices_of_three.values()) - min(slices_of_three.values()) < 150
    places = [key.position for key in for_class]  # spread over the epoch, not at one end
    assert np.mean(places) == pytest.approx(29.5, abs=1)
    plain = Counter(key.slice_index for key in drawn if not key.target)
    assert len(plain) == 60
    assert max(plain.values()) < 2 * min(plain.values())


def test_without_labels_there_is_nothing_to_draw() -> None:
    with pytest.raises(UserError, match=r"data\.foreground_fraction: .*empty label maps only"):
        SliceSampler([()] * 9, seed=0, foreground_fraction=0.3)
    assert len(list(SliceSampler([()] * 9, seed=0))) == 9


@pytest.mark.parametrize(
    ("batch_size", "num_batches", "size"), [(1, 60, 1), (7, 8, 7), (60, 1, 60), (99, 1, 60)]
)
def test_an_epoch_has_whole_batches(batch_size: int, num_batches: int, size: int) -> None:
    sampler = SliceSampler(CLASSES, seed=0, batch_size=batch_size)
    assert (sampler.num_batches, sampler.local_batch_size) == (num_batches, size)
    assert len(sampler) == len(list(sampler)) == num_batches * size


@given(start=st.integers(0, 10), epoch=st.integers(0, 3))
def test_an_epoch_can_start_anywhere(start: int, epoch: int) -> None:
    options: dict[str, Any] = {"batch_size": 6, "foreground_fraction": 0.4}
    assert keys(epoch, start, **options) == keys(epoch, **options)[6 * start :]


def test_the_start_is_forgotten_with_the_epoch() -> None:
    sampler = SliceSampler(CLASSES, seed=0, batch_size=6)
    sampler.set_epoch(0, start=9)
    assert len(list(sampler)) == 6
    sampler.set_epoch(1)
    assert len(list(sampler)) == 60
    assert len(sampler) == 60


@pytest.mark.parametrize("num_replicas", [2, 3, 4])
@pytest.mark.parametrize("start", [0, 2])
def test_processes_share_the_global_batches(num_replicas: int, start: int) -> None:
    options: dict[str, Any] = {"batch_size": 12, "foreground_fraction": 0.4}
    alone = keys(5, start, **options)
    shares = [
        keys(5, start, num_replicas=num_replicas, rank=rank, **options)
        for rank in range(num_replicas)
    ]
    size = 12 // num_replicas
    together = [
        key
        for batch in range(5 - start)
        for share in shares
        for key in share[batch * size : (batch + 1) * size]
    ]
    assert together == alone
    assert len({key.position for share in shares for key in share}) == len(alone)


@pytest.mark.parametrize(("num_slices", "batch_size"), [(60, 9), (7, 20)])
def test_batches_that_cannot_be_shared_are_refused(num_slices: int, batch_size: int) -> None:
    with pytest.raises(UserError, match=r"train\.batch_size: expected a multiple of the 2 proc"):
        SliceSampler([()] * num_slices, seed=0, batch_size=batch_size, num_replicas=2)
