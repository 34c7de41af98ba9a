from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from swin_unet.models.localizer import (
    Localizer,
    TwoStageClassifier,
    crop_boxes,
    extend,
    locate,
    token_importance,
)

GRID = (6, 8)
NUM_TOKENS = 1 + GRID[0] * GRID[1]
MODES = ["sum", "rollout", "product"]
TINY = {"image_size": (32, 48), "patch_size": 8, "embed_dim": 16, "depths": [3], "num_heads": [2]}


def uniform(num_layers=3, batch_size=1):
    return [torch.full((batch_size, 2, NUM_TOKENS, NUM_TOKENS), 1 / NUM_TOKENS)] * num_layers


def on_block(top, left, bottom, right, num_layers=3):
    """Every token, the class token too, attends to the block nine times as much as elsewhere."""
    weight = torch.ones(GRID)
    weight[top:bottom, left:right] = 9
    row = torch.cat([torch.ones(1), weight.flatten()])
    attention = (row / row.sum()).expand(1, 2, NUM_TOKENS, NUM_TOKENS)
    return [attention] * num_layers


def whole_box(height, width):
    return [0, 0, width, height]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("block", [(1, 2, 4, 6), (0, 0, 3, 3), (3, 5, 6, 8), (2, 2, 5, 5)])
def test_a_known_block_gives_its_box(mode, block):
    importance = token_importance(on_block(*block), GRID, mode)
    top, left, bottom, right = block
    box = locate(importance, (96, 128), margin=0, min_share=0)[0].tolist()
    assert box == [16 * left, 16 * top, 16 * right, 16 * bottom]
    half = locate(importance, (48, 64), margin=0, min_share=0)[0].tolist()
    assert half == [8 * left, 8 * top, 8 * right, 8 * bottom]


@pytest.mark.parametrize("mode", MODES)
def test_attention_that_is_the_same_everywhere_gives_the_whole_image(mode):
    noisy = [a * (1 + 1e-6 * torch.rand_like(a)) for a in uniform(12)]
    importance = token_importance(noisy, GRID, mode)
    assert locate(importance, (90, 130))[0].tolist() == whole_box(90, 130)


def test_the_largest_region_wins_and_gets_its_margin():
    importance = torch.zeros(1, 10, 10)
    importance[0, 1, 8] = 5.0  # a single bright token
    importance[0, 4:8, 2:5] = 1.0
    box = locate(importance, (100, 100), margin=0.1, min_share=0)[0].tolist()
    assert box == [17, 36, 53, 84]  # 30 x 40 with a tenth of its sides on each side
    assert locate(importance, (100, 100), margin=0, min_share=0.5)[0].tolist() == [10, 35, 60, 85]


def test_importance_equals_a_loop_over_the_matrices():
    torch.manual_seed(0)
    attentions = [torch.randn(2, 3, NUM_TOKENS, NUM_TOKENS).softmax(dim=-1) for _ in range(2)]
    a, b = (x.mean(dim=1) for x in attentions)
    eye = torch.eye(NUM_TOKENS)
    received = torch.zeros(2, NUM_TOKENS)
    for matrix in (a, b):
        for query in range(NUM_TOKENS):
            received += matrix[:, query]
    expected = {
        "sum": received,
        "rollout": ((b + eye) @ (a + eye))[:, 0] / 4,
        "product": (b @ a)[:, 0],
    }
    for mode in MODES:
        found = token_importance(attentions, GRID, mode)
        assert found.shape == (2, *GRID)
        assert torch.allclose(found.flatten(1), expected[mode][:, 1:], atol=1e-5)


@given(
    ends=st.tuples(st.floats(0, 50), st.floats(0, 50)).filter(lambda pair: pair[0] != pair[1]),
    size=st.integers(50, 80),
    margin=st.floats(0, 2),
    min_share=st.floats(0, 1),
)
def test_an_extended_interval_holds_the_old_one_inside_the_axis(ends, size, margin, min_share):
    start, stop = sorted(ends)
    first, last = extend(start, stop, size, margin=margin, min_share=min_share)
    assert 0 <= first <= start + 1e-3
    assert stop - 1e-3 <= last <= size
    wanted = max((stop - start) * (1 + 2 * margin), min_share * size)
    assert last - first >= min(size, wanted) - 1e-3
    assert last - first <= wanted + 2


