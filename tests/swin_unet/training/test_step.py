from __future__ import annotations

import copy
import logging

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from swin_unet.config import TrainConfig, UserError
from swin_unet.devices import is_out_of_memory
from swin_unet.training.memory import split_batch
from swin_unet.training.step import Stepper

SGD = {"batch_size": 6, "optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0}


class Toy(nn.Module):
    """With everything that a forward pass may change: random numbers and running statistics."""

    def __init__(self, dropout=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.Dropout(dropout), nn.Conv2d(4, 3, 1)
        )

    def forward(self, image):
        return self.layers(image)


def batch(count=6):
    generator = torch.Generator().manual_seed(1)
    return {
        "image": torch.randn(count, 1, 8, 8, generator=generator),
        "label": torch.randint(0, 3, (count, 8, 8), generator=generator),
        "case": ["a"] * count,
    }


def stepper(model, loss=None, **options):
    def cross_entropy(part):
        return {"loss": F.cross_entropy(model(part["image"]), part["label"])}

    return Stepper(model, model, loss or cross_entropy, TrainConfig(**SGD | options), "fp32")


def gradients(run):
    return torch.cat([parameter.grad.flatten() for parameter in run.model.parameters()])


@pytest.mark.parametrize("count", [6, 5, 1])
@pytest.mark.parametrize("accumulation", [2, 3, 4, 6])
def test_parts_add_up_to_the_gradient_of_the_batch(count, accumulation):
    whole, parts = stepper(Toy()), stepper(Toy(), accumulation=accumulation)
    losses = [run.compute_gradient(batch(count))["loss"] for run in (whole, parts)]
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(gradients(whole), gradients(parts))


def test_a_step_is_one_step_of_the_optimizer_however_many_parts():
    whole, parts = stepper(Toy()), stepper(Toy(), accumulation=3, gradient_clip=0.01)
    clipped = stepper(Toy(), gradient_clip=0.01)
    for run in (whole, parts, clipped):
        run.step(batch(), rate=0.5)
    moved = [run.model.layers[0].weight.detach() for run in (whole, parts, clipped)]
    torch.testing.assert_close(moved[1], moved[2])
    assert not torch.allclose(moved[0], moved[1])  # the clipping was of the whole gradient


def failing(model, limit, error, calls):
    """A loss that needs more memory than there is for more than `limit` samples."""

    def loss(part):
        calls.append(len(part["image"]))
        value = F.cross_entropy(model(part["image"]), part["label"])  # draws, then fails
        if len(part["image"]) > limit:
            raise error
        return {"loss": value}

    return loss


ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
    MemoryError(),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_out_of_memory_takes_the_same_step_in_smaller_parts(error, caplog):
    calls = []
    model = Toy(dropout=0.5)
    short = stepper(model, failing(model, 2, error, calls))
    planned = stepper(Toy(dropout=0.5), accumulation=6)
    with caplog.at_level(logging.WARNING, "swin_unet"):
        torch.manual_seed(5)
        short.step(batch(), rate=0.1)
    assert calls == [6, 3, 1, 1, 1, 1, 1, 1]
    assert "out of memory with 6 slices at a time: going on with 3, 2 parts" in caplog.text
    assert "going on with 1, 6 parts to a step; the batch stays 6 slices" in caplog.text
    torch.manual_seed(5)  # the same random numbers as if it had been planned so
    planned.step(batch(), rate=0.1)
    for ours, theirs in zip(model.parameters(), planned.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    calls.clear()
    short.step(batch(), rate=0.1)
    assert calls == [1] * 6  # it does not try in vain again


def test_out_of_memory_leaves_running_statistics_as_they_were():
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, 3, 1))
    short = stepper(model, failing(model, 3, MemoryError(), []))
    short.step(batch(), rate=0.1)
    assert model[0].num_batches_tracked == 2  # two parts of three samples, no failed attempt


def test_a_slice_that_does_not_fit_ends_the_run():
    model = Toy()
    with pytest.raises(UserError, match=r"train.batch_size: expected memory for one slice"):
        stepper(model, failing(model, 0, MemoryError(), [])).step(batch(), rate=0.1)


def test_other_errors_pass():
    model = Toy()
    with pytest.raises(RuntimeError, match="shape"):
        stepper(model, failing(model, 0, RuntimeError("shape"), [])).step(batch(), rate=0.1)
    assert not is_out_of_memory(RuntimeError("shape"))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_parts_hold_the_samples_in_order():
    parts = list(split_batch(batch(5), 2))
    assert [len(part["image"]) for part in parts] == [2, 2, 1]
    for name in ("image", "label"):
        assert torch.equal(torch.cat([part[name] for part in parts]), batch(5)[name])


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_state_holds_all_that_a_step_changes(optimizer):
    options = {"optimizer": optimizer, "momentum": None, "ema_decay": 0.9, "accumulation": 2}
    whole, resumed = (stepper(Toy(dropout=0.5), **options) for _ in range(2))
    torch.manual_seed(2)
    for rate in (0.1, 0.05):
        whole.step(batch(), rate)
    resumed.load_state_dict(copy.deepcopy(whole.state_dict()))
    for run in (whole, resumed):
        torch.manual_seed(3)
        run.step(batch(), 0.02)
    for ours, theirs in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    for ours, theirs in zip(whole.result.parameters(), resumed.result.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert whole.result is not whole.network
