from __future__ import annotations

import numpy as np
import pytest
import torch

from swin_unet.models.window_transfer import resize_position_embedding, resize_rel_pos_bias


def test_bicubic_gives_the_published_vectors():
    constant = torch.full((169, 2), 3.0)
    assert torch.allclose(resize_rel_pos_bias(constant, (12, 12)), torch.tensor(3.0))
    ramp = torch.arange(13.0).repeat_interleave(13)[:, None]
    resized = resize_rel_pos_bias(ramp, (12, 12)).view(23, 23)
    assert resized[11, 11].item() == pytest.approx(6.0, abs=1e-5)
    assert resized[0, 0].item() == pytest.approx(-0.09986, abs=1e-4)
    assert resized[22, 22].item() == pytest.approx(12.09986, abs=1e-4)


@pytest.mark.parametrize("method", ["bicubic", "geometric"])
@pytest.mark.parametrize("window", [(8, 8), (12, 12), (16, 16), (4, 4)])
def test_both_methods_keep_symmetry_constants_and_heads(method, window):
    rows, columns = np.indices((13, 13)) - 6
    bowl = torch.from_numpy(rows**2 + columns**2).float().flatten()
    table = torch.stack([bowl, torch.ones(169)], dim=1)
    resized = resize_rel_pos_bias(table, window, method=method)
    side = 2 * window[0] - 1
    grid = resized[:, 0].view(side, side)
    assert resized.shape == (side * side, 2)
    assert torch.allclose(resized[:, 1], torch.tensor(1.0), atol=1e-4)
    assert torch.allclose(grid, grid.flip(0, 1), atol=1e-3)
    assert torch.allclose(grid, grid.t(), atol=1e-3)


def test_geometric_keeps_the_neighbourhood_and_stretches_the_rim():
    """Position 1 stays at 1, and the old rim comes to lie on the new one."""
    ramp = (torch.arange(13.0) - 6).abs().repeat_interleave(13)[:, None]
    resized = resize_rel_pos_bias(ramp, (12, 12), method="geometric").view(23, 23)[:, 11]
    assert resized[12].item() == pytest.approx(1.0, abs=0.1)
    assert resized[22].item() == pytest.approx(6.0, abs=0.1)
    bicubic = resize_rel_pos_bias(ramp, (12, 12)).view(23, 23)[:, 11]
    assert bicubic[12].item() < 0.7


def test_the_same_window_and_half_precision():
    table = torch.randn(169, 3, dtype=torch.float16)
    assert resize_rel_pos_bias(table, (7, 7)) is table
    assert resize_rel_pos_bias(table, (8, 8)).dtype == torch.float16


def test_oblong_windows_must_be_told():
    table = torch.randn(5 * 7, 2)
    with pytest.raises(ValueError, match="give old_window"):
        resize_rel_pos_bias(table, (4, 4))
    assert resize_rel_pos_bias(table, (4, 5), old_window=(3, 4)).shape == (63, 2)
    with pytest.raises(ValueError, match="not of window"):
        resize_rel_pos_bias(table, (4, 4), old_window=(4, 4))


def test_position_embeddings_are_interpolated():
    grid = torch.arange(4.0).repeat_interleave(4)[None, :, None]
    resized = resize_position_embedding(grid, (8, 2)).view(8, 2)
    assert torch.equal(resized[:, 0], resized[:, 1])
    assert (resized[:, 0].diff() > 0).all()
    with pytest.raises(ValueError, match="give old_grid"):
        resize_position_embedding(torch.randn(1, 6, 2), (4, 4))
    assert resize_position_embedding(torch.randn(1, 6, 2), (4, 4), (2, 3)).shape == (1, 16, 2)
