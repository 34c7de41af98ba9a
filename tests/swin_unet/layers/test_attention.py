"""What is particular to Swin V2."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from swin_unet.layers.attention import WindowAttention, WindowAttentionV2
from swin_unet.layers.blocks import SwinBlockV2
from swin_unet.layers.windows import relative_position_coordinates

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("window", "trained", "edge"), [(8, 8, 1.05664), (16, 12, 1.19133), (24, 12, 1.38263)]
)
def test_coordinates_at_the_edge_are_the_checkpoints(window, trained, edge):
    coordinates = relative_position_coordinates((window, window), (trained, trained), CPU)
    assert coordinates.shape == ((2 * window - 1) ** 2, 2)
    assert coordinates.max().item() == pytest.approx(edge, abs=1e-5)
    assert coordinates[len(coordinates) // 2].tolist() == [0, 0]
    assert torch.equal(coordinates, -coordinates.flip(0))


def test_a_new_block_is_the_identity():
    block = SwinBlockV2(8, 2, window_size=(4, 4), shift_size=(2, 2))
    x = torch.randn(2, 9, 7, 8)
    assert torch.equal(block(x), x)


def test_window_one_is_finite():
    attention = WindowAttentionV2(8, (1, 1), 2)
    assert attention(torch.randn(5, 1, 8), (1, 1), None).isfinite().all()


def test_a_smaller_window_is_the_middle_of_the_table():
    attention = WindowAttentionV2(8, (6, 6), 2)
    full = attention.position_bias((6, 6)).view(2, 6, 6, 6, 6)
    small = attention.position_bias((3, 2)).view(2, 3, 2, 3, 2)
    assert torch.allclose(small, full[:, :3, :2, :3, :2])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_gradients_are_finite_under_autocast_at_the_largest_scale(dtype):
    torch.manual_seed(0)
    block = SwinBlockV2(16, 2, window_size=(4, 4), shift_size=(2, 2))
    with torch.no_grad():
        block.attn.logit_scale.fill_(2 * math.log(100))  # clamped to ln 100
        block.norm1.weight.fill_(1)
        block.norm2.weight.fill_(1)
    x = (torch.randn(2, 9, 7, 16) * 20).requires_grad_()
    with torch.autocast("cpu", dtype=dtype):
        y = block(x)
    y.float().square().mean().backward()
    gradients = [x.grad, *(parameter.grad for parameter in block.parameters())]
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_keys_have_no_bias_and_the_scale_stops_at_100():
    attention = WindowAttentionV2(8, (2, 2), 2)
    with torch.no_grad():
        attention.q_bias.fill_(3)
        attention.v_bias.fill_(5)
        attention.logit_scale.fill_(50)
    q, k, v = attention.project(torch.zeros(1, 4, 8)).chunk(3, dim=-1)
    assert (q.unique().item(), k.unique().item(), v.unique().item()) == (3, 0, 5)
    same = torch.ones(1, 2, 4, 4)
    assert attention.similarity(same, same).max().item() == pytest.approx(100, rel=1e-5)


def test_a_local_look_is_that_of_a_convolution() -> None:
    """With equal queries and keys each head averages tokens around its own tap, sharply."""
    attention = WindowAttention(9, (5, 5), num_heads=9)
    nn.init.zeros_(attention.relative_position_bias_table)
    attention.look_locally(strength=50.0)
    weights = attention.position_bias((5, 5)).softmax(dim=-1)  # (heads, 25, 25)
    centre = 12
    taps = {divmod(int(index), 5) for index in weights[:, centre].argmax(dim=-1)}
    assert taps == {(2 + y, 2 + x) for y in (-1, 0, 1) for x in (-1, 0, 1)}
    assert weights[:, centre].max(dim=-1).values.min() > 0.999
