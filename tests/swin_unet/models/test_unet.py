from __future__ import annotations

import re
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from swin_unet import SwinUNet
from swin_unet.layers.stage import ConditionalPositions
from swin_unet.models.refinement import PixelRefinement
from swin_unet.models.simmim import build_simmim
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
    {"conditional_positions": True, "checkpointing": True},
    {"pixel_refinement": True, "patch_size": 1},
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


@pytest.mark.parametrize(
    ("option", "name"),
    [
        ({"skip_fusion": "mgff"}, r"fusion\..*"),
        ({"conditional_positions": True}, r".*\.positions\.\d\.conv\.(weight|bias)"),
        ({"pixel_refinement": True}, r"refine\..*"),
    ],
    ids=str,
)
def test_additions_start_as_the_network_without(option, name):
    plain, extended = tiny().eval(), tiny(**option).eval()
    missing, unexpected = extended.load_state_dict(plain.state_dict(), strict=False)
    assert missing
    assert not unexpected
    assert all(re.fullmatch(name, key) for key in missing)
    image = torch.randn(1, 2, 64, 64)
    with torch.no_grad():
        assert torch.equal(extended(image), plain(image))
        for parameter in extended.parameters():
            parameter.add_(0.1)
        for parameter in plain.parameters():
            parameter.add_(0.1)
        assert not torch.allclose(extended(image), plain(image))


def test_conditional_positions_are_in_every_block_of_encoder_and_decoder():
    model = tiny(conditional_positions=True, depths=(1, 2, 3, 2))
    stages = [*model.encoder.stages, *(level.stage for level in model.decoder.levels)]
    assert [len(stage.positions) for stage in stages] == [1, 2, 3, 2, 3, 2, 1]
    arguments = {"in_channels": 2, "num_classes": 1, "conditional_positions": True, **TINY}
    encoder = build_simmim(2, {"name": "swin_unet", "arguments": arguments}).encoder
    assert all(stage.positions is not None for stage in encoder.stages)


@pytest.mark.parametrize("size", [(9, 7), (1, 1)])
def test_conditional_positions_are_the_convolution_of_the_neighbours(size):
    positions = ConditionalPositions(4)
    nn.init.normal_(positions.conv.weight)
    nn.init.normal_(positions.conv.bias)
    x = torch.randn(2, *size, 4)
    padded = F.pad(x, (0, 0, 1, 1, 1, 1))
    expected = x + positions.conv.bias
    for row, column in product(range(3), range(3)):
        shifted = padded[:, row : row + size[0], column : column + size[1]]
        expected = expected + shifted * positions.conv.weight[:, 0, row, column]
    torch.testing.assert_close(positions(x), expected)


def test_pixel_refinement_sees_the_image_around_a_pixel_and_no_further():
    """Two convolutions of 3 x 3 pixels behind the image's own one: three pixels each way."""
    refine = PixelRefinement(1, 4).eval()
    nn.init.normal_(refine.project.weight)
    for module in refine.modules():  # its statistics are those of the whole image
        if isinstance(module, nn.InstanceNorm2d):
            module.forward = lambda x: x
    features, image = torch.randn(1, 4, 15, 15), torch.randn(1, 1, 15, 15)
    changed = image.clone()
    changed[..., 7, 7] += 1
    with torch.no_grad():
        differs = (refine(features, changed) != refine(features, image)).any(dim=1)[0]
    rows, columns = differs.nonzero().T
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (4, 10, 4, 10)


@pytest.mark.parametrize("options", [{"skip_fusion": "mgff", "skips": 0}, {"skip_fusion": "sum"}])
def test_a_fusion_of_nothing_or_of_another_kind_is_refused(options):
    with pytest.raises(ValueError, match="skip_fusion"):
        tiny(**options)
