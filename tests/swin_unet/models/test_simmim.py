from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from swin_unet.masks import random_mask
from swin_unet.models import build_model
from swin_unet.models.classifier import SwinClassifier
from swin_unet.models.simmim import (
    SimMIM,
    build_simmim,
    masked_error,
    normalize_locally,
)
from swin_unet.models.unet import SwinUNet
from swin_unet.models.weights import load_weights

SMALL = {"embed_dim": 8, "depths": (2, 2, 2, 2), "num_heads": (1, 2, 4, 8), "window_size": 4}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def small(in_channels=1, *, version=1, target_window=None, **options):
    torch.manual_seed(0)
    network = {
        "name": "swin_unet",
        "arguments": {
            "in_channels": in_channels,
            "num_classes": 2,
            "version": version,
            **SMALL,
            **options,
        },
    }
    return build_simmim(in_channels, network, target_window)


def randomise(module):
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            offset = 2.0 if "logit_scale" in name else 0.5 * (parameter.ndim == 1)
            parameter.copy_(torch.randn_like(parameter) * 0.05 + offset)
    return module.eval()


def masks(number, grid, tokens_per_patch=8):
    return torch.stack([random_mask(grid, 0.6, seeded(i), tokens_per_patch) for i in range(number)])


def test_the_published_parameter_counts():
    with torch.device("meta"):
        classifier = SwinClassifier(3, 0, size="base", image_size=192, window_size=6)
        base = SimMIM(classifier.encoder, 3)
        v2 = SwinClassifier(3, 0, size="base", image_size=192, window_size=12, version=2)
        base_v2 = SimMIM(v2.encoder, 3)

    def count(module):
        return sum(parameter.numel() for parameter in module.parameters())

    assert count(base.encoder) + base.mask_token.numel() == 86_725_304
    assert count(base.decoder) == 3_148_800
    assert count(base) == 89_874_104
    assert count(base_v2) == 90_042_744


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("in_channels", [1, 2, 3, 5])
def test_the_loss_is_the_mean_error_of_the_hidden_pixels(version, in_channels):
    """Also for one channel, where the published code broadcasts three over it."""
    model = randomise(small(in_channels, version=version))
    image, mask = torch.randn(2, in_channels, 64, 96), masks(2, (16, 24), 4)
    with torch.no_grad():
        result = model(image, mask)
    assert result["reconstruction"].shape == image.shape
    pixels = np.kron(mask.numpy(), np.ones((4, 4)))[:, None].astype(bool)
    hidden = np.broadcast_to(pixels, image.shape)
    expected = np.abs(result["reconstruction"].numpy() - image.numpy())[hidden].mean()
    assert result["loss"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("version", [1, 2])
def test_what_is_hidden_changes_no_prediction_and_what_is_seen_does(version):
    model = randomise(small(2, version=version))
    mask = masks(1, (16, 16), 4)
    image = torch.randn(1, 2, 64, 64)
    pixels = model.pixel_mask(mask)
    noise = torch.randn_like(image)
    with torch.no_grad():
        before = model.reconstruct(image, mask)
        assert torch.equal(model.reconstruct(image + noise * pixels, mask), before)
        assert not torch.allclose(model.reconstruct(image + noise * (1 - pixels), mask), before)


def test_the_loss_ignores_what_is_seen():
    target, mask = torch.randn(2, 3, 8, 8), (torch.rand(2, 1, 8, 8) < 0.5).float()
    prediction = target + torch.randn_like(target) * (1 - mask)
    assert masked_error(prediction, target, mask) == 0
    assert masked_error(target + 0.25, target, mask).item() == pytest.approx(0.25, rel=1e-5)
    assert masked_error(prediction, target, torch.zeros_like(mask)) == 0  # and not NaN


@pytest.mark.parametrize("version", [1, 2])
def test_hidden_tokens_keep_their_position(version):
    """The position embedding is added to the mask token as well, as the published code does."""
    torch.manual_seed(0)
    options = {**SMALL, "image_size": 32, "absolute_position_embedding": True}
    model = randomise(SimMIM(SwinClassifier(1, 0, version=version, **options).encoder, 1))
    seen = []
    model.encoder.stages[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model.reconstruct(torch.randn(1, 1, 32, 32), torch.ones(1, 8, 8))
    expected = model.mask_token + model.encoder.absolute_pos_embed
    assert torch.allclose(seen[0].flatten(1, 2), expected)


def naive_normalize(image, window):
    """Loop over the pixels."""
    reach, result = window // 2, np.zeros_like(image)
    for row, column in np.ndindex(image.shape):
        cut = image[
            max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1
        ]
        variance = cut.var(ddof=1) if cut.size > 1 else 0
        result[row, column] = (image[row, column] - cut.mean()) / np.sqrt(variance + 1e-6)
    return result


@settings(max_examples=30, deadline=None)
@given(
    image=arrays(
        np.float64, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(-9, 9)
    ),
    window=st.sampled_from([3, 5, 47]),
)
def test_targets_are_normalised_by_their_surroundings(image, window):
    ours = normalize_locally(torch.from_numpy(image)[None, None], window)[0, 0].numpy()
    assert np.allclose(ours, naive_normalize(image, window), atol=2e-3)


def test_normalisation_knows_no_offset_and_a_constant_is_zero():
    image = torch.randn(1, 2, 60, 50)
    assert torch.allclose(
        normalize_locally(image + 500, 47), normalize_locally(image, 47), atol=1e-2
    )
    assert normalize_locally(torch.full((1, 1, 60, 50), 731.7), 47).abs().max() < 1e-3


def test_the_target_of_a_window_is_normalised():
    model = randomise(small(2, target_window=5))
    image, mask = torch.randn(2, 2, 64, 64), masks(2, (16, 16), 4)
    with torch.no_grad():
        result = model(image, mask)
    assert torch.equal(result["target"], normalize_locally(image, 5))
    with pytest.raises(ValueError, match="odd"):
        small(1, target_window=4)


@pytest.mark.parametrize("version", [1, 2])
def test_every_parameter_gets_a_gradient(version):
    model = randomise(small(2, version=version, drop_path_rate=0.0))
    model(torch.randn(2, 2, 64, 64), masks(2, (16, 16), 4))["loss"].backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


def test_sizes_that_do_not_fit_are_refused():
    model = small()
    with pytest.raises(ValueError, match="multiple of 32"):
        model(torch.zeros(1, 1, 48, 64), torch.zeros(1, 12, 16))
    with pytest.raises(ValueError, match="mask"):
        model(torch.zeros(1, 1, 64, 64), torch.zeros(1, 8, 8))


def test_it_learns_to_fill_in_stripes():
    """A few steps on images that are easy to complete halve the error of the untrained model."""
    torch.manual_seed(0)
    model = small(1, drop_path_rate=0.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    image = ((torch.arange(64) // 8) % 2).float().expand(4, 1, 64, 64)
    losses = []
    for step in range(40):
        mask = torch.stack([random_mask((16, 16), 0.6, seeded(4 * step + i), 4) for i in range(4)])
        loss = model(image, mask)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:3])


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("in_channels", [1, 3])
def test_loss_and_pixels_equal_hugging_face(tmp_path, version, in_channels):
    transformers = pytest.importorskip("transformers")
    config_class, model_class = {
        1: (transformers.SwinConfig, transformers.SwinForMaskedImageModeling),
        2: (transformers.Swinv2Config, transformers.Swinv2ForMaskedImageModeling),
    }[version]
    options = {"embed_dim": 16, "depths": (2, 2, 2, 2), "num_heads": (1, 2, 4, 8)}
    config = config_class(
        image_size=192, window_size=6, num_channels=in_channels, encoder_stride=32, **options
    )
    theirs = randomise(model_class(config))
    torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
    ours = SimMIM(
        SwinClassifier(
            in_channels, 0, version=version, image_size=192, window_size=6, **options
        ).encoder,
        in_channels,
    ).eval()
    report = load_weights(ours, tmp_path / "pytorch_model.bin")
    assert (report.missing, report.skipped, report.unexpected) == ((), (), ())
    image, mask = torch.randn(2, in_channels, 192, 192), masks(2, (48, 48))
    with torch.no_grad():
        expected = theirs(image, bool_masked_pos=mask.flatten(1).bool())
        found = ours(image, mask)
    difference = (found["reconstruction"] - expected.reconstruction).abs().max()
    assert difference / expected.reconstruction.abs().max() <= 1e-5
    assert found["loss"].item() == pytest.approx(expected.loss.item(), rel=1e-5)


def test_a_checkpoint_fills_encoder_and_mirrored_decoder_of_a_swin_unet(tmp_path):
    source = randomise(small(1))
    torch.save({"model": source.state_dict()}, tmp_path / "best.pt")
    target = SwinUNet(1, 3, **SMALL)
    report = load_weights(target, tmp_path / "best.pt")
    assert report.encoder_fraction == 1
    for name, value in source.encoder.state_dict().items():
        assert torch.equal(target.encoder.state_dict()[name], value)
    for level, stage in ((0, 2), (1, 1), (2, 0)):
        ours = target.decoder.levels[level].stage.state_dict()
        theirs = source.encoder.stages[stage].state_dict()
        assert all(torch.equal(ours[name], value) for name, value in theirs.items())


def test_a_classifier_can_be_pretrained_too():
    arguments = {"in_channels": 1, "num_classes": 2, "image_size": 64, **SMALL}
    description = {"name": "swin_classifier", "arguments": arguments}
    model = build_simmim(1, description)
    assert model.encoder.state_dict().keys() == build_model(description).encoder.state_dict().keys()
