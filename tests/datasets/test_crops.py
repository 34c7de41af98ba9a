import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from datasets.crops import JITTER, choose_crop, inside

SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40))


@given(slice_size=SIZES, size=SIZES, seed=st.integers(0, 1000), is_drawn=st.booleans())
def test_crops_lie_inside_or_in_the_middle(
    slice_size: tuple[int, int], size: tuple[int, int], seed: int, is_drawn: bool
) -> None:
    random = np.random.default_rng(seed)
    pixels = np.column_stack([random.integers(0, side, 5) for side in slice_size])
    corner = choose_crop(slice_size, size, pixels if is_drawn else None, random)
    for place, have, wanted in zip(corner, slice_size, size, strict=True):
        if have >= wanted:
            assert 0 <= place <= have - wanted
        else:
            before, after = -place, place + wanted - have
            assert 0 <= after - before <= 1


def test_all_places_come() -> None:
    random = np.random.default_rng(0)
    places = {choose_crop((6, 5), (4, 5), None, random) for _ in range(100)}
    assert places == {(0, 0), (1, 0), (2, 0)}


def test_a_crop_lies_around_one_of_the_pixels() -> None:
    random = np.random.default_rng(0)
    pixels = np.array([(50, 20), (30, 70)])
    crops = [choose_crop((100, 100), (24, 36), pixels, random) for _ in range(400)]
    middles = np.array(crops) + np.array([12, 18])
    offsets = middles[:, None] - pixels
    nearest = np.abs(offsets).sum(axis=2).argmin(axis=1)
    assert 140 < nearest.sum() < 260  # both are as likely
    jitter = offsets[np.arange(400), nearest]
    assert np.abs(jitter).max(axis=0).tolist() == [24 // JITTER, 36 // JITTER]


def test_a_pixel_in_a_corner_is_in_its_crop() -> None:
    for seed in range(30):
        random = np.random.default_rng(seed)
        assert choose_crop((50, 60), (10, 20), np.array([(0, 59)]), random) == (0, 40)


@given(start=st.integers(-30, 30), length=st.integers(1, 90), size=st.integers(1, 40))
def test_inside_and_missing_make_up_the_length(start: int, length: int, size: int) -> None:
    if start >= size or start + length <= 0:
        return
    span, before, after = inside(start, length, size)
    wanted = range(start, start + length)
    assert list(range(size))[span] == [place for place in wanted if 0 <= place < size]
    assert before == sum(place < 0 for place in wanted)
    assert after == sum(place >= size for place in wanted)
