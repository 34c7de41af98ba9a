from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from swin_unet.layers.windows import (
    attention_mask,
    fit_window,
    pad_to_multiple,
    relative_position_index,
    window_partition,
    window_reverse,
)

CPU = torch.device("cpu")


@given(
    st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5)
)
def test_reverse_undoes_partition(batch, rows, columns, height, width):
    x = torch.randn(batch, rows * height, columns * width, 2)
    windows = window_partition(x, (height, width))
    assert windows.shape == (batch * rows * columns, height * width, 2)
    assert torch.equal(window_reverse(windows, (height, width), (x.shape[1], x.shape[2])), x)


def test_partition_is_row_major_and_image_by_image():
    x = torch.arange(2 * 4 * 6).view(2, 4, 6, 1)
    windows = window_partition(x, (2, 3))
    assert torch.equal(windows[1].flatten(), x[0, :2, 3:].flatten())
    assert torch.equal(windows[2].flatten(), x[0, 2:, :3].flatten())
    assert torch.equal(windows[4].flatten(), x[1, :2, :3].flatten())


def test_padding_is_zeros_at_the_bottom_and_right_and_none_if_it_fits():
    x = torch.ones(1, 5, 6, 1)
    padded = pad_to_multiple(x, (4, 3))
    assert padded.shape == (1, 8, 6, 1)
    assert padded[:, :5].eq(1).all()
    assert padded[:, 5:].eq(0).all()
    assert pad_to_multiple(x, (5, 3)) is x


def _may_attend(a, b, x_size, window, shift):
    """State the rule by coordinates, independently of rolling and partitioning."""
    same_window = all(
        (p - s) // w == (q - s) // w for p, q, w, s in zip(a, b, window, shift, strict=True)
    )
    is_padding = [any(p >= n for p, n in zip(t, x_size, strict=True)) for t in (a, b)]
    return same_window and is_padding[0] == is_padding[1]


@pytest.mark.parametrize(
    ("x_size", "window", "shift"),
    [
        ((14, 14), (7, 7), (3, 3)),
        ((21, 28), (7, 7), (3, 3)),
        ((8, 12), (4, 4), (2, 2)),
        ((4, 4), (2, 2), (1, 1)),
        ((9, 10), (4, 4), (2, 2)),
        ((5, 9), (5, 4), (0, 2)),
        ((6, 7), (4, 4), (0, 0)),
    ],
)
def test_mask_equals_the_coordinate_rule(x_size, window, shift):
    padded = [n + (-n) % w for n, w in zip(x_size, window, strict=True)]
    mask = attention_mask(x_size, window, shift, CPU)
    assert mask is not None
    rows, columns = torch.meshgrid(*(torch.arange(n) for n in padded), indexing="ij")
    coordinates = torch.stack([rows, columns], dim=-1)[None].roll((-shift[0], -shift[1]), (1, 2))
    windows = window_partition(coordinates, window)  # (num_windows, area, 2)
    for allowed, tokens in zip(mask.eq(0), windows.tolist(), strict=True):
        expected = [[_may_attend(a, b, x_size, window, shift) for b in tokens] for a in tokens]
        assert allowed.tolist() == expected
    assert set(mask.unique().tolist()) <= {0.0, float("-inf")}


def test_nothing_is_masked_where_windows_fit_without_shift():
    assert attention_mask((8, 12), (4, 4), (0, 0), CPU) is None


def test_window_shrinks_to_the_map_and_a_single_window_is_not_shifted():
    assert fit_window((7, 20), (7, 7), (3, 3)) == ((7, 7), (0, 3))
    assert fit_window((3, 5), (7, 4), (3, 2)) == ((3, 4), (0, 2))


def test_relative_positions_by_coordinates():
    window, table = (3, 2), (4, 5)
    index = relative_position_index(window, table, CPU).view(6, 6)
    tokens = [(y, x) for y in range(3) for x in range(2)]
    for i, (y, x) in enumerate(tokens):
        for j, (other_y, other_x) in enumerate(tokens):
            row, column = y - other_y + table[0] - 1, x - other_x + table[1] - 1
            assert index[i, j] == row * (2 * table[1] - 1) + column


def test_what_inference_has_cached_serves_training_too():
    attention_mask.cache_clear()
    relative_position_index.cache_clear()
    with torch.inference_mode():
        mask = attention_mask((5, 5), (4, 4), (2, 2), CPU)
        index = relative_position_index((4, 4), (4, 4), CPU)
    assert not mask.is_inference()
    assert not index.is_inference()
