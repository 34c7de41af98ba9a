"""MONAI's networks behind our interface."""

from __future__ import annotations

from dataclasses import fields, replace
from inspect import signature
from typing import get_args, get_type_hints

import pytest
import torch
from monai.networks import nets

from swin_unet.config import MODEL_OPTIONS, Config, ModelConfig, UserError
from swin_unet.config_rules import validate
from swin_unet.models import MODELS, build_model, model_arguments
from swin_unet.models.baselines import PaddedNetwork, basic_unet, swin_unetr
from swin_unet.models.complexity import measure, total
from tests.model_checks import (
    SIZES,
    check_checkpointing,
    check_items_independent,
    check_logits,
    check_save_and_load,
)

SETTINGS = [
    {"name": "basic_unet", "embed_dim": 4},
    {"name": "attention_unet", "embed_dim": 4},
    {"name": "dyn_unet", "embed_dim": 4},
    {"name": "swin_unetr", "embed_dim": 12, "drop_path_rate": 0.0},
    {
        "name": "swin_unetr",
        "embed_dim": 12,
        "depths": [1, 2, 1, 1],
        "num_heads": [1, 2, 4, 8],
        "window_size": 4,
        "drop_path_rate": 0.0,
        "checkpointing": True,
    },
]
NAMES = sorted({str(settings["name"]) for settings in SETTINGS})


@pytest.fixture(params=SETTINGS, ids=lambda settings: "-".join(map(str, settings.values())))
def config(request):
    return ModelConfig(**request.param)


def build(config, in_channels=2, num_classes=3):
    torch.manual_seed(0)
    return build_model(model_arguments(config, in_channels, num_classes))


@pytest.mark.parametrize("size", SIZES)
def test_any_size_gives_logits_of_that_size(config, size):
    """Also in training, where MONAI's norms refuse a map of one position."""
    for model in (build(config).train(), build(config).eval()):
        check_logits(model, size, batch_size=1)


def test_every_parameter_gets_a_gradient(config):
    """That of a bias which a norm takes away again is zero up to rounding."""
    model = build(config).train()
    model(torch.randn(2, 2, 67, 71)).square().mean().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert [name for name, gradient in gradients.items() if gradient is None] == []
    zero = [name for name, gradient in gradients.items() if not gradient.any()]
    assert [name for name in zero if not name.endswith("conv.bias")] == []


def test_save_and_load_gives_the_same_logits(config):
    check_save_and_load(lambda: build(config))


def test_batch_items_are_independent(config):
    check_items_independent(build(config).eval(), tolerance=1e-4)


def test_checkpointing_changes_nothing():
    check_checkpointing(
        lambda on: swin_unetr(2, 3, embed_dim=12, drop_path_rate=0.3, checkpointing=on)
    )


def test_a_size_that_fits_is_not_padded(config):
    model = build(config).eval()
    image = torch.randn(1, 2, 64, 96)
    assert torch.equal(model(image), model.network(image))


def test_a_size_that_fits_gives_what_monai_gives():
    torch.manual_seed(0)
    ours = basic_unet(2, 3).eval()
    torch.manual_seed(0)
    monai = nets.BasicUNet(spatial_dims=2, in_channels=2, out_channels=3).eval()
    image = torch.randn(2, 2, 32, 48)
    assert torch.equal(ours(image), monai(image))


def test_padding_is_by_the_edge():
    network = PaddedNetwork(torch.nn.AvgPool2d(3, stride=1, padding=1), stride=8)
    image = torch.full((1, 1, 21, 35), 7.0)
    inner = network(image)[..., 1:, 1:]  # the pool's own zeros touch the upper and left edge
    assert torch.equal(inner, torch.full_like(inner, 7.0))


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("basic_unet", 1_978_697),
        ("attention_unet", 7_940_009),
        ("dyn_unet", 20_611_401),
        ("swin_unetr", 6_302_403),
    ],
)
def test_parameter_counts_of_the_documentation(name, count):
    model = build(ModelConfig(name=name), 1, 9)
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_complexity_is_measured_by_top_level_modules(config):
    model = build(config).train()
    costs = measure(model, (64, 64), in_channels=2)
    assert total(costs).parameters == sum(parameter.numel() for parameter in model.parameters())
    assert all(cost.part.startswith("network.") for cost in costs)
    assert len(costs) >= 3
    assert all(cost.macs > 0 for cost in costs)


def test_every_name_has_a_network_and_its_options():
    names = get_args(get_type_hints(ModelConfig)["name"])
    built_by_a_task = {"simmim"}
    assert set(names) == set(MODELS) - built_by_a_task
    assert set(names) <= set(MODEL_OPTIONS)


@pytest.mark.parametrize("name", NAMES)
def test_options_are_the_constructors_arguments(name):
    from swin_unet.models import baselines

    arguments = signature(getattr(baselines, name)).parameters
    assert arguments.keys() - {"in_channels", "num_classes"} == MODEL_OPTIONS[name]
    defaults = {item.name: item.default for item in fields(ModelConfig)}
    assert all(arguments[key].default == defaults[key] for key in MODEL_OPTIONS[name])


NOT_DEFAULT = {
    "size": "base",
    "version": 2,
    "patch_size": 2,
    "embed_dim": 12,
    "depths": [2, 2, 2, 2],
    "num_heads": [1, 2, 4, 8],
    "window_size": 8,
    "pretrained_window_sizes": [8, 8, 8, 8],
    "skips": 2,
    "skip_source": "post_block",
    "upsampling": "bilinear",
    "drop_path_rate": 0.1,
    "checkpointing": True,
    "pretrained": "weights.pth",
    "pretrained_decoder": False,
    "position_init": "local",
    "skip_fusion": "mgff",
    "conditional_positions": True,
    "pixel_refinement": True,
    "head": "mgff",
    "importance": "rollout",
}


@pytest.mark.parametrize("option", [f.name for f in fields(ModelConfig) if f.name != "name"])
@pytest.mark.parametrize("name", NAMES)
def test_an_option_applies_or_is_refused(name, option):
    model = replace(ModelConfig(name=name), **{option: NOT_DEFAULT[option]})
    if option in MODEL_OPTIONS[name]:
        validate(Config(model=model))
        assert model_arguments(model, 1, 2)["arguments"][option] == NOT_DEFAULT[option]
    else:
        with pytest.raises(UserError, match=rf"^model\.{option}: .*unless model\.name is "):
            validate(Config(model=model))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "swin_unetr", "embed_dim": 32}, "num_heads 3 does not divide"),
        ({"name": "swin_unetr", "embed_dim": 16, "num_heads": [1, 1, 1, 1]}, "divisible by 12"),
        ({"name": "swin_unetr", "depths": [2, 2, 2], "num_heads": [3, 6, 12]}, "four stages"),
        ({"name": "swin_unetr", "window_size": [7, 7, 7, 7]}, "window_size"),
        ({"name": "basic_unet", "embed_dim": 0}, "embed_dim must be at least 1"),
        ({"name": "attention_unet", "embed_dim": 1}, "embed_dim must be at least 2"),
        ({"name": "dyn_unet", "embed_dim": -8}, "embed_dim must be at least 1"),
    ],
)
def test_contradictions_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        build(ModelConfig(**settings))
