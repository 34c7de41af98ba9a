from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from swin_unet import SwinUNet
from swin_unet.cli import run
from swin_unet.models.classifier import SwinClassifier
from swin_unet.models.complexity import main, measure, split_parts, total

TINY = {"embed_dim": 8, "num_heads": (1, 2, 2, 4), "window_size": 4}


def tiny(**settings):
    return SwinUNet(2, 3, **{**TINY, **settings})


@pytest.mark.parametrize(("image_size", "window", "gmacs"), [(224, 7, 6.16), (384, 12, 19.3)])
def test_published_macs(image_size, window, gmacs):
    model = SwinUNet(3, 9, window_size=window)
    costs = measure(model, (image_size, image_size), in_channels=3)
    assert total(costs).macs / 1e9 == pytest.approx(gmacs, rel=0.02)


def test_published_macs_of_the_classifier():
    costs = measure(SwinClassifier(), (224, 224), in_channels=3)
    assert total(costs).macs / 1e9 == pytest.approx(4.494, rel=0.02)
    assert total(costs).parameters == 28_288_354


def attention_macs(num_tokens, window, dim):
    """Queries by keys, and weights by values: every token with its window."""
    return 2 * num_tokens * window**2 * dim


def test_macs_of_a_stage_by_hand():
    """Two blocks at 8 x 8 tokens in windows of 4 x 4, then the merge to 4 x 4 tokens."""
    costs = {cost.part: cost for cost in measure(tiny(), (32, 32), in_channels=2)}
    linear = 64 * (3 + 1 + 4 + 4) * 8 * 8  # qkv, projection, two layers of the perceptron
    merge = 16 * (4 * 8) * (2 * 8)
    assert costs["patch embedding"].macs == 64 * (4 * 4 * 2) * 8
    assert costs["encoder stage 1"].macs == 2 * (linear + attention_macs(64, 4, 8)) + merge
    assert costs["head"].macs == 32 * 32 * 8 * 3


def test_kept_bytes_of_known_layers():
    """A linear keeps its input, a norm its input, mean and deviation, a ReLU its output."""
    linear, norm = nn.Linear(5, 7), nn.LayerNorm(7)
    model = nn.Sequential(nn.Conv2d(2, 5, kernel_size=1), nn.Flatten(2), Transpose(), linear, norm)
    model.append(nn.ReLU())
    costs = {cost.part: cost for cost in measure(model, (4, 6), in_channels=2, batch_size=3)}
    positions = 3 * 4 * 6
    kept = {part: cost.activation_bytes // 4 for part, cost in costs.items()}
    assert kept == {
        "0": positions * 2,
        "3": positions * 5,
        "4": positions * (7 + 2),
        "5": positions * 7,
    }


class Transpose(nn.Module):
    def forward(self, x):
        return x.transpose(1, 2).contiguous()


def really_kept_bytes(model, image):
    """Keep what autograd keeps, and add up the distinct addresses."""
    known = {tensor.untyped_storage().data_ptr() for tensor in model.state_dict().values()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = (tensor, storage.nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(image)
    return sum(size for address, (_, size) in kept.items() if address not in known)


@pytest.mark.parametrize("settings", [{}, {"version": 2}, {"upsampling": "bilinear", "skips": 1}])
def test_nothing_is_left_out_or_counted_twice(settings):
    model = tiny(**settings)
    costs = measure(model, (67, 50), in_channels=2, batch_size=2)
    assert total(costs).parameters == sum(parameter.numel() for parameter in model.parameters())
    kept = really_kept_bytes(model, torch.zeros(2, 2, 67, 50))
    assert total(costs).activation_bytes == kept
    assert [cost.part for cost in costs if cost.part not in split_parts(model)] == []


def test_macs_grow_with_the_batch():
    one, three = (
        total(measure(tiny(), (32, 40), in_channels=2, batch_size=size)) for size in (1, 3)
    )
    assert three.macs == 3 * one.macs
    assert three.parameters == one.parameters


def test_parts_are_the_stages():
    names = [cost.part for cost in measure(tiny(), (32, 32), in_channels=2)]
    assert names == [
        "patch embedding",
        *(f"encoder stage {number}" for number in (1, 2, 3, 4)),
        *(f"decoder level {number}" for number in (1, 2, 3)),
        "final upsampling",
        "head",
    ]


def test_checkpointing_keeps_less_in_training_and_computes_the_same():
    with_all, with_less = (
        total(measure(tiny(checkpointing=on), (64, 64), in_channels=2)) for on in (False, True)
    )
    assert with_less.activation_bytes < 0.7 * with_all.activation_bytes
    assert with_less.macs == with_all.macs


def test_a_frozen_network_keeps_nothing():
    costs = measure(tiny().requires_grad_(False), (32, 32), in_channels=2)
    assert total(costs).activation_bytes == 0
    assert total(costs).macs > 0


class Surrounded(nn.Module):
    """Computes and has parameters outside of its only part."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 4))
        self.inner = nn.Linear(4, 4)

    def forward(self, x):
        return self.inner(x @ self.weight)


def test_the_rest_is_counted():
    rest = {cost.part: cost for cost in measure(Surrounded(), (3, 4), in_channels=2)}["rest"]
    assert (rest.parameters, rest.macs) == (16, 2 * 3 * 4 * 4)


def test_the_network_and_the_random_states_stay_as_they_are():
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), tiny_of_four())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random_state = torch.get_rng_state()
    measure(model, (40, 40), in_channels=2)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def tiny_of_four():
    return SwinUNet(4, 3, **TINY)


def test_command_prints_and_writes_the_same(tmp_path, capsys):
    path = tmp_path / "out" / "cost.json"
    flags = [
        "--model.embed_dim",
        "24",
        "--data.context_slices",
        "3",
        "--data.classes",
        "[liver,spleen]",
    ]
    flags += ["--image_size", "40", "48", "--batch_size", "2", "--json", str(path)]
    assert run(lambda: main(flags)) == 0
    printed = capsys.readouterr().out
    content = json.loads(path.read_text())
    assert content["image_size"] == [40, 48]
    assert (content["in_channels"], content["num_classes"], content["batch_size"]) == (3, 3, 2)
    assert [part["part"] for part in content["parts"]][-1] == "head"
    for name in ("parameters", "macs", "activation_bytes"):
        assert content["total"][name] == sum(part[name] for part in content["parts"])
    assert f"{content['total']['parameters']:,}" in printed
    assert f"{content['total']['macs'] / 1e6:,.1f}" in printed
    assert "3 classes, images 2 x 3 x 40 x 48" in printed


def test_command_takes_flags_before_the_data_section(capsys):
    flags = [
        "--config",
        "phantom.yaml",
        "--in_channels",
        "2",
        "--num_classes",
        "4",
        "--image_size",
        "24",
        "24",
    ]
    assert run(lambda: main(flags)) == 0
    assert "4 classes, images 1 x 2 x 24 x 24" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--batch_size 0", "--batch_size: expected at least 1, found 0"),
        ("--image_size 32 -1", "--image_size"),
        ("--image_size 32", "image_size"),
        ("--in_channels many", "in_channels"),
        ("--num_classes 0", "--num_classes: expected at least 1"),
        ("--batchsize 2", "Did you mean `--batch_size`?"),
        ("--model.num_heads [5,5,5,5]", "num_heads 5 does not divide"),
        ("--model.name basic_unet --model.skips 1", "model.skips"),
        ("--image_size 8 8 --json /dev/null/x.json", "/dev/null"),
    ],
)
def test_bad_options_exit_with_2(flags, message, capsys):
    assert run(lambda: main(flags.split())) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
