from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from swin_unet import SwinUNet
from swin_unet.config import TrainConfig
from swin_unet.training.optim import (
    build_optimizer,
    layers_above,
    learning_rate,
    set_learning_rate,
)


def test_poly_is_the_papers_schedule():
    config = TrainConfig(learning_rate=0.05, schedule="poly")
    rates = [learning_rate(step, 100, 10, config) for step in (0, 50, 99)]
    assert rates == pytest.approx([0.05, 0.05 * 0.5**0.9, 0.05 * 0.01**0.9])


def test_warmup_rises_linearly_then_cosine_falls_to_zero():
    config = TrainConfig(learning_rate=1.0, schedule="cosine", warmup_epochs=2)
    assert learning_rate(0, 100, 10, config) == pytest.approx(1 / 20)
    assert learning_rate(19, 100, 10, config) == pytest.approx(1.0)
    assert learning_rate(20, 100, 10, config) == pytest.approx(1.0)
    assert learning_rate(60, 100, 10, config) == pytest.approx(0.5)
    assert learning_rate(100, 100, 10, config) == pytest.approx(0.0)


@pytest.mark.parametrize("version", [1, 2])
def test_adamw_spares_vectors_positions_and_scales(version):
    model = SwinUNet(embed_dim=8, num_heads=(1, 1, 1, 1), version=version)
    optimizer = build_optimizer(model, TrainConfig(optimizer="adamw", weight_decay=0.1))
    names = {parameter: name for name, parameter in model.named_parameters()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = names[parameter]
            spared = parameter.ndim == 1 or "bias_table" in name
            spared = spared or "logit_scale" in name or "cpb_mlp" in name
            assert group["weight_decay"] == (0.0 if spared else 0.1)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(names)


def test_sgd_decays_everything_as_the_paper_does():
    optimizer = build_optimizer(nn.Linear(2, 2), TrainConfig())
    assert len(optimizer.param_groups) == 1
    assert optimizer.defaults["momentum"] == 0.9
    assert optimizer.defaults["weight_decay"] == 1e-4


def simmim_layer(name, depths):
    """Return the layer of a parameter, names and rule as in SimMIM's fine-tuning of Swin."""
    parts = name.split(".")
    if parts[0] == "patch_embed":
        return 0
    if parts[0] == "layers":
        stage, part = int(parts[1]), parts[3]
        if part in ("reduction", "norm"):
            return sum(depths[: stage + 1])
        return sum(depths[:stage]) + int(part) + 1
    return sum(depths) + 1


def test_layers_are_counted_as_simmim_does():
    depths = (2, 1, 3)
    model = SwinUNet(embed_dim=8, depths=depths, num_heads=(1, 1, 1), version=2, skips=1)
    seen = set()
    for name, _ in model.named_parameters():
        theirs = name.removeprefix("encoder.").replace("merges.", "layers.")
        theirs = re.sub(r"^layers\.(\d)\.", r"layers.\1.downsample.", theirs)
        theirs = theirs.replace("stages.", "layers.")
        layer = simmim_layer(theirs, depths)
        assert layers_above(name, depths) == sum(depths) + 1 - layer, name
        seen.add(layer)
    assert seen == set(range(8))


@pytest.mark.parametrize("optimizer_name", ["sgd", "adamw"])
def test_layer_decay_slows_the_encoder_from_the_top_down(optimizer_name):
    model = SwinUNet(embed_dim=8, depths=(1, 2), num_heads=(1, 1), skips=1)
    config = TrainConfig(optimizer=optimizer_name, layer_decay=0.5, weight_decay=0.1)
    optimizer = build_optimizer(model, config)
    set_learning_rate(optimizer, 1.0)
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    assert len(groups) == sum(1 for _ in model.parameters())
    rates = {name: groups[id(p)]["lr"] for name, p in model.named_parameters()}
    assert rates["encoder.patch_embed.proj.weight"] == 1 / 16
    assert rates["encoder.stages.0.blocks.0.mlp.fc1.weight"] == 1 / 8
    assert rates["encoder.merges.0.reduction.weight"] == 1 / 8
    assert rates["encoder.stages.1.blocks.0.mlp.fc1.bias"] == 1 / 4
    assert rates["encoder.stages.1.blocks.1.mlp.fc1.weight"] == 1 / 2
    others = {rate for name, rate in rates.items() if "encoder." not in name}
    assert others | {rates["encoder.norm.weight"]} == {1.0}
    assert optimizer.param_groups[0]["lr"] == 1.0
    bias_decay = groups[id(model.encoder.norm.bias)]["weight_decay"]
    assert bias_decay == (0.1 if optimizer_name == "sgd" else 0.0)


def test_a_slower_layer_moves_by_its_share():
    """One step of plain gradient descent, by hand."""
    model = SwinUNet(1, 2, embed_dim=8, depths=(1, 1), num_heads=(1, 1), skips=1)
    config = TrainConfig(momentum=0.0, weight_decay=0.0, layer_decay=0.5)
    optimizer = build_optimizer(model, config)
    model(torch.randn(1, 1, 16, 16)).square().sum().backward()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    set_learning_rate(optimizer, 0.01)
    optimizer.step()
    for name, parameter in model.named_parameters():
        step = 0.01 * 0.5 ** layers_above(name, (1, 1)) * parameter.grad
        torch.testing.assert_close(parameter, before[name] - step, rtol=1e-5, atol=1e-6, msg=name)


def test_without_layer_decay_or_from_an_old_checkpoint_all_learn_alike():
    model = SwinUNet(embed_dim=8, depths=(1, 1), num_heads=(1, 1), skips=1)
    optimizer = build_optimizer(model, TrainConfig(optimizer="adamw"))
    state = optimizer.state_dict()
    for group in state["param_groups"]:
        del group["lr_scale"]
    optimizer.load_state_dict(state)
    set_learning_rate(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]
