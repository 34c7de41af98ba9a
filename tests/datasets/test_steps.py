"""The steps on their own; albumentations is asked for its update check when it is imported."""

import os
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

from datasets.steps import Contrast, Gamma, Mirror, Noise, Warp, source_matrix

Array = np.ndarray[Any, Any]


def smooth(size: tuple[int, int], channels: int = 1) -> Array:
    noise = np.random.default_rng(0).random((*size, channels))
    blurred = ndimage.gaussian_filter(noise, (3, 3, 0))
    return ((blurred - blurred.min()) / np.ptp(blurred)).astype(np.float32)


def run(step: Any, image: Array, label: Array, seed: int = 0) -> tuple[Array, Array]:
    step.set_random_state(np.random.default_rng(seed), random.Random(seed))
    result = step(image=image, mask=label)
    return result["image"], result["mask"]


@pytest.mark.parametrize(
    ("degrees", "scale", "shift"),
    [(0, 1, [0, 0]), (30, 1, [0, 0]), (0, 1.4, [0, 0]), (0, 0.7, [3, -5]), (-17, 1.2, [-4.5, 2])],
)
def test_the_matrix_turns_enlarges_and_shifts_about_the_middle(
    degrees: float, scale: float, shift: list[float]
) -> None:
    """The forward map of complex numbers, applied to what the matrix gives, is the identity."""
    matrix = source_matrix((60, 80), (40, 50), degrees, scale, shift)
    points = np.random.default_rng(0).uniform(0, 40, (20, 2))
    sources = points @ matrix[:, :2].T + matrix[:, 2]
    turned = (sources - (39.5, 29.5)) @ (1, 1j) * scale * np.exp(1j * np.deg2rad(degrees))
    found = turned + complex(*shift) + complex(24.5, 19.5)
    np.testing.assert_allclose(found, points @ (1, 1j), atol=1e-9)


@pytest.mark.parametrize("elastic_p", [0.0, 1.0])
@pytest.mark.parametrize("channels", [1, 3, 5, 12])
def test_warped_slices_are_what_scipy_samples(elastic_p: float, channels: int) -> None:
    image, label = smooth((60, 72), channels), (smooth((60, 72))[..., 0] * 9).astype(np.uint16)
    step = Warp((40, 48), rotate_p=1, scale_p=1, shift_p=1, elastic_p=elastic_p)
    for seed in range(5):
        warped, warped_label = run(step, image, label, seed)
        rows, columns = np.mgrid[:40, :48].astype(float)
        if elastic_p:
            columns, rows = step.params["maps"]
        else:
            matrix = step.params["matrix"]
            columns, rows = np.tensordot(
                matrix, np.stack([columns, rows, np.ones_like(rows)]), axes=1
            )
        for channel in range(channels):
            expected = ndimage.map_coordinates(
                image[..., channel], [rows, columns], order=1, mode="nearest"
            )
            np.testing.assert_allclose(warped[..., channel], expected, atol=5e-3)
        expected = ndimage.map_coordinates(label, [rows, columns], order=0, mode="nearest")
        assert (warped_label != expected).mean() < 0.01
        assert warped_label.dtype == np.uint16


def test_warp_at_rest_is_the_middle() -> None:
    image, label = smooth((60, 72), 2), np.arange(60 * 72).reshape(60, 72).astype(np.uint16)
    step = Warp((40, 48), rotate_p=0, scale_p=0, shift_p=0, elastic_p=0)
    warped, warped_label = run(step, image, label)
    np.testing.assert_array_equal(warped, image[10:50, 12:60])
    np.testing.assert_array_equal(warped_label, label[10:50, 12:60])


def test_draws_cover_the_ranges() -> None:
    """Degrees, scale and shift as the matrix has them, 400 draws."""
    image, label = np.zeros((50, 40, 1), np.float32), np.zeros((50, 40), np.uint8)
    step = Warp((50, 40), rotate_p=0.5, scale_p=0.5, shift_p=0.5)
    degrees, scales, shifts = [], [], []
    for seed in range(400):
        run(step, image, label, seed)
        matrix = step.params["matrix"]
        if matrix is None:
            matrix = np.eye(2, 3)
        scale = 1 / np.hypot(*matrix[:, 0])
        center = np.array([19.5, 24.5])
        scales.append(scale)
        degrees.append(np.rad2deg(np.arctan2(matrix[0, 1], matrix[0, 0])))
        shifts.append(center - np.linalg.solve(matrix[:, :2], center - matrix[:, 2]))
    assert -30 <= min(degrees) < -28
    assert 28 < max(degrees) <= 30
    assert 0.7 <= min(scales) < 0.72
    assert 1.37 < max(scales) <= 1.4
    np.testing.assert_allclose(np.abs(shifts).max(axis=0), [4, 5], rtol=0.03)
    for values in (degrees, np.array(scales) - 1, np.array(shifts)[:, 0]):
        assert np.mean(np.abs(values) < 1e-9) == pytest.approx(0.5, abs=0.08)