@given(seed=st.integers(0, 999), height=st.integers(20, 90), width=st.integers(20, 90))
def test_boxes_are_inside_the_image_and_the_same_alone(seed, height, width):
    importance = torch.rand(3, *GRID, generator=torch.Generator().manual_seed(seed))
    boxes = locate(importance, (height, width))
    for box, alone in zip(boxes, importance, strict=True):
        left, top, right, bottom = box.tolist()
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        assert torch.equal(locate(alone[None], (height, width))[0], box)


def test_a_crop_of_the_size_wanted_is_a_cut():
    images = torch.randn(2, 3, 20, 30)
    boxes = torch.tensor([[5, 4, 15, 12], [0, 12, 10, 20]])
    crops = crop_boxes(images, boxes, (8, 10))
    assert torch.allclose(crops[0], images[0, :, 4:12, 5:15])
    assert torch.allclose(crops[1], images[1, :, 12:20, 0:10])


def test_what_the_vit_attends_to_comes_from_its_own_layers():
    """Recomputed from the queries and keys of every block."""
    torch.manual_seed(0)
    model = Localizer(1, 3, **TINY).eval()
    image = torch.randn(2, 1, 32, 48)
    recomputed = []

    def keep(block, inputs):
        attention, x = block.attn, block.norm1(inputs[0])
        q, k = attention.qkv(x).view(2, 25, 3, 2, 8).permute(2, 0, 3, 1, 4)[:2]
        recomputed.append((q @ k.transpose(-2, -1) / 8**0.5).softmax(dim=-1))

    for block in model.vit.blocks:
        block.register_forward_pre_hook(keep)
    logits, importance = model.look(image)
    assert len(recomputed) == 3
    assert torch.allclose(importance, token_importance(recomputed, (4, 6)), atol=1e-5)
    assert torch.equal(logits, model(image))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": (30, 48)}, "multiple of patches of 8"),
        ({"num_heads": [3]}, "does not divide"),
        ({"depths": [2, 2]}, "need one number each"),
        ({"patch_size": 1, "image_size": (64, 64)}, "too many tokens"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Localizer(**TINY | options)


class Recorder(nn.Module):
    """A classifier that keeps what it is shown."""

    def __init__(self, in_channels, num_classes):
        super().__init__()
        self.linear = nn.Linear(in_channels, num_classes)

    def forward(self, x):
        self.seen = x
        return self.linear(x.mean(dim=(2, 3)))


@pytest.mark.parametrize("multi_label", [False, True])
def test_two_looks(multi_label):
    torch.manual_seed(0)
    classifier = Recorder(2, 3)
    model = TwoStageClassifier(
        classifier, Localizer(2, 3, **TINY), crop_size=(24, 24), multi_label=multi_label
    ).eval()
    images = torch.randn(2, 2, 50, 70, requires_grad=True)
    result = model(images)
    activate = torch.sigmoid if multi_label else lambda logits: logits.softmax(dim=1)
    expected = (activate(result["logits1"]) + activate(result["logits2"])) / 2
    assert torch.allclose(result["probability"], expected)
    assert torch.allclose(classifier.seen, crop_boxes(images, result["boxes"], (24, 24)))
    alone = [model(image[None])["probability"] for image in images]
    assert torch.allclose(torch.cat(alone), result["probability"], atol=1e-5)


def test_the_first_look_is_without_gradient():
    model = TwoStageClassifier(Recorder(1, 3), Localizer(1, 3, **TINY), crop_size=(24, 24))
    result = model(torch.randn(2, 1, 50, 70))
    result["probability"].square().sum().backward()
    assert not result["logits1"].requires_grad
    assert all(p.grad is None for p in model.localizer.parameters())
    assert all(p.grad.any() for p in model.classifier.parameters())
