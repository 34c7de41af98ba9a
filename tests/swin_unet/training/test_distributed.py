"""What one process can tell of several; what they do together is in tests/e2e."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from swin_unet.config import UserError
from swin_unet.training.distributed import (
    ALONE,
    World,
    choose_own_device,
    joined,
    lay_out_gradients,
    merge_shards,
    read_world,
    shard,
)

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none",
    "RANK": "5",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "4",
}


@given(st.lists(st.integers(), max_size=20), st.integers(1, 6))
def test_every_item_goes_to_one_process_and_comes_back_in_order(items, size):
    shards = [shard(items, rank, size) for rank in range(size)]
    assert sum(len(share) for share in shards) == len(items)
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
    assert merge_shards(shards) == items


def test_torchrun_says_which_process_this_is():
    assert read_world(TORCHRUN) == World(rank=5, size=8, local_rank=1, local_size=4)
    assert not read_world(TORCHRUN).is_first


def test_variables_of_other_programs_start_no_job():
    assert read_world({"RANK": "5", "WORLD_SIZE": "8"}) is ALONE


def test_alone_everything_is_ones_own():
    with joined() as world:
        assert world == ALONE
        assert world.is_first
    value, module = torch.ones(2), nn.Linear(2, 2)
    assert ALONE.total(value) is value
    assert ALONE.parallel(module) is module
    assert ALONE.gather("a") == ["a"]
    assert ALONE.merge(ALONE.shard("abc")) == list("abc")
    assert ALONE.anywhere(True, False) == (True, False)
    with ALONE.first_of_machine_first():
        ALONE.wait()


@pytest.mark.parametrize(
    ("name", "num_gpus", "expected"),
    [("auto", 4, "cuda:1"), ("cuda", 2, "cuda:1"), ("cpu", 4, "cpu"), ("auto", 0, "auto")],
)
def test_every_process_has_a_gpu_of_its_own(monkeypatch, name, num_gpus, expected):
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: num_gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: num_gpus)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert choose_own_device(name, World(1, 2, 1, 2)) == expected
    assert chosen == ([1] if expected == "cuda:1" else [])
    assert choose_own_device(name, ALONE) == name


@pytest.mark.parametrize(
    ("name", "message"),
    [("cuda:0", "device: expected auto, cpu or cuda"), ("auto", "at most 1, the number of GPUs")],
)
def test_processes_that_would_share_a_gpu_are_refused(monkeypatch, name, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match=message):
        choose_own_device(name, World(1, 2, 1, 2))


def test_batch_norm_of_parts_of_a_batch_is_refused():
    module = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
    with pytest.raises(UserError, match="batch norm"):
        World(0, 2).parallel(module)


class PixelHead(nn.Module):
    """A 1 x 1 convolution behind layers that have the channels last."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(1, 8, 4, 4)
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, image):
        with torch.autocast("cpu", torch.bfloat16):
            return self.head(self.embed(image).contiguous(memory_format=torch.channels_last))


def gradients(lays_out):
    torch.manual_seed(0)
    model = PixelHead()
    if lays_out:
        lay_out_gradients(model)
    model(torch.randn(2, 1, 16, 16)).float().square().sum().backward()
    return [(parameter, parameter.grad) for parameter in model.parameters()]


def test_gradients_have_the_strides_of_their_parameters_and_keep_their_values():
    """As DistributedDataParallel wants them."""
    for (_, gradient), (parameter, laid_out) in zip(gradients(False), gradients(True), strict=True):
        assert laid_out.stride() == parameter.stride()
        assert torch.equal(laid_out, gradient)
