import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.augment import AUGMENTATIONS, Augmentation, build_augmentation


def sample(
    channels: int = 1, low: float = -2.0, high: float = 3.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return a bright ellipse, off centre, on a noisy ground, and its label."""
    rows, columns = np.mgrid[:48, :48]
    label = ((rows - 20) ** 2 / 90 + (columns - 28) ** 2 / 200 < 1).astype(np.uint8)
    image = 0.2 * np.random.default_rng(0).random((48, 48, channels)) + 0.6 * label[..., None]
    image = (image - image.min()) / np.ptp(image) * (high - low) + low
    return image.astype(np.float32), label


def augmentation(name: str) -> Augmentation:
    result = build_augmentation(name)
    assert result is not None
    return result


def test_none_is_nothing() -> None:
    assert set(AUGMENTATIONS) == {"paper", "default", "none"}
    assert build_augmentation("none") is None


@pytest.mark.parametrize("name", ["paper", "default"])
@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), channels=st.sampled_from([1, 2, 3, 5, 20]))
def test_shape_type_range_and_label_values_stay(name: str, seed: int, channels: int) -> None:
    image, label = sample(channels)
    before = image.copy(), label.copy()
    new_image, new_label = augmentation(name)(image, label, seed)
    assert (new_image.shape, new_image.dtype) == (image.shape, np.float32)
    assert (new_label.shape, new_label.dtype) == (label.shape, np.uint8)
    assert new_image.min() >= -2 - 1e-5
    assert new_image.max() <= 3 + 1e-5
    assert set(np.unique(new_label)) <= {0, 1}
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(label, before[1])


@pytest.mark.parametrize("name", ["paper", "default"])
def test_the_same_seed_gives_the_same_sample_in_any_order(name: str) -> None:
    image, label = sample()
    first = augmentation(name)
    forward = [first(image, label, seed) for seed in range(20)]
    second = pickle.loads(pickle.dumps(first))
    backward = [second(image, label, seed) for seed in reversed(range(20))][::-1]
    for one, other in zip(forward, backward, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])


@pytest.mark.parametrize("name", ["paper", "default"])
def test_image_and_label_move_together(name: str) -> None:
    image, label = sample()
    augment = augmentation(name)
    for seed in range(60):
        new_image, new_label = augment(image, label, seed)
        bright = (new_image[..., 0] > 0.2).astype(np.uint8)
        assert (bright != new_label).mean() < 0.06


def test_uint16_labels_are_kept() -> None:
    image, label = sample()
    wide = label.astype(np.uint16) * 60000
    for name in ("paper", "default"):
        results = [augmentation(name)(image, wide, seed)[1] for seed in range(30)]
        assert {int(value) for result in results for value in np.unique(result)} == {0, 60000}
        assert {result.dtype for result in results} == {np.dtype(np.uint16)}


def test_a_constant_slice_stays_finite() -> None:
    for name in ("paper", "default"):
        for seed in range(20):
            image = np.full((16, 16, 1), -1.5, np.float32)
            result, _ = augmentation(name)(image, np.zeros((16, 16), np.uint8), seed)
            assert np.isfinite(result).all()


def test_the_papers_recipe_turns_half_of_the_slices() -> None:
    image, label = sample()
    augment = augmentation("paper")
    turns = {
        np.rot90(flipped, k).tobytes() for flipped in (image, image[:, ::-1]) for k in range(4)
    }
    kinds = {"same": 0, "turned": 0, "rotated": 0}
    seen = set()
    for seed in range(600):
        result = augment(image, label, seed)[0]
        close = [
            turn
            for turn in turns
            if np.allclose(np.frombuffer(turn, "f4"), result.ravel(), atol=1e-5)
        ]
        seen.update(close)
        if np.allclose(result, image, atol=1e-5):
            kinds["same"] += 1
        else:
            kinds["turned" if close else "rotated"] += 1
    assert len(seen) == 5  # the slice and its four reflections
    assert kinds["same"] == pytest.approx(150, abs=40)
    assert kinds["turned"] == pytest.approx(300, abs=50)


def test_the_default_recipe_never_swaps_sides() -> None:
    """Left and right organs have labels of their own, so the larger side stays the larger."""
    rows, columns = np.mgrid[:48, :48]
    label = (((rows - 24) ** 2 + (columns - 12) ** 2 < 30) * 1).astype(np.uint8)
    label[(rows - 24) ** 2 + (columns - 36) ** 2 < 30] = 2
    image = label[..., None].astype(np.float32)
    augment = augmentation("default")
    for seed in range(100):
        result = augment(image, label, seed)[1]
        assert np.argwhere(result == 1)[:, 1].mean() < np.argwhere(result == 2)[:, 1].mean()


def test_the_default_steps_come_independently() -> None:
    """Whether a slice is blurred says nothing about whether it is moved."""
    image, label = sample()
    augment = augmentation("default")
    results = [augment(image, label, seed) for seed in range(400)]
    moved = np.array([not np.array_equal(result[1], label) for result in results])
    darker = np.array(
        [not np.isclose(np.median(r[0]), np.median(image), atol=0.05) for r in results]
    )
    together = (moved & darker).mean()
    assert 0.5 < moved.mean() < 0.95
    assert 0.2 < darker.mean() < 0.95
    assert together == pytest.approx(moved.mean() * darker.mean(), abs=0.08)
