import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.augment import AUGMENTATIONS, Augmentation, build_augmentation
from swin_unet.config import DataConfig, UserError
from swin_unet.imaging.flips import Flip

SIZE = (48, 48)
FLIPS = (Flip(0), Flip(1, ((1, 2),)))
CLASSES = {1: "left_kidney", 2: "right_kidney"}
Array = np.ndarray[Any, Any]


def sample(channels: int = 1, low: float = -2.0, high: float = 3.0) -> tuple[Array, Array]:
    """Return a bright ellipse, off centre, on a noisy ground, and its label."""
    rows, columns = np.mgrid[:48, :48]
    label = ((rows - 20) ** 2 / 90 + (columns - 28) ** 2 / 200 < 1).astype(np.uint8)
    image = 0.2 * np.random.default_rng(0).random((channels, 48, 48)) + 0.6 * label
    lows, highs = (f(image, axis=(1, 2), keepdims=True) for f in (np.min, np.max))
    image = (image - lows) / (highs - lows) * (high - low) + low
    return image.astype(np.float32), label


def build(name: Any, size: tuple[int, int] = SIZE, **options: Any) -> Augmentation | None:
    config = DataConfig(augmentation=name, image_size=size, **options)
    return build_augmentation(config, "axial", CLASSES)


def test_the_configuration_chooses_the_recipe() -> None:
    assert set(AUGMENTATIONS) == {"paper", "default", "none"}
    assert build("none") is None
    for name in ("paper", "default"):
        recipe = build(name)
        assert recipe is not None
        assert (recipe.name, recipe.size, recipe.flips) == (name, SIZE, ())
    flipping = build("default", flip_axes=["anterior_posterior", "left_right"])
    assert flipping is not None
    assert flipping.flips == FLIPS


def test_the_papers_recipe_needs_square_slices() -> None:
    with pytest.raises(UserError, match=r"a square data\.image_size.*\(20, 24\)"):
        build("paper", (20, 24))
    assert build("default", (20, 24)) is not None


@pytest.mark.parametrize("name", ["paper", "default"])
@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), channels=st.sampled_from([1, 3, 5, 12]))
def test_shape_type_range_and_label_values_stay(name: str, seed: int, channels: int) -> None:
    image, label = sample(channels)
    before = image.copy(), label.copy()
    flips = FLIPS if name == "default" else ()
    new_image, new_label = Augmentation(name, SIZE, flips)(image, label, seed)
    assert (new_image.shape, new_image.dtype) == (image.shape, np.float32)
    assert (new_label.shape, new_label.dtype) == (label.shape, np.uint8)
    assert new_image.min() >= -2 - 1e-5
    assert new_image.max() <= 3 + 1e-5
    assert set(np.unique(new_label)) <= ({0, 1, 2} if flips else {0, 1})
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(label, before[1])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("name", ["paper", "default"])
def test_no_label_value_is_invented(name: str, dtype: Any) -> None:
    """Values far apart: what interpolates would come to others between them."""
    values = np.array([0, 7, 90, 255 if dtype == np.uint8 else 60000], dtype)
    label = values[np.random.default_rng(0).integers(0, 4, (12, 12))].repeat(4, 0).repeat(4, 1)
    recipe = Augmentation(name, SIZE)
    found = [recipe(sample()[0], label, seed)[1] for seed in range(60)]
    assert {result.dtype for result in found} == {np.dtype(dtype)}
    assert np.unique(found).tolist() == values.tolist()


def test_each_channel_keeps_its_own_range() -> None:
    """Modalities of other scales and a constant channel do not disturb each other."""
    image, label = sample(3)
    image[1] = image[1] * 1000 + 500
    image[2] = -7
    recipe = Augmentation("default", SIZE, FLIPS)
    for seed in range(60):
        result, _ = recipe(image, label, seed)
        for channel, new in zip(image, result, strict=True):
            margin = 1e-5 * max(1, np.ptp(channel))
            assert channel.min() - margin <= new.min() <= new.max() <= channel.max() + margin
        assert np.ptp(result[0]) > 1
        assert np.ptp(result[1]) > 1000


@pytest.mark.parametrize("name", ["paper", "default"])
def test_the_same_seed_gives_the_same_sample_in_any_order(name: str) -> None:
    image, label = sample()
    first = Augmentation(name, SIZE)
    forward = [first(image, label, seed) for seed in range(20)]
    second = pickle.loads(pickle.dumps(first))
    backward = [second(image, label, seed) for seed in reversed(range(20))][::-1]
    for one, other in zip(forward, backward, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])


