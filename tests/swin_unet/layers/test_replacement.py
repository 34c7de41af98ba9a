from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from swin_unet import SwinT
from swin_unet.layers.replacement import replace_convolutions


def kernel_3(name, conv):
    return conv.kernel_size == (3, 3)


def replaced(network, select=kernel_3, num_heads=4, window_size=4, **settings):
    torch.manual_seed(0)
    return replace_convolutions(
        network, select, num_heads=num_heads, window_size=window_size, **settings
    )


def layers(network, kind):
    return [module for module in network.modules() if isinstance(module, kind)]


def basic_unet(in_channels=1):
    nets = pytest.importorskip("monai.networks.nets")
    torch.manual_seed(0)
    features = (8, 8, 16, 16, 32, 8)
    return nets.BasicUNet(
        spatial_dims=2, in_channels=in_channels, out_channels=3, features=features
    )


def squares(num_images=4, side=32):
    """Draw a bright and a dark square on noise: images (B, 1, H, W), labels (B, H, W)."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(num_images, 1, side, side, generator=generator) * 0.1
    label = torch.zeros(num_images, side, side, dtype=torch.long)
    for item in range(num_images):
        for value, brightness in ((1, 2.0), (2, -2.0)):
            y, x = torch.randint(0, side - 10, (2,), generator=generator).tolist()
            image[item, 0, y : y + 10, x : x + 10] = brightness
            label[item, y : y + 10, x : x + 10] = value
    return image, label


def test_a_convolutional_unet_without_its_convolutions_trains():
    """Every 3 x 3 convolution, the first included."""
    unet = replaced(basic_unet())
    assert not any(conv.kernel_size == (3, 3) for conv in layers(unet, nn.Conv2d))
    assert len(layers(unet, SwinT)) == 18
    image, label = squares()
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-2)
    losses = []
    for _ in range(15):
        loss = F.cross_entropy(unet(image), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-3:]) < 0.7 * sum(losses[:3])


@pytest.mark.parametrize("size", [(48, 40), (67, 71)])
def test_shapes_stay_and_every_parameter_trains(size):
    unet = basic_unet()
    swin = replaced(unet, lambda name, conv: kernel_3(name, conv) and conv.in_channels > 1)
    image = torch.randn(2, 1, *size)
    logits = swin(image)
    assert logits.shape == unet(image).shape
    logits.square().mean().backward()
    without = [name for name, p in swin.named_parameters() if p.grad is None]
    assert without == []


def test_stride_two_halves_the_resolution():
    nets = pytest.importorskip("monai.networks.nets")
    unet = nets.UNet(2, 1, 3, channels=(8, 16, 32), strides=(2, 2))
    swin = replaced(unet, lambda name, conv: conv.in_channels > 1 and kernel_3(name, conv))
    image = torch.randn(2, 1, 36, 28)
    assert swin(image).shape == unet(image).shape == (2, 3, 36, 28)
    assert any(layer.downsample for layer in layers(swin, SwinT))


@settings(max_examples=40, deadline=None)
@given(
    kernel=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    dilation=st.integers(1, 2),
    stride=st.sampled_from([1, 2]),
    size=st.tuples(st.integers(1, 13), st.integers(1, 13)),
)
def test_any_shape_stays(kernel, dilation, stride, size):
    kernel_size = tuple(2 * half + 1 for half in kernel)
    padding = tuple(dilation * half for half in kernel)
    conv = nn.Conv2d(4, 6, kernel_size, stride, padding, dilation, bias=False)
    network = nn.Sequential(conv)
    x = torch.randn(1, 4, *size)
    assert replaced(network, ["0"])(x).shape == network(x).shape


@pytest.mark.parametrize("size", [(8, 6), (9, 7)])
def test_an_even_kernel_of_stride_two(size):
    """The sizes agree where the convolution has nothing to leave out."""
    network = nn.Sequential(nn.Conv2d(4, 6, kernel_size=2, stride=2))
    y = replaced(network, ["0"])(torch.randn(1, 4, *size))
    assert y.shape == (1, 6, *(-(-length // 2) for length in size))


def test_padding_by_name():
    network = nn.Sequential(nn.Conv2d(4, 6, (2, 5), padding="same"), nn.Conv2d(6, 3, 1, padding=0))
    assert len(layers(replaced(network, ["0", "1"]), SwinT)) == 2


def test_the_network_stays_as_it_is_and_the_rest_is_copied():
    unet = basic_unet()
    before = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    name = "conv_0.conv_1.conv"
    swin = replaced(unet, [name])
    assert not layers(unet, SwinT)
    assert unet.state_dict().keys() == before.keys()
    assert all(torch.equal(unet.state_dict()[key], before[key]) for key in before)
    others = {key for key in before if not key.startswith(name)}
    assert others == {key for key in swin.state_dict() if not key.startswith(name)}
    assert all(torch.equal(swin.state_dict()[key], before[key]) for key in others)
    assert isinstance(swin.get_submodule(name), SwinT)


def test_settings_reach_the_layers():
    network = nn.Sequential(nn.Conv2d(8, 6, 3, padding=1)).double().eval()
    settings = {
        "mlp_ratio": 2.0,
        "qkv_bias": False,
        "norm_position": "pre",
        "drop_path_rate": 0.1,
    }
    layer = replaced(network, ["0"], window_size=3, **settings)[0]
    expected = SwinT(8, 6, 4, 3, **settings).double().eval()
    assert str(layer) == str(expected)
    expected.load_state_dict(layer.state_dict())
    x = torch.randn(1, 8, 5, 7, dtype=torch.float64)
    assert torch.equal(layer(x), expected(x))


def test_heads_divide_the_channels_of_every_layer():
    network = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(12, 8, 3, padding=1))
    swin = replaced(network, num_heads=8)
    assert [layer.blocks[0].attn.num_heads for layer in swin] == [1, 4]


def test_a_convolution_used_twice_stays_one_layer():
    conv = nn.Conv2d(4, 4, 3, padding=1)
    swin = replaced(nn.Sequential(conv, nn.ReLU(), conv))
    assert isinstance(swin[0], SwinT)
    assert swin[0] is swin[2]


class Parts(nn.Module):
    def __init__(self):
        super().__init__()
        self.grouped = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.stride_3 = nn.Conv2d(4, 4, 3, stride=3, padding=1)
        self.stride_1_2 = nn.Conv2d(4, 4, 3, stride=(1, 2), padding=1)
        self.bare = nn.Conv2d(4, 4, 3)
        self.valid = nn.Conv2d(4, 4, 3, padding="valid")
        self.wide = nn.Conv2d(4, 4, 1, padding=1)
        self.short = nn.Conv2d(4, 4, 3, stride=2)
        self.even = nn.Conv2d(4, 4, 2)
        self.transposed = nn.ConvTranspose2d(4, 4, 2, stride=2)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("grouped", "it has 2 groups"),
        ("stride_3", r"stride \(3, 3\) is neither 1 nor 2"),
        ("stride_1_2", r"stride \(1, 2\) is neither 1 nor 2"),
        ("bare", "does not make up for kernel"),
        ("valid", "padding valid does not make up for kernel"),
        ("wide", "does not make up for kernel"),
        ("short", "does not make up for kernel"),
        ("even", "does not make up for kernel"),
        ("transposed", "must name a Conv2d of the network, found ConvTranspose2d"),
        ("absent", "must name a Conv2d of the network, found nothing"),
    ],
)
def test_what_cannot_be_replaced_is_refused_by_name(name, message):
    with pytest.raises(ValueError, match=f"'{name}'.*{message}"):
        replaced(Parts(), [name])


@pytest.mark.parametrize("select", [[], lambda name, conv: False])
def test_choosing_nothing_is_refused(select):
    with pytest.raises(ValueError, match="none of the 8 convolutions"):
        replaced(Parts(), select)
