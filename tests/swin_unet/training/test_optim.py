from __future__ import annotations

import pytest
from torch import nn

from swin_unet import SwinUNet
from swin_unet.config import TrainConfig
from swin_unet.training.optim import build_optimizer, learning_rate


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
