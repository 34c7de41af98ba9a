from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from swin_unet import SwinUNet
from swin_unet.config import UserError
from swin_unet.models.initial import load_initial

SMALL = {"embed_dim": 8, "depths": (1, 1), "num_heads": (1, 1), "window_size": 4, "skips": 1}


def network(seed, **options):
    torch.manual_seed(seed)
    return SwinUNet(1, 3, **{**SMALL, **options})


def write(path, tensors):
    tensors = {name: value.contiguous().clone() for name, value in tensors.items()}
    save_file(tensors, path) if path.suffix == ".safetensors" else torch.save(tensors, path)
    return path


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize(
    ("change", "is_all"),
    [
        ({}, True),
        ({"skips": 0}, True),
        ({"upsampling": "bilinear"}, False),
        ({"window_size": 2}, False),
        ({"embed_dim": 16}, False),
    ],
)
def test_what_agrees_is_taken_and_the_rest_stays(tmp_path, suffix, change, is_all):
    giver = network(0).state_dict()
    path = write(tmp_path / f"start{suffix}", giver)
    taker = network(1, **change)
    before = {name: value.clone() for name, value in taker.state_dict().items()}
    note = load_initial(taker, path)
    num_taken = num_numbers = 0
    for name, value in taker.state_dict().items():
        agrees = name in giver and np.shape(giver[name]) == np.shape(value)
        num_taken += agrees
        num_numbers += agrees * value.numel()
        assert torch.equal(value, giver[name] if agrees else before[name]), name
    assert 0 < num_taken <= len(before)
    assert (num_taken == len(before)) is is_all
    assert note.startswith(f"{path}: {num_taken} of {len(before)} tensors")
    assert f"{num_numbers:,} of {sum(v.numel() for v in before.values()):,} numbers" in note


def test_a_file_of_nothing_that_agrees_is_refused(tmp_path):
    path = write(tmp_path / "other.pt", {"stem.weight": torch.zeros(2), "strange": torch.ones(1)})
    model = network(0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(UserError, match=r"other\.pt: expected tensors with names of"):
        load_initial(model, path)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_network_of_another_width_starts_by_itself(tmp_path):
    wide = {name: torch.zeros(*value.shape, 2) for name, value in network(0).state_dict().items()}
    model = network(0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert ": 0 of " in load_initial(model, write(tmp_path / "wide.pt", wide))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
