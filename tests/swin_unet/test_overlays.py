from __future__ import annotations

import numpy as np

from swin_unet.overlays import (
    ERROR_PALETTE,
    ERRORS,
    PALETTE,
    class_colour,
    error_map,
    overlay,
    overlay_panel,
    to_grey,
)


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
    assert overlay_panel(labels, labels, labels).shape == (192, 480, 3)
    large = np.zeros((300, 200))
    assert overlay_panel(large, labels_like(large), labels_like(large)).shape == (300, 800, 3)


def labels_like(pixels):
    return np.zeros(pixels.shape, np.uint8)


def test_errors_are_told_apart_by_colour():
    labels = np.array([[0, 0, 1, 1, 2]], np.uint8)
    prediction = np.array([[0, 1, 1, 0, 1]], np.uint8)
    kinds = [ERRORS[kind] for kind in error_map(labels, prediction)[0]]
    assert kinds == ["right", "invented", "right", "missed", "other class"]
    panel = overlay_panel(np.zeros((1, 5)), labels, prediction)
    factor = panel.shape[0]
    errors = panel[0, 15 * factor :: factor]
    assert errors[0].tolist() == errors[2].tolist() == [0, 0, 0]
    for position, colour in ((1, 0), (3, 1), (4, 2)):
        assert errors[position].tolist() == (0.8 * ERROR_PALETTE[colour]).astype(int).tolist()


def test_limits_clip_and_make_slices_comparable():
    grey = to_grey(np.array([[-5.0, 0.0, 5.0, 9.0]]), limits=(0.0, 5.0))
    assert grey[0, :, 0].tolist() == [0, 0, 255, 255]
    assert to_grey(np.full((2, 2), 7.0), limits=(7.0, 7.0)).max() == 0


def test_a_class_has_the_colour_of_its_overlay():
    for value in (1, 2, 8, 9):
        (drawn,) = overlay(np.zeros((1, 1, 3), np.uint8), np.array([[value]]), opacity=1.0)[0]
        np.testing.assert_allclose(drawn / 255, class_colour(value))
