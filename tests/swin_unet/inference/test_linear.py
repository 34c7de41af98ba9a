"""Packed linear layers: the same products, nothing left behind."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from swin_unet.inference import linear
from swin_unet.inference.linear import packed_linears
from swin_unet.models.unet import SwinUNet

CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(
    not linear._is_possible(CPU, "fp32"), reason="this processor has no packed products"
)


def network() -> nn.Module:
    torch.manual_seed(0)
    model = SwinUNet(2, 3, embed_dim=16, depths=(2, 2), num_heads=(2, 4), window_size=4, skips=1)
    return model.eval()


@torch.inference_mode()
def test_the_logits_are_equal_up_to_rounding():
    model, image = network(), torch.randn(3, 2, 37, 50)
    expected = model(image)
    with packed_linears(model, CPU, "fp32"):
        found = model(image)
        assert any("forward" in vars(layer) for layer in model.modules())
        assert model.state_dict().keys() == network().state_dict().keys()
    assert (found - expected).abs().max() <= 2e-6 * expected.abs().max()


@torch.inference_mode()
def test_half_precision_is_that_of_autocast():
    model, image = network(), torch.randn(3, 2, 32, 32)
    exact = model(image)
    with torch.autocast("cpu", torch.bfloat16):
        expected = model(image)
        with packed_linears(model, CPU, "bf16"):
            found = model(image)
    assert found.dtype == expected.dtype
    error, usual = ((each.float() - exact).abs().max() for each in (found, expected))
    assert 0 < error <= 2 * usual


def fail(model: nn.Module, error: type[BaseException]) -> None:
    with packed_linears(model, CPU, "fp32"):
        raise error


def test_the_network_is_as_before_whatever_happens():
    model = network()
    state, names = copy.deepcopy(model.state_dict()), [name for name, _ in model.named_modules()]
    for error in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(error):
            fail(model, error)
    assert [name for name, _ in model.named_modules()] == names
    assert not any("forward" in vars(layer) for layer in model.modules())
    for key, value in model.state_dict().items():
        assert torch.equal(value, state[key])
    model(torch.randn(1, 2, 32, 32)).sum().backward()  # can still be trained
    assert all(parameter.grad is not None for parameter in model.parameters())


@torch.inference_mode()
def test_weights_are_packed_anew_each_time():
    """Validation between training steps sees the weights of now."""
    layer, x = nn.Linear(4, 3, bias=False), torch.randn(5, 4)
    for factor in (1.0, 2.0):
        layer.weight.fill_(factor)
        with packed_linears(layer, CPU, "fp32"):
            torch.testing.assert_close(layer(x), factor * x.sum(1, keepdim=True).expand(5, 3))


def test_other_layers_are_left_alone():
    class Special(nn.Linear):
        pass

    patched = nn.Linear(2, 2)
    patched.forward = lambda x: x  # type: ignore[method-assign]
    model = nn.Sequential(Special(2, 2), patched, nn.Conv2d(1, 1, 1))
    before = patched.forward
    with packed_linears(model, CPU, "fp32"):
        assert "forward" not in vars(model[0])
        assert patched.forward is before
    assert patched.forward is before


@pytest.mark.parametrize(("device", "precision"), [("cpu", "fp16"), ("meta", "fp32")])
def test_nothing_is_done_where_it_cannot_be(device: str, precision: str):
    layer = nn.Linear(2, 2)
    with packed_linears(layer, torch.device(device), precision):
        assert "forward" not in vars(layer)
