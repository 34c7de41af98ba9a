from __future__ import annotations

import pytest
import torch

from swin_unet.models import classifier
from swin_unet.models.classifier import SwinClassifier, create_classifier
from swin_unet.models.variants import RELEASES
from swin_unet.models.weights import load_weights

TINY = {"embed_dim": 8, "depths": (1, 2), "num_heads": (1, 2), "window_size": 4, "image_size": 32}
# The published parameter counts, 1,000 classes or 21,841.
COUNTS = {
    "swin_tiny_patch4_window7_224": 28_288_354,
    "swin_small_patch4_window7_224": 49_606_258,
    "swin_base_patch4_window7_224": 87_768_224,
    "swin_base_patch4_window12_384": 87_903_584,
    "swin_large_patch4_window7_224": 196_532_476,
    "swin_large_patch4_window12_384": 196_735_516,
    "swinv2_tiny_patch4_window8_256": 28_347_154,
    "swinv2_tiny_patch4_window16_256": 28_347_154,
    "swinv2_small_patch4_window8_256": 49_728_418,
    "swinv2_small_patch4_window16_256": 49_728_418,
    "swinv2_base_patch4_window8_256": 87_918_816,
    "swinv2_base_patch4_window16_256": 87_918_816,
    "swinv2_base_patch4_window12to16_192to256": 87_918_816,
    "swinv2_base_patch4_window12to24_192to384": 87_918_816,
    "swinv2_large_patch4_window12to16_192to256": 196_739_932,
    "swinv2_large_patch4_window12to24_192to384": 196_739_932,
    "swin_tiny_patch4_window7_224_in22k": 44_315_083,
    "swin_small_patch4_window7_224_in22k": 65_632_987,
    "swin_base_patch4_window7_224_in22k": 109_130_249,
    "swin_large_patch4_window7_224_in22k": 228_565_093,
    "swin_large_patch4_window12_384_in22k": 228_768_133,
    "swinv2_base_patch4_window12_192_in22k": 109_280_841,
    "swinv2_large_patch4_window12_192_in22k": 228_772_549,
}


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(("name", "expected"), COUNTS.items())
def test_published_parameter_counts(name, expected):
    with torch.device("meta"):
        assert count(create_classifier(name)) == expected


def test_every_release_is_counted_but_one_without_a_published_number():
    assert set(RELEASES) - set(COUNTS) == {"swin_base_patch4_window12_384_in22k"}


def test_counts_with_other_heads_and_heads_per_stage():
    with torch.device("meta"):
        assert count(create_classifier("swin_tiny_window7_224", num_classes=10)) == 27_527_044
        assert count(create_classifier("swin_tiny_window7_224", num_classes=0)) == 27_519_354
        assert count(create_classifier("swin_base_window7_224", num_classes=0)) == 86_743_224
        c24 = SwinClassifier(image_size=256, window_size=8, num_heads=(4, 8, 16, 32))
    assert count(c24) == 28_306_432


@pytest.mark.parametrize("name", ["swin_tiny_window7_224", "swin_tiny_patch4_window7_224"])
def test_both_articles_names_are_functions(name):
    with torch.device("meta"):
        model = getattr(classifier, name)(num_classes=3)
    assert model.head.out_features == 3
    rates = [block.drop_path.rate for stage in model.encoder.stages for block in stage.blocks]
    assert rates == pytest.approx([0.2 * i / 11 for i in range(12)])


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(AttributeError, match="swin_tiny_patch4_window7_224"):
        _ = classifier.swin_giant
    with pytest.raises(ValueError, match="swin_giant"):
        create_classifier("swin_giant")


@pytest.mark.parametrize("head", ["linear", "mgff"])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("size", [(32, 32), (67, 71), (5, 9), (1, 1)])
def test_any_size(version, head, size):
    model = SwinClassifier(2, 5, version=version, head=head, **TINY).eval()
    assert model(torch.randn(2, 2, *size)).shape == (2, 5)
    assert model.forward_features(torch.randn(2, 2, *size)).shape == (2, 16)


def test_no_classes_means_features():
    model = SwinClassifier(1, 0, **TINY).eval()
    image = torch.randn(2, 1, 32, 32)
    assert torch.equal(model(image), model.forward_features(image))


