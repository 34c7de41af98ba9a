from __future__ import annotations

import pytest
import torch

from swin_unet import SwinUNet
from swin_unet.models.unet import skip_scales
from tests.model_checks import (
    SIZES,
    check_checkpointing,
    check_items_independent,
    check_logits,
    check_save_and_load,
)

TINY = {"embed_dim": 8, "num_heads": (1, 2, 2, 4), "window_size": 4}
SETTINGS = [
    {},
    {"skips": 0},
    {"skips": (4, 16), "skip_source": "post_block"},
    {"upsampling": "bilinear"},
    {"upsampling": "transpose"},
    {"patch_size": 2, "window_size": (7, 5, 3, 2), "drop_path_rate": 0.0},
    {"patch_size": 3, "depths": (1, 2, 1), "num_heads": (1, 2, 2), "window_size": 5, "skips": 2},
    {"checkpointing": True},
    {"skip_fusion": "mgff", "skips": (4, 16)},
    {"version": 2, "window_size": (4, 4, 2, 2), "pretrained_window_sizes": (8, 8, 4, 2)},
]


def tiny(in_channels=2, num_classes=3, **settings):
    torch.manual_seed(0)
    return SwinUNet(in_channels, num_classes, **{**TINY, **settings})


@pytest.fixture(params=SETTINGS, ids=str)
def settings(request):
    return request.param


@pytest.mark.parametrize("size", SIZES)
def test_any_size_gives_logits_of_that_size(settings, size):
    check_logits(tiny(**settings).eval(), size)


def test_every_parameter_gets_a_gradient(settings):
    model = tiny(**settings | {"drop_path_rate": 0.0}).train()
    with torch.no_grad():  # the norms of version 2 start at zero and let no gradient through
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model(torch.randn(2, 2, 67, 71)).square().mean().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_save_and_load_gives_the_same_logits(settings):
    check_save_and_load(lambda: tiny(**settings))


def test_batch_items_are_independent(settings):
    check_items_independent(tiny(**settings).eval(), tolerance=1e-5)


def test_checkpointing_changes_nothing():
    check_checkpointing(lambda on: tiny(checkpointing=on, drop_path_rate=0.3))


@pytest.mark.parametrize(
    ("skips", "count"), [(0, 26_781_156), (1, 26_799_684), (2, 26_873_604), (3, 27_168_900)]
)
def test_published_parameter_counts(skips, count):
    model = SwinUNet(3, 9, skips=skips)
    assert sum(parameter.numel() for parameter in model.parameters()) == count


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        ({"depths": (2, 2, 6, 2)}, 41.4e6),
        ({"size": "base"}, 149.2e6),
        ({"size": "base", "depths": (2, 2, 2, 2)}, 48.3e6),
        ({"window_size": 12}, 27.22e6),
    ],
)
def test_reference_counts_of_other_sizes(arguments, count):
    with torch.device("meta"):
        model = SwinUNet(3, 9, **arguments)
    numel = sum(parameter.numel() for parameter in model.parameters())
    assert numel == pytest.approx(count, rel=2e-3)


def test_a_number_of_skips_means_the_finest_first():
    assert skip_scales(2, [4, 8, 16]) == {4, 8}
    assert skip_scales([16, 4], [4, 8, 16]) == {4, 16}
    model = tiny(skips=[8])
    assert [level.fuse is not None for level in model.decoder.levels] == [False, True, False]


def test_drop_path_rises_through_the_encoder_and_is_mirrored():
    model = SwinUNet(drop_path_rate=0.2)
    encoder = [b.drop_path.rate for stage in model.encoder.stages for b in stage.blocks]
    assert encoder == pytest.approx([0.2 * i / 7 for i in range(8)])
    decoder = [b.drop_path.rate for level in model.decoder.levels for b in level.stage.blocks]
    expected = [encoder[4:6], encoder[2:4], encoder[0:2]]
    assert decoder == pytest.approx([rate for pair in expected for rate in pair])


@pytest.mark.parametrize(
    "arguments",
    [
        {"skips": 4},
        {"skips": [32]},
        {"num_heads": (5, 6, 12, 24)},
        {"depths": (2, 2)},
        {"window_size": (7, 7)},
        {"window_size": 0},
        {"drop_path_rate": 1.0},
        {"version": 3},
        {"pretrained_window_sizes": (7, 7, 7, 7)},
        {"position_init": "local", "version": 2},
    ],
)
def test_contradictions_are_refused(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        SwinUNet(**arguments)


def test_masks_do_not_enter_the_checkpoint():
    model = tiny().eval()
    before = set(model.state_dict())
    model(torch.randn(1, 2, 50, 70))
    assert set(model.state_dict()) == before


def test_skip_fusion_starts_as_the_network_without():
    plain, fused = tiny().eval(), tiny(skip_fusion="mgff").eval()
    missing, unexpected = fused.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert all(name.startswith("fusion.") for name in missing)
    image = torch.randn(1, 2, 64, 64)
    with torch.no_grad():
        assert torch.equal(fused(image), plain(image))


@pytest.mark.parametrize("options", [{"skip_fusion": "mgff", "skips": 0}, {"skip_fusion": "sum"}])
def test_a_fusion_of_nothing_or_of_another_kind_is_refused(options):
    with pytest.raises(ValueError, match="skip_fusion"):
        tiny(**options)
