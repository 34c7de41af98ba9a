from __future__ import annotations

import pytest
import torch

from swin_unet import SwinUNet
from swin_unet.config import UserError
from swin_unet.losses import DeepSupervisionLoss, SegmentationLoss
from swin_unet.models.deep_supervision import DeeplySupervised

TINY = {"embed_dim": 8, "num_heads": (1, 2, 2, 4), "window_size": 4, "drop_path_rate": 0.0}


def build(**settings):
    torch.manual_seed(0)
    return DeeplySupervised(SwinUNet(2, 3, **{**TINY, **settings}))


@pytest.mark.parametrize("size", [(64, 64), (67, 71), (5, 9), (1, 1)])
@pytest.mark.parametrize(
    ("settings", "strides"),
    [
        ({}, (1, 4, 8, 16)),
        ({"skips": 0, "patch_size": 2, "upsampling": "bilinear"}, (1, 2, 4, 8)),
        ({"patch_size": 1, "depths": (1, 1, 1), "num_heads": (1, 1, 1), "skips": 2}, (1, 2)),
    ],
)
def test_every_scale_has_logits_of_its_size(settings, strides, size):
    model = build(**settings)
    assert model.strides == strides
    outputs = model(torch.randn(2, 2, *size))
    expected = [(2, 3, *(-(-extent // stride) for extent in size)) for stride in strides]
    assert [output.shape for output in outputs] == expected


def test_the_finest_logits_are_the_networks():
    model = build().eval()
    image = torch.randn(1, 2, 50, 40)
    assert torch.equal(model(image)[0], model.network(image))


@pytest.mark.parametrize("settings", [{}, {"version": 2, "window_size": (4, 4, 2, 2)}], ids=str)
def test_every_parameter_gets_a_gradient(settings):
    model = build(**settings).train()
    with torch.no_grad():  # the norms of version 2 start at zero and let no gradient through
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    criterion = DeepSupervisionLoss(SegmentationLoss(), model.strides)
    label = torch.randint(0, 3, (2, 67, 71))
    criterion(model(torch.randn(2, 2, 67, 71)), label)["loss"].backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_the_network_stays_the_one_that_is_published():
    network = SwinUNet(3, 9)
    keys = list(network.state_dict())
    model = DeeplySupervised(network)
    assert list(network.state_dict()) == keys
    assert sum(parameter.numel() for parameter in network.parameters()) == 27_168_900
    added = sum(parameter.numel() for parameter in model.heads.parameters())
    assert added == 9 * (96 + 192 + 384)


def test_a_network_without_coarser_scales_is_refused():
    with pytest.raises(UserError, match="coarser scales"):
        build(patch_size=1, depths=(1, 1), num_heads=(1, 1), skips=1)
