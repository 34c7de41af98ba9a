from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from swin_unet.config import UserError
from swin_unet.training.state import (
    LossWatch,
    Totals,
    all_finite,
    random_states_kept,
    seed_everything,
)


def add(watch, *losses):
    for step, loss in enumerate(losses, start=1):
        batch = {"case": [f"case{step}", "both", "both"]}
        watch.add(f"epoch 1, step {step}", torch.tensor(loss), batch)


@pytest.mark.parametrize("interval", [1, 2, 20])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_the_guilty_step_is_named_however_late_it_is_noticed(interval, bad):
    watch = LossWatch(interval)

    def train():
        add(watch, 1.0, 0.5, bad, float("nan"), 0.5)
        watch.look()

    with pytest.raises(UserError) as caught:
        train()
    message = str(caught.value)
    assert message.startswith("epoch 1, step 3: expected a finite loss, found ")
    assert f"found {bad} for slices of case3, both. " in message
    assert "--resume auto" in message


def test_finite_losses_pass():
    watch = LossWatch(2)
    add(watch, 1.0, 0.0, 1e30)
    assert watch.look() is None


def test_a_batch_of_many_cases_is_not_listed_in_full():
    watch = LossWatch(1)
    names = [f"case{number}" for number in range(12)]
    with pytest.raises(UserError, match=r"slices of case0, .*, case7, \.\.\.\. Look"):
        watch.add("step 1", torch.tensor(float("nan")), {"case": names})


def test_infinite_weights_are_found_and_integers_are_finite():
    assert all_finite({"a": torch.ones(3), "count": torch.tensor(3)})
    assert not all_finite({"a": torch.tensor([1.0, float("inf")])})


def test_totals_go_on_where_they_stopped():
    losses = [{"loss": torch.tensor(value)} for value in (0.1, 0.2, 0.7)]
    whole, first = Totals(), Totals()
    for each in losses:
        whole.add(each, 4)
    for each in losses[:2]:
        first.add(each, 4)
    second = Totals(**vars(first)).to(torch.device("cpu"))
    second.add(losses[2], 4)
    assert second.means(3) == whole.means(3) == {"loss": pytest.approx(1 / 3)}
    assert second.slices == 12


def test_speed_is_over_the_time_of_the_epoch():
    totals = Totals(slices=30, seconds=2.0, wait_seconds=0.5)
    assert totals.speed() == {
        "train/seconds": 2.0,
        "train/slices_per_second": 15.0,
        "train/data_wait": 0.25,
    }


def test_random_states_are_kept():
    def draws():
        return random.random(), np.random.rand(), torch.rand(()).item()

    seed_everything(3)
    expected = draws()
    seed_everything(3)
    with random_states_kept():
        draws()
    assert draws() == expected