@pytest.mark.parametrize(("name", "flips"), [("paper", ()), ("default", ()), ("default", FLIPS)])
def test_image_and_label_move_together(name: str, flips: tuple[Flip, ...]) -> None:
    """The image is the label's pattern: bright where it is labelled, whatever happened."""
    _, label = sample()
    image = label[None].astype(np.float32) * 5 - 2
    recipe = Augmentation(name, SIZE, flips)
    differing = []
    for seed in range(100):
        new_image, new_label = recipe(image, label, seed)
        bright = new_image[0] > 0.5 * (new_image.min() + new_image.max())
        differing.append((bright != (new_label > 0)).mean())
    assert np.median(differing) < 0.005
    assert np.quantile(differing, 0.9) < 0.03  # a hole is cut out of some images, not the labels


def test_context_is_what_is_shifted_in() -> None:
    """A picture with more around it gives the same middle, and real pixels at the border."""
    large = np.random.default_rng(0).random((1, 60, 40)).astype(np.float32)
    label = np.arange(60 * 40, dtype=np.uint16).reshape(60, 40)
    recipe = Augmentation("default", (40, 26))
    assert recipe.context == (10, 6)
    rows, columns = recipe.context
    padded = np.pad(label, [(0, 0), (0, 0)])[: 40 + 2 * rows, 1 : 1 + 26 + 2 * columns]
    image = large[:, : 40 + 2 * rows, 1 : 1 + 26 + 2 * columns]
    num_identical, outside = 0, 0
    inner = padded[rows:-rows, columns:-columns]
    for seed in range(100):
        result, new_label = recipe(image, padded, seed)
        assert result.shape == (1, 40, 26)
        num_identical += np.array_equal(new_label, inner)
        outside += not np.isin(new_label, inner).all()
    assert num_identical > 5  # not moved: exactly the middle
    assert outside > 30  # moved: what lies around it
    assert Augmentation("paper", SIZE).context == (0, 0)


def test_a_constant_slice_stays_finite() -> None:
    for name in ("paper", "default"):
        recipe = Augmentation(name, (16, 16))
        for seed in range(20):
            image = np.full((1, 16, 16), -1.5, np.float32)
            result, _ = recipe(image, np.zeros((16, 16), np.uint8), seed)
            np.testing.assert_array_equal(result, image)


def test_the_papers_recipe_turns_half_of_the_slices() -> None:
    image, label = sample()
    augment = Augmentation("paper", SIZE)
    turns = {
        np.rot90(flipped, k).tobytes()
        for flipped in (image[0], image[0, :, ::-1])
        for k in range(4)
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


def two_kidneys() -> tuple[Array, Array]:
    """Return a slice with the right kidney, dark, on the left and the left one on the right."""
    rows, columns = np.mgrid[:48, :48]
    label = (((rows - 24) ** 2 + (columns - 12) ** 2 < 30) * 2).astype(np.uint8)
    label[(rows - 24) ** 2 + (columns - 36) ** 2 < 30] = 1
    return np.array([0, 1, 0.5], np.float32)[label][None], label


@pytest.mark.parametrize("flips", [(), FLIPS])
def test_the_default_recipe_never_moves_a_class_to_the_other_side(flips: tuple[Flip, ...]) -> None:
    """Flipped or not, the right kidney is what lies on the left of the picture."""
    image, label = two_kidneys()
    recipe = Augmentation("default", SIZE, flips)
    num_flipped = 0
    for seed in range(200):
        result, new_label = recipe(image, label, seed)
        right, left = (np.argwhere(new_label == value)[:, 1] for value in (2, 1))
        assert right.mean() < left.mean()
        brightness = [result[0][new_label == value].mean() for value in (2, 1)]
        num_flipped += brightness[0] > brightness[1]
    assert num_flipped == (0 if not flips else pytest.approx(100, abs=25))


def test_small_structures_mostly_survive() -> None:
    """A hippocampus in a crop: the label stays between 0.7 and 1.4 times as long."""
    label = np.zeros((96, 72), np.uint8)
    label[40:60, 30:38], label[60:70, 32:40] = 1, 2
    image = label[None].astype(np.float32)
    recipe = Augmentation("default", (64, 48))
    counts = np.array([np.bincount(recipe(image, label, s)[1].ravel()) for s in range(200)])
    ratios = counts[:, 1:] / [160, 80]
    assert ratios.min() > 0.4
    assert ratios.max() < 2.5
    assert np.median(ratios) == pytest.approx(1, abs=0.05)


def test_the_default_steps_come_independently() -> None:
    """Whether a slice is made darker says nothing about whether it is moved."""
    image, label = sample()
    augment = Augmentation("default", SIZE)
    results = [augment(image, label, seed) for seed in range(400)]
    moved = np.array([not np.array_equal(result[1], label) for result in results])
    darker = np.array(
        [not np.isclose(np.median(r[0]), np.median(image), atol=0.05) for r in results]
    )
    together = (moved & darker).mean()
    assert 0.5 < moved.mean() < 0.95
    assert 0.2 < darker.mean() < 0.95
    assert together == pytest.approx(moved.mean() * darker.mean(), abs=0.08)
