from __future__ import annotations

import pytest
import torch

from swin_unet.layers.attention import WindowAttention
from swin_unet.layers.blocks import DropPath, SwinBlock
from swin_unet.layers.resampling import UPSAMPLERS, PatchExpand, TransposedConvUpsample
from swin_unet.layers.stage import SwinStage


def randomise(module):
    """Give every parameter a value that shows: zero biases and unit norms hide errors."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    return module


def block(window=4, shift=0, dim=8):
    torch.manual_seed(0)
    window_size, shift_size = (window, window), (shift, shift)
    return randomise(SwinBlock(dim, 2, window_size=window_size, shift_size=shift_size)).eval()


@pytest.mark.parametrize("shift", [0, 2])
@pytest.mark.parametrize("x_size", [(8, 8), (9, 10), (4, 7), (3, 2)])
def test_a_token_changes_only_what_may_see_it(shift, x_size):
    layer = block(shift=shift)
    x = torch.randn(1, *x_size, 8)
    before = layer(x)
    applied = [shift if size > 4 else 0 for size in x_size]
    for row in range(x_size[0]):
        for column in range(x_size[1]):
            changed = x.clone()
            changed[0, row, column] += 1
            seen = (layer(changed) - before).abs().amax(dim=-1)[0] > 1e-6
            for y, x_ in seen.nonzero().tolist():
                assert (y - applied[0]) // 4 == (row - applied[0]) // 4
                assert (x_ - applied[1]) // 4 == (column - applied[1]) // 4
            assert seen[row, column]


def test_padding_never_reaches_a_token():
    """A map smaller than the window gives what attention over its tokens alone gives."""
    layer = block(window=8)
    x = torch.randn(2, 5, 6, 8)
    alone = layer.attn(layer.norm1(x).view(2, 30, 8), (5, 6), None).view(2, 5, 6, 8)
    assert torch.allclose(layer.attend(layer.norm1(x)), alone, atol=1e-6)


def test_shrinking_the_window_equals_padding_to_it():
    """The central rows of the bias table serve the smaller window."""
    attention = randomise(WindowAttention(8, (6, 6), 2)).eval()
    full = attention.position_bias((6, 6)).view(2, 6, 6, 6, 6)
    small = attention.position_bias((3, 2)).view(2, 3, 2, 3, 2)
    assert torch.equal(small, full[:, :3, :2, :3, :2])


def test_batch_items_do_not_meet():
    layer = block(shift=2)
    x = torch.randn(3, 9, 7, 8)
    assert torch.allclose(layer(x)[1:2], layer(x[1:2]), atol=1e-5)


def test_heads_must_divide_the_channels():
    with pytest.raises(ValueError, match="not a multiple"):
        WindowAttention(10, (4, 4), 3)


def test_drop_path_keeps_the_mean_and_drops_whole_samples():
    torch.manual_seed(0)
    layer = DropPath(0.25).train()
    y = layer(torch.ones(4000, 2, 3))
    assert torch.allclose(y.unique(), torch.tensor([0.0, 4 / 3]))
    assert torch.equal(y.amin(dim=(1, 2)), y.amax(dim=(1, 2)))
    assert y.mean().item() == pytest.approx(1, abs=0.05)
    assert torch.equal(layer.eval()(torch.ones(2, 2)), torch.ones(2, 2))


def test_checkpointing_changes_neither_output_nor_gradient():
    torch.manual_seed(0)
    plain = SwinStage(8, 2, window_size=4, drop_path_rates=[0.0, 0.0])
    spared = SwinStage(8, 2, window_size=4, drop_path_rates=[0.0, 0.0], checkpointing=True)
    spared.load_state_dict(plain.state_dict())
    x = torch.randn(2, 6, 7, 8)
    outputs = [stage(x) for stage in (plain, spared)]
    for output in outputs:
        output.square().sum().backward()
    assert torch.equal(*outputs)
    for a, b in zip(plain.parameters(), spared.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)


@pytest.mark.parametrize("name", UPSAMPLERS)
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_upsampling_multiplies_the_size(name, factor):
    layer = UPSAMPLERS[name](8, 4, factor=factor)
    assert layer(torch.randn(2, 3, 5, 8)).shape == (2, 3 * factor, 5 * factor, 4)


def test_patch_expanding_is_a_transposed_convolution():
    expand, conv = PatchExpand(8, 4, 2), TransposedConvUpsample(8, 4, 2)
    weight = expand.expand.weight.view(2, 2, 4, 8)  # (row, column, out, in)
    with torch.no_grad():
        conv.conv.weight.copy_(weight.permute(3, 2, 0, 1))
        conv.conv.bias.zero_()
    x = torch.randn(2, 3, 5, 8)
    assert torch.allclose(expand(x), conv(x), atol=1e-5)