def test_another_size_is_refused_only_when_told_to():
    SwinClassifier(1, 2, **TINY)(torch.randn(1, 1, 33, 32))
    with pytest.raises(ValueError, match=r"must be \(32, 32\), not \(33, 32\)"):
        SwinClassifier(1, 2, strict_image_size=True, **TINY)(torch.randn(1, 1, 33, 32))


def test_absolute_positions_are_learned_and_interpolated():
    model = SwinClassifier(1, 2, absolute_position_embedding=True, **TINY).eval()
    assert model.encoder.absolute_pos_embed.shape == (1, 64, 8)
    assert model(torch.randn(1, 1, 48, 40)).shape == (1, 2)
    image = torch.randn(1, 1, 32, 32)
    before = model(image)
    with torch.no_grad():
        model.encoder.absolute_pos_embed.add_(torch.randn(1, 64, 8))
    assert not torch.allclose(before, model(image))


@pytest.mark.parametrize("head", ["linear", "mgff"])
@pytest.mark.parametrize("version", [1, 2])
def test_every_parameter_gets_a_gradient(version, head):
    torch.manual_seed(0)
    settings = {"absolute_position_embedding": True, "drop_path_rate": 0.0, "head": head}
    model = SwinClassifier(1, 2, version=version, **settings, **TINY)
    with torch.no_grad():  # V2's norms start at zero, behind which nothing gets a gradient
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model(torch.randn(2, 1, 40, 36)).square().sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_windows_shrink_to_their_maps_as_published():
    with torch.device("meta"):
        model = create_classifier("swinv2_tiny_window16_256")
        large = create_classifier("swinv2_base_window12to24_192to384")
    assert [stage.blocks[0].window_size[0] for stage in model.encoder.stages] == [16, 16, 16, 8]
    attention = [stage.blocks[0].attn for stage in large.encoder.stages]
    assert [layer.window_size[0] for layer in attention] == [24, 24, 24, 12]
    assert [layer.pretrained_window_size for layer in attention] == [12, 12, 12, 6]


def test_pretrained_windows_belong_to_version_two():
    with pytest.raises(ValueError, match="version 1 has none"):
        SwinClassifier(pretrained_window_sizes=(7, 7, 7, 7))
    with pytest.raises(ValueError, match="4 entries"):
        SwinClassifier(version=2, pretrained_window_sizes=(7, 7))


def test_the_fusion_head_has_the_maps_of_the_article():
    """Swin-B at 384 pixels: see the specification of the fusion."""
    with torch.device("meta"):
        model = SwinClassifier(3, 200, image_size=384, size="base", window_size=12, head="mgff")
    projections = [layer.projection for layer in model.head.maps]
    assert [conv.in_channels for conv in projections[:3]] == [256, 512, 1024]
    assert [conv.stride[0] for conv in projections[:3]] == [4, 2, 1]
    assert isinstance(projections[3], torch.nn.Identity)
    assert model.head.grid == (12, 12)


def test_stage_outputs_are_those_of_hugging_face(tmp_path):
    transformers = pytest.importorskip("transformers")
    options = {"embed_dim": 8, "depths": (1, 2, 1), "num_heads": (1, 2, 4)}
    config = transformers.SwinConfig(image_size=64, window_size=4, num_channels=1, **options)
    theirs = transformers.SwinModel(config, add_pooling_layer=False).eval()
    torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
    ours = SwinClassifier(1, 0, image_size=64, window_size=4, **options).eval()
    load_weights(ours, tmp_path / "pytorch_model.bin")
    image = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        expected = theirs(image, output_hidden_states=True)
        found = ours.encoder.stage_outputs(image)
    for x, y in zip(found[:-1], expected.reshaped_hidden_states[1:], strict=False):
        assert torch.allclose(x.permute(0, 3, 1, 2), y, atol=1e-5)
    assert torch.allclose(found[-1].flatten(1, 2), expected.last_hidden_state, atol=1e-5)


def test_a_head_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="linear or mgff"):
        SwinClassifier(1, 2, head="deep", **TINY)
