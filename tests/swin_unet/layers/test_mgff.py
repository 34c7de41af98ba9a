from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from swin_unet.layers.mgff import (
    MGFF,
    GraphLayer,
    MapTokens,
    SkipFusion,
    SqueezeExcitation,
    fitting_kernels,
)
from swin_unet.models.resnet import ResNet

SWIN_BASE = (256, 512, 1024, 1024)


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def randomise(module):
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.1)
    return module


def maps_of(channels, sizes, batch_size=2):
    torch.manual_seed(1)
    return [torch.randn(batch_size, c, *size) for c, size in zip(channels, sizes, strict=True)]


def small(**options):
    arguments = {"grid": (3, 4), "num_heads": 2, "kernels": (4, 2, 1, None)} | options
    return randomise(MGFF((4, 6, 8, 8), 5, **arguments))


SMALL_MAPS = [(12, 16), (6, 8), (3, 4), (3, 4)]


def test_the_numbers_of_the_article():
    """384 pixels and Swin-B: four maps to 12 x 12 tokens, 576 nodes, 18 super-nodes."""
    with torch.device("meta"):
        fusion = MGFF(num_classes=200)
    assert [count(layer.projection) for layer in fusion.maps] == [
        4_195_328,
        2_098_176,
        1_049_600,
        0,
    ]
    assert fusion.graph.adjacency.shape == (576, 576)
    assert fusion.pool.out_features == 18
    assert fusion.maps[0].attention.relative_position_bias_table.shape == (23 * 23, 32)
    assert fusion.maps[0].gate.squeeze.weight.shape == (1024 // 16, 1024)
    assert fusion.maps[0].gate.excite.weight.shape == (1024, 1024 // 16)
    assert fitting_kernels((48, 24, 12, 12), 12) == [4, 2, 1, 1]


def test_shapes_of_the_article():
    """As above, with a tenth of the channels."""
    channels = tuple(c // 16 for c in SWIN_BASE)
    fusion = MGFF(channels, 7, num_heads=4).eval()
    sizes = [(48, 48), (24, 24), (12, 12), (12, 12)]
    with torch.no_grad():
        result = fusion(maps_of(channels, sizes))
    assert result["logits"].shape == (2, 7)
    assert result["embedding"].shape == (2, 64)
    assert [x.shape for x in result["maps"]] == [(2, 64, 12, 12)] * 4


def test_the_gate_is_between_0_and_1_and_equals_its_formula():
    layer = randomise(SqueezeExcitation(32, reduction=4))
    x = torch.randn(3, 10, 32)
    hidden = np.maximum(
        x.mean(1).numpy() @ layer.squeeze.weight.detach().numpy().T
        + layer.squeeze.bias.detach().numpy(),
        0,
    )
    logits = hidden @ layer.excite.weight.detach().numpy().T + layer.excite.bias.detach().numpy()
    expected = 1 / (1 + np.exp(-logits))
    with torch.no_grad():
        gate = layer.gate(x)
        assert np.allclose(gate, expected, atol=1e-6)
        assert ((gate > 0) & (gate < 1)).all()
        assert torch.allclose(layer(x), x * torch.from_numpy(expected)[:, None].float(), atol=1e-6)


def test_attention_rows_sum_to_1():
    """Shown by values that are all the same: what they are mixed to is what they were."""
    layer = randomise(MapTokens(8, 8, (3, 4), kernel=None, num_heads=2))
    attention = layer.attention
    with torch.no_grad():
        attention.qkv.weight[16:] = 0  # the values are the bias
        attention.proj.weight.copy_(torch.eye(8))
        attention.proj.bias.zero_()
        x = attention(torch.randn(2, 12, 8), (3, 4), None)
    assert torch.allclose(x, attention.qkv.bias[16:].expand_as(x), atol=1e-6)


def test_attention_has_the_position_term():
    """Tokens that are all the same can only be told apart by their place."""
    layer = randomise(MapTokens(8, 8, (3, 4), kernel=None, num_heads=2)).eval()
    x = torch.randn(1, 8, 3, 4)
    with torch.no_grad():
        with_positions = layer(x)
        layer.attention.relative_position_bias_table.zero_()
        without = layer(x)
        turned = layer(x.flip(2, 3))
    assert not torch.allclose(with_positions, without)
    assert torch.allclose(turned, without.flip(1), atol=1e-6)  # no positions: the order is free


def test_a_graph_without_edges_is_a_linear_map_per_node():
    layer = randomise(GraphLayer(6, 8)).eval()
    nodes = torch.randn(3, 6, 8)
    with torch.no_grad():
        layer.norm.reset_parameters()  # the identity, up to eps
        layer.alpha.zero_()
        layer.adjacency.copy_(torch.eye(6))
        expected = layer.mix(nodes) / (1 + layer.norm.eps) ** 0.5
        assert torch.allclose(layer(nodes), expected, atol=1e-6)


def test_the_graph_equals_a_loop_over_its_edges():
    layer = randomise(GraphLayer(4, 8)).eval()
    nodes = torch.randn(1, 4, 8)
    with torch.no_grad():
        mixed, query, key = layer.mix(nodes)[0], layer.query(nodes)[0], layer.key(nodes)[0]
        expected = torch.zeros(4, 8)
        for i in range(4):
            for j in range(4):
                weight = layer.adjacency[i, j] + layer.alpha * torch.tanh(
                    query[i].mean() - key[j].mean()
                )
                expected[j] += weight[0] * mixed[i]
        found = layer(nodes)[0]
        assert torch.allclose(found, layer.norm(expected.T[None])[0].T, atol=1e-6)


def test_a_new_graph_starts_as_the_spec_says():
    layer = GraphLayer(5, 8)
    edges = layer.edges(torch.randn(2, 5, 8))
    assert torch.allclose(edges, (torch.eye(5) + 1).expand(2, 5, 5) / 100)


def test_gradients_reach_every_map_and_parameter():
    fusion = small().train()
    maps = [x.requires_grad_() for x in maps_of((4, 6, 8, 8), SMALL_MAPS)]
    fusion(maps)["logits"].square().sum().backward()
    assert all(x.grad.abs().sum() > 0 for x in maps)
    without = {n for n, p in fusion.named_parameters() if p.grad is None or not p.grad.any()}
    assert without == set()


def test_maps_of_other_sizes_are_pooled_to_the_grid():
    fusion = small().eval()
    sizes = [(13, 19), (2, 3), (1, 1), (5, 7)]
    with torch.no_grad():
        maps = maps_of((4, 6, 8, 8), sizes)
        result = fusion(maps)
        alone = fusion([x[:1] for x in maps])
    assert [x.shape for x in result["maps"]] == [(2, 8, 3, 4)] * 4
    assert torch.allclose(result["logits"][:1], alone["logits"], atol=1e-5)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="2 maps need as many kernels"):
        MGFF((4, 8), grid=(3, 3), num_heads=2, kernels=(1,))
    with pytest.raises(ValueError, match="4 channels needs a kernel"):
        MGFF((4, 8), grid=(3, 3), num_heads=2, kernels=(None, None))


def test_it_plugs_into_a_resnet():
    """ResNet-50's maps, at a sixteenth of its widths."""
    backbone = ResNet(3, 2, widths=(4, 8, 16, 32))
    channels, sides = (16, 32, 64, 128), (16, 8, 4, 2)
    kernels = fitting_kernels(sides, 4)
    assert kernels == [4, 2, 1, 1]
    fusion = MGFF(channels, 5, grid=(4, 4), num_heads=4, kernels=kernels)
    x, maps = backbone.stem(torch.randn(2, 3, 64, 64)), []
    for stage in backbone.stages:
        x = stage(x)
        maps.append(x)
    fusion(maps)["logits"].sum().backward()
    assert backbone.stem[0].weight.grad.abs().sum() > 0


def skip_fusion():
    return SkipFusion((4, 8), (4, 8), grid=(2, 2), grid_stride=16, num_heads=2)


def test_a_new_skip_fusion_changes_nothing_and_a_trained_one_joins_the_maps():
    torch.manual_seed(0)
    fusion = skip_fusion().eval()
    fine, coarse = torch.randn(2, 8, 12, 4), torch.randn(2, 4, 6, 8)
    fusion.start_at_zero()
    with torch.no_grad():
        assert all(
            torch.equal(a, b) for a, b in zip(fusion([fine, coarse]), (fine, coarse), strict=True)
        )
        randomise(fusion)
        fused = fusion([fine, coarse])
        changed = fusion([fine, coarse + 1])
    assert [x.shape for x in fused] == [fine.shape, coarse.shape]
    assert not torch.allclose(fused[0], changed[0])  # the fine map knows the coarse one


def test_what_is_added_to_a_skip_is_a_bilinear_map_of_the_nodes():
    fusion = randomise(skip_fusion()).eval()
    maps = [torch.randn(1, 8, 8, 4), torch.randn(1, 4, 4, 8)]
    with torch.no_grad():
        nodes = fusion.graph(
            torch.cat([t(x.permute(0, 3, 1, 2)) for t, x in zip(fusion.maps, maps, strict=True)], 1)
        )
        grid = fusion.out[1](nodes[:, 4:]).reshape(1, 2, 2, 8).permute(0, 3, 1, 2)
        expected = F.interpolate(grid, (4, 4), mode="bilinear").permute(0, 2, 3, 1)
        assert torch.allclose(fusion(maps)[1] - maps[1], expected, atol=1e-6)
