from __future__ import annotations

import numpy as np

from swin_unet.overlays import PALETTE, class_colour, overlay, overlay_panel, to_grey


def test_grey_spans_the_whole_range_and_a_constant_is_black():
    grey = to_grey(np.array([[-5.0, 0.0, 5.0]]))
    assert grey[0, :, 0].tolist() == [0, 127, 255]
    assert to_grey(np.full((2, 2), 7.0)).max() == 0


def test_only_labelled_pixels_are_coloured_and_colours_repeat():
    grey = np.full((1, 4, 3), 100, np.uint8)
    picture = overlay(grey, np.array([[0, 1, 2, 1 + len(PALETTE)]]), opacity=1.0)
    assert picture[0, 0].tolist() == [100, 100, 100]
    assert np.array_equal(picture[0, 1], PALETTE[0])
    assert np.array_equal(picture[0, 2], PALETTE[1])
    assert np.array_equal(picture[0, 3], PALETTE[0])


def test_small_slices_are_enlarged():
    labels = np.zeros((32, 20), np.uint8)
    assert overlay_panel(labels, [labels, labels]).shape == (192, 360, 3)
    large = np.zeros((300, 200))
    assert overlay_panel(large, [large]).shape == (300, 400, 3)


def test_limits_clip_and_make_slices_comparable():
    grey = to_grey(np.array([[-5.0, 0.0, 5.0, 9.0]]), limits=(0.0, 5.0))
    assert grey[0, :, 0].tolist() == [0, 0, 255, 255]
    assert to_grey(np.full((2, 2), 7.0), limits=(7.0, 7.0)).max() == 0


def test_a_class_has_the_colour_of_its_overlay():
    for value in (1, 2, 8, 9):
        (drawn,) = overlay(np.zeros((1, 1, 3), np.uint8), np.array([[value]]), opacity=1.0)[0]
        np.testing.assert_allclose(drawn / 255, class_colour(value))