def test_elastic_deformation_never_folds() -> None:
    """The Jacobian's determinant of where pixels come from stays positive."""
    image, label = np.zeros((96, 64, 1), np.float32), np.zeros((96, 64), np.uint8)
    step = Warp((96, 64), rotate_p=0, scale_p=0, shift_p=0, elastic_p=1)
    strains = []
    for seed in range(100):
        run(step, image, label, seed)
        x, y = step.params["maps"]
        (xy, xx), (yy, yx) = np.gradient(x), np.gradient(y)
        determinant = xx * yy - xy * yx
        strains.append(np.abs(determinant - 1).max())
        assert determinant.min() > 0
    assert np.median(strains) > 0.1  # and it does deform


@settings(deadline=None)
@given(
    axis=st.sampled_from([0, 1]),
    channels=st.sampled_from([1, 3, 5, 12]),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    seed=st.integers(0, 1000),
)
def test_a_flip_twice_is_the_identity(axis: int, channels: int, dtype: Any, seed: int) -> None:
    generator = np.random.default_rng(seed)
    image = generator.random((7, 6, channels), dtype=np.float32)
    label = generator.integers(0, 6, (7, 6)).astype(dtype)
    step = Mirror(axis, ((1, 4), (5, 2)), p=1.0)
    flipped, flipped_label = run(step, image, label)
    np.testing.assert_array_equal(flipped, np.flip(image, axis))
    table = np.array([0, 4, 5, 3, 1, 2], dtype)
    np.testing.assert_array_equal(flipped_label, np.flip(table[label], axis))
    assert flipped_label.dtype == dtype
    twice = run(step, flipped, flipped_label)
    np.testing.assert_array_equal(twice[0], image)
    np.testing.assert_array_equal(twice[1], label)


def test_a_flip_keeps_each_class_on_its_side() -> None:
    """A right kidney, on the left of the picture, is there after the flip too, mirrored."""
    label = np.zeros((20, 30), np.uint8)
    label[5:9, 3:8], label[6:12, 20:28] = 1, 2  # right kidney, left kidney
    _, flipped = run(Mirror(1, ((1, 2),), p=1.0), np.zeros((20, 30, 1), np.float32), label)
    assert np.argwhere(flipped == 1)[:, 1].mean() < 15 < np.argwhere(flipped == 2)[:, 1].mean()
    assert ((flipped == 1).sum(), (flipped == 2).sum()) == ((label == 2).sum(), (label == 1).sum())


@pytest.mark.parametrize("channels", [1, 3, 5, 12])
@pytest.mark.parametrize("step", [Gamma(p=1.0), Contrast(), Noise(p=1.0)])
def test_intensity_steps_stay_in_range_and_leave_the_label(step: Any, channels: int) -> None:
    image, label = smooth((30, 20), channels), np.ones((30, 20), np.uint8)
    image[0, 0], image[0, 1] = 0, 1
    before = image.copy()
    for seed in range(30):
        result, same = run(step, image, label, seed)
        assert (result.shape, result.dtype) == (image.shape, np.float32)
        assert 0 <= result.min() <= result.max() <= 1
        assert same is label or (same == label).all()
        assert not np.array_equal(result, image)
    np.testing.assert_array_equal(image, before)


def test_gamma_is_a_power_from_below_or_from_above() -> None:
    image, label = np.array([[[0.0], [0.3], [1.0]]], np.float32), np.zeros((1, 3), np.uint8)
    kinds = set()
    for seed in range(60):
        step = Gamma(p=1.0)
        low, middle, high = run(step, image, label, seed)[0].ravel().tolist()
        gamma, inverted = float(step.params["gamma"]), step.params["inverted"]
        assert (low, high) == (0, 1)
        assert 0.7 <= gamma <= 1.5
        expected = 1 - 0.7**gamma if inverted else 0.3**gamma
        assert middle == pytest.approx(expected, abs=1e-6)
        kinds.add((bool(inverted), gamma > 1))
    assert len(kinds) == 4


def test_contrast_stretches_each_channel_about_its_mean() -> None:
    image = 0.4 + 0.2 * smooth((30, 20), 2) * [0.5, 1.0]
    label, mean = np.zeros((30, 20), np.uint8), image.mean(axis=(0, 1))
    for strong_p, limit in ((1.0, 1.0), (0.0, 0.1)):
        step, changes = Contrast(strong_p), []
        for seed in range(100):
            result, _ = run(step, image.astype(np.float32), label, seed)
            factor, shift = float(step.params["factor"]), float(step.params["shift"])
            np.testing.assert_allclose(result, (image - mean) * factor + mean + shift, atol=1e-5)
            changes.append((abs(factor - 1), abs(shift)))
        np.testing.assert_allclose(np.max(changes, axis=0), [0.25 * limit, 0.15 * limit], rtol=0.1)


def test_noise_is_gaussian_and_its_own_in_every_channel() -> None:
    image, label = np.full((100, 100, 3), 0.5, np.float32), np.zeros((100, 100), np.uint8)
    step = Noise(p=1.0)
    noise = (run(step, image, label, seed=1)[0] - 0.5).reshape(-1, 3)
    deviation = step.params["deviation"]
    np.testing.assert_allclose(noise.std(axis=0), deviation, rtol=0.05)
    assert np.abs(noise.mean(axis=0)).max() < 0.1 * deviation
    assert np.abs(np.corrcoef(noise.T) - np.eye(3)).max() < 0.05
