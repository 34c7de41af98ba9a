from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from swin_unet.training.ema import MovingAverage


def walk(model, steps):
    """Change the weights at random; yield after every change."""
    for step in range(steps):
        torch.manual_seed(step)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        model(torch.randn(4, 3))
        yield


def test_it_is_the_average_that_torch_computes():
    """By torch's own averaging, with the same decay at every step."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    ours = MovingAverage(model, decay=0.7)
    count = 0

    def average(mean, value, num_averaged):
        decay = min(0.7, (1 + count) / (10 + count))
        return decay * mean + (1 - decay) * value

    theirs = AveragedModel(model, avg_fn=average, use_buffers=True)
    theirs.update_parameters(model)  # the first only copies
    for _ in walk(model, 30):
        ours.update(model)
        theirs.update_parameters(model)
        count += 1
    expected = theirs.module.state_dict()
    floating = {k: v for k, v in ours.model.state_dict().items() if v.is_floating_point()}
    for name, value in floating.items():
        torch.testing.assert_close(value.double(), expected[name].double(), rtol=1e-5, atol=1e-6)
    assert ours.model[1].num_batches_tracked == 30
    assert not ours.model.training
    assert not any(parameter.requires_grad for parameter in ours.model.parameters())


def test_the_start_is_forgotten_at_once():
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 100.0)
    average = MovingAverage(model, decay=0.999)
    nn.init.constant_(model.weight, 1.0)
    for _ in range(10):
        average.update(model)
    assert average.model.weight.item() == pytest.approx(1.0, abs=0.01)


def test_it_goes_on_as_if_it_had_not_stopped():
    model = nn.Linear(3, 2)
    whole = MovingAverage(model, decay=0.9)
    state = None
    for step, _ in enumerate(walk(model, 8)):
        whole.update(model)
        if step == 3:
            state = copy.deepcopy((model.state_dict(), whole.state_dict()))
    model.load_state_dict(state[0])
    resumed = MovingAverage(nn.Linear(3, 2), decay=0.9)
    resumed.load_state_dict(state[1])
    for step, _ in enumerate(walk(model, 8)):
        if step > 3:
            resumed.update(model)
        else:
            model.load_state_dict(state[0])
    assert torch.equal(resumed.model.weight, whole.model.weight)
    assert resumed.num_updates == whole.num_updates == 8
