from __future__ import annotations

import io

import pytest
import torch
import torch.nn.functional as F

from swin_unet import SwinT

SETTINGS = [
    {},
    {"downsample": True},
    {"norm_position": "pre", "mlp_ratio": 2.0},
    {"qkv_bias": False, "norm_position": "pre", "downsample": True},
    {"window_size": 5, "num_heads": 4},
    {"window_size": 1},
]


@pytest.fixture(params=SETTINGS, ids=str)
def settings(request):
    return request.param


def swin_t(**settings):
    torch.manual_seed(0)
    arguments = {"in_channels": 8, "out_channels": 6, "num_heads": 2, "window_size": 4}
    return SwinT(**{**arguments, **settings})


def randomise(module):
    """Give every parameter a value that shows: zero biases and unit norms hide errors."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    return module.eval()


def size_out(layer, size):
    return tuple(-(-length // 2) for length in size) if layer.downsample else size


@pytest.mark.parametrize("size", [(64, 64), (67, 71), (5, 9), (3, 2), (1, 1)])
def test_any_size_in_gives_the_size_of_a_convolution(settings, size):
    layer = swin_t(**settings)
    stride = 2 if layer.downsample else 1
    conv = torch.nn.Conv2d(8, 6, kernel_size=3, stride=stride, padding=1)
    x = torch.randn(2, 8, *size)
    y = layer(x)
    assert y.shape == conv(x).shape == (2, 6, *size_out(layer, size))
    assert y.isfinite().all()
    assert y.is_contiguous()


@pytest.mark.parametrize(
    ("downsample", "size", "count"), [(False, (224, 224), 251_216), (True, (112, 112), 325_456)]
)
def test_the_published_layer(downsample, size, count):
    with torch.device("meta"):
        layer = SwinT(96, 256, 8, 7, downsample)
        assert layer(torch.zeros(2, 96, 224, 224)).shape == (2, 256, *size)
    assert sum(parameter.numel() for parameter in layer.parameters()) == count


def dense_attention(attention, x, window_size, shift_size):
    """Attend over all tokens at once: same cell of the shifted grid, or not at all."""
    B, H, W, C = x.shape
    y, z = (grid.flatten() for grid in torch.meshgrid(torch.arange(H), torch.arange(W)))
    shift_y = shift_size if window_size < H else 0
    shift_z = shift_size if window_size < W else 0
    cells = torch.stack([(y - shift_y) // window_size, (z - shift_z) // window_size], dim=1)
    together = (cells[:, None] == cells[None]).all(dim=-1)
    span = window_size - 1
    dy, dz = (axis[:, None] - axis[None] for axis in (y, z))
    rows = (dy.clamp(-span, span) + span) * (2 * span + 1) + dz.clamp(-span, span) + span
    q, k, v = attention.qkv(x).view(B, H * W, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
    logits = torch.einsum("bhqd,bhkd->bhqk", q, k) / (C / attention.num_heads) ** 0.5
    logits = logits + attention.relative_position_bias_table[rows].permute(2, 0, 1)
    weights = logits.masked_fill(~together, float("-inf")).softmax(dim=-1)
    values = torch.einsum("bhqk,bhkd->bqhd", weights, v)
    return attention.proj(values.reshape(B, H, W, C))


def reference(layer, x, norm_position, window_size):
    """Compute a SwinT without windows, padding or rolling."""
    x = x.permute(0, 2, 3, 1)
    for block, shift in zip(layer.blocks, (0, window_size // 2), strict=True):
        if norm_position == "post":
            x = x + block.norm1(dense_attention(block.attn, x, window_size, shift))
            x = x + block.norm2(block.mlp(x))
        else:
            x = x + dense_attention(block.attn, block.norm1(x), window_size, shift)
            x = x + block.mlp(block.norm2(x))
    if not layer.downsample:
        weight = layer.conv.weight[:, :, 0, 0]
        return torch.einsum("bhwc,oc->bohw", x, weight) + layer.conv.bias[:, None, None]
    x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
    parts = [x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]]
    merged = layer.reduction.norm(torch.cat(parts, dim=-1))
    return torch.einsum("bhwc,oc->bohw", merged, layer.reduction.reduction.weight)


@pytest.mark.filterwarnings("ignore:torch.meshgrid")
@pytest.mark.parametrize("norm_position", ["post", "pre"])
@pytest.mark.parametrize("downsample", [False, True])
@pytest.mark.parametrize("size", [(8, 8), (14, 9), (4, 7), (3, 2)])
def test_equals_attention_over_all_tokens_at_once(norm_position, downsample, size):
    layer = randomise(swin_t(norm_position=norm_position, downsample=downsample))
    x = torch.randn(2, 8, *size)
    expected = reference(layer, x, norm_position, window_size=4)
    assert torch.allclose(layer(x), expected, atol=1e-4)


@pytest.mark.parametrize("norm_position", ["post", "pre"])
@pytest.mark.parametrize("size", [(9, 10), (3, 6)])
def test_what_is_in_the_padding_never_reaches_a_token(norm_position, size):
    layer = randomise(swin_t(norm_position=norm_position))
    x = torch.randn(1, 8, *size)
    before = layer(x)
    perturbed = []

    def fill_padding(module, arguments):
        windows, *others = arguments
        padding = (windows == 0).all(dim=-1, keepdim=True)
        perturbed.append(int(padding.sum()))
        return (torch.where(padding, 100 * torch.randn_like(windows), windows), *others)

    for block in layer.blocks:
        block.attn.register_forward_pre_hook(fill_padding)
    assert torch.allclose(layer(x), before, atol=1e-5)
    assert len(perturbed) == 2
    assert all(perturbed)


def test_a_batch_item_does_not_see_the_others(settings):
    layer = randomise(swin_t(**settings))
    x = torch.randn(3, 8, 9, 7)
    changed = x.clone()
    changed[0] += 1
    assert torch.allclose(layer(x)[1:], layer(changed)[1:], atol=1e-5)
    assert torch.allclose(layer(x)[1:2], layer(x[1:2]), atol=1e-5)


def test_every_parameter_gets_a_gradient(settings):
    layer = swin_t(**settings | {"window_size": 4})
    layer(torch.randn(2, 8, 9, 11)).square().mean().backward()
    without = [name for name, p in layer.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_save_and_load_gives_the_same_output(settings):
    layer, other = randomise(swin_t(**settings)), swin_t(**settings).eval()
    x = torch.randn(1, 8, 9, 11)
    layer(x)  # masks must not enter the file
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(layer(x), other(x))


def test_initial_values():
    layer = SwinT(96, 256, 8, 7, downsample=True)
    for name, parameter in layer.named_parameters():
        if "norm" in name:
            assert torch.equal(parameter, torch.full_like(parameter, float("weight" in name)))
        elif name.endswith("bias"):
            assert not parameter.any()
        else:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.1)


def test_drop_path_is_one_rate_or_one_per_block():
    for rates, expected in [(0.25, [0.25, 0.25]), ((0.1, 0.3), [0.1, 0.3])]:
        layer = swin_t(drop_path_rate=rates)
        assert [block.drop_path.rate for block in layer.blocks] == expected


def test_norms_of_one_channel_leave_only_the_convolution():
    layer = swin_t(in_channels=1, num_heads=1)
    x = torch.randn(1, 1, 9, 9)
    assert torch.allclose(layer(x), layer.conv(x), atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_heads": 3}, "num_heads 3 does not divide in_channels 8"),
        ({"num_heads": 0}, "num_heads"),
        ({"in_channels": 0}, "in_channels"),
        ({"out_channels": -1}, "out_channels"),
        ({"window_size": 0}, "window_size"),
        ({"window_size": (7, 7)}, "window_size must be one number"),
        ({"mlp_ratio": 0.1}, "mlp_ratio 0.1 leaves no hidden channel"),
        ({"drop_path_rate": 1.0}, "drop_path_rate"),
        ({"drop_path_rate": (0.1, -0.1)}, "drop_path_rate"),
        ({"drop_path_rate": (0.1, 0.1, 0.1)}, "one for each block"),
        ({"norm_position": "middle"}, "norm_position must be 'post' or 'pre', not 'middle'"),
    ],
)
def test_contradictions_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        swin_t(**settings)


@pytest.mark.parametrize("shape", [(8, 4, 4), (1, 7, 4, 4), (1, 8, 0, 4), (1, 4, 4, 8)])
def test_another_input_is_refused(shape):
    with pytest.raises(ValueError, match=r"expects features \(B, 8, H, W\)"):
        swin_t()(torch.zeros(shape))
