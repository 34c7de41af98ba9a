from __future__ import annotations

import io
import re

import pytest
import torch
import torch.nn.functional as F

from swin_unet import SwinResNet, SwinT
from swin_unet.models.resnet import ResNet

TINY = {"depths": (2, 1, 1, 2), "widths": (8, 8, 16, 16)}
SWIN = {"num_heads": (1, 2, 2, 4), "window_size": 4, "image_size": 64}
BUILDERS = {
    "swin": lambda: SwinResNet(3, 5, **TINY, **SWIN),
    "convolution": lambda: ResNet(3, 5, **TINY),
}


@pytest.fixture(params=BUILDERS)
def model(request):
    torch.manual_seed(0)
    return BUILDERS[request.param]()


def is_swin(model):
    return [
        [isinstance(bottleneck.spatial, SwinT) for bottleneck in stage] for stage in model.stages
    ]


@pytest.mark.parametrize(("network", "count"), [(SwinResNet, 36_932_002), (ResNet, 24_035_658)])
def test_published_networks(network, count):
    with torch.device("meta"):
        model = network(num_classes=10)
        assert model(torch.zeros(2, 3, 224, 224)).shape == (2, 10)
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_convolutions_stay_where_the_map_is_no_larger_than_the_window():
    with torch.device("meta"):
        published, small, large = (SwinResNet(image_size=size) for size in (224, 32, 225))
    assert is_swin(published) == [[True] * 3, [True] * 4, [True] * 6, [True, False, False]]
    assert is_swin(small) == [[True] * 3, [True] + [False] * 3, [False] * 6, [False] * 3]
    assert is_swin(large) == [[True] * 3, [True] * 4, [True] * 6, [True] * 3]


@pytest.mark.parametrize("image_size", [64, 65, 100])
def test_the_expected_maps_are_the_real_ones(image_size):
    """A SwinT stands exactly where the map of an image of this size exceeds the window."""
    model = SwinResNet(3, 5, **TINY, **SWIN | {"image_size": image_size}).eval()
    larger = []

    def note(module, inputs):
        larger.append(min(inputs[0].shape[-2:]) > SWIN["window_size"])

    for stage in model.stages:
        for bottleneck in stage:
            bottleneck.spatial.register_forward_pre_hook(note)
    model(torch.randn(1, 3, image_size + 30, image_size))
    assert larger == [swin for stage in is_swin(model) for swin in stage]
    assert {True, False} <= set(larger)


@pytest.mark.parametrize("size", [(64, 64), (67, 71), (5, 9)])
def test_any_size_gives_logits(model, size):
    logits = model.eval()(torch.randn(2, 3, *size))
    assert logits.shape == (2, 5)
    assert logits.isfinite().all()


def test_every_parameter_gets_a_gradient(model):
    model.train()(torch.randn(4, 3, 67, 71)).square().mean().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_save_and_load_gives_the_same_logits(model):
    model.train()(torch.randn(4, 3, 64, 64))  # moves the running statistics
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    builder = BUILDERS["swin" if isinstance(model, SwinResNet) else "convolution"]
    other = builder()
    other.load_state_dict(torch.load(file, weights_only=True))
    image = torch.randn(2, 3, 33, 40)
    assert torch.equal(model.eval()(image), other.eval()(image))


def test_batch_items_are_independent(model):
    images = torch.randn(3, 3, 40, 36)
    model.eval()
    assert torch.allclose(model(images)[1:2], model(images[1:2]), atol=1e-5)


def test_both_have_the_head_of_the_article():
    for network in (SwinResNet(), ResNet()):
        kinds = [type(layer).__name__ for layer in network.head]
        assert kinds == ["Dropout", "Linear", "LayerNorm", "Dropout", "LeakyReLU", "Linear"]
        assert [network.head[index].p for index in (0, 3)] == [0.2, 0.2]
        for linear, bound in ((network.head[1], 2048**-0.5), (network.head[5], 1 / 16)):
            assert linear.weight.abs().max().item() == pytest.approx(bound, rel=0.01)
            assert linear.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)


def rename_transformers(name):
    """Translate a name of Hugging Face's ResNet to ours."""
    name = name.replace("embedder.embedder.", "stem.").replace("encoder.stages", "stages")
    name = name.replace("stem.convolution", "stem.0").replace("stem.normalization", "stem.1")
    name = name.replace(".convolution.", ".0.").replace(".normalization.", ".1.")
    name = re.sub(r"stages\.(\d+)\.layers\.(\d+)\.", r"stages.\1.\2.", name)
    for index, part in enumerate(("reduce", "spatial", "expand")):
        name = name.replace(f".layer.{index}.", f".{part}.")
    return name


def test_the_twin_is_a_resnet():
    transformers = pytest.importorskip("transformers")
    sizes = {"embedding_size": 8, "hidden_sizes": [32, 32, 64, 64], "depths": [2, 1, 1, 2]}
    theirs = transformers.ResNetModel(transformers.ResNetConfig(**sizes))
    with torch.no_grad():
        for tensor in theirs.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand_like(tensor) * 0.3 + 0.1)  # variances too
    tensors = {rename_transformers(name): value for name, value in theirs.state_dict().items()}
    ours = ResNet(3, 5, **TINY)
    missing, unexpected = ours.load_state_dict(tensors, strict=False)
    assert all(name.startswith("head.") for name in missing)
    assert unexpected == []
    image = torch.randn(2, 3, 67, 71)
    with torch.no_grad():
        expected = theirs.eval()(image).pooler_output.flatten(1)
        features = ours.eval().stages(ours.stem(image)).mean(dim=(2, 3))
    assert torch.allclose(features, expected, rtol=1e-4)


def stripes(num_images=40, side=32, num_classes=4):
    """Draw colour images of stripes, one angle per class, at random phase on noise."""
    generator = torch.Generator().manual_seed(0)
    label = torch.arange(num_images) % num_classes
    angle = label[:, None, None] * torch.pi / num_classes
    y, x = torch.arange(side)[:, None], torch.arange(side)
    phase = 2 * torch.pi * torch.rand(num_images, 1, 1, generator=generator)
    wave = torch.sin((angle.cos() * x + angle.sin() * y) * 2 * torch.pi / 8 + phase)
    noise = torch.randn(num_images, 3, side, side, generator=generator)
    return wave[:, None] + 0.2 * noise, label


def test_training_on_small_colour_images_lowers_the_loss():
    torch.manual_seed(0)
    settings = {"num_heads": (2, 2, 4, 4), "window_size": 4, "image_size": 32}
    model = SwinResNet(3, 4, depths=(1, 1, 1, 1), widths=(8, 8, 16, 16), **settings)
    assert is_swin(model) == [[True], [True], [False], [False]]
    images, labels = stripes()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    losses = []
    for _ in range(25):
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-3:]) < 0.5 * sum(losses[:3])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"depths": (3, 4, 6)}, "one number per stage"),
        ({"depths": (3, 4, 0, 3)}, "one number per stage"),
        ({"num_heads": (4, 8, 16)}, "num_heads"),
        ({"num_heads": (5, 8, 16, 32)}, "num_heads 5 does not divide in_channels 64"),
        ({"image_size": 28}, "image_size 28 has no map larger than window 7"),
    ],
)
def test_contradictions_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SwinResNet(**settings)
