from typing import Any

import numpy as np
import pytest

from swin_unet.config import DataConfig, UserError
from swin_unet.imaging import Preprocessing, Volume
from swin_unet.imaging.flips import Flip, plan_flips

ORGANS = {1: "aorta", 2: "left_kidney", 3: "liver", 4: "right_kidney"}
# Which corner of a RAS volume's axes each direction runs along.
RAS_AXIS = {"left_right": 0, "anterior_posterior": 1, "superior_inferior": 2}


def plan(plane: Any = "axial", classes: dict[int, str] | None = None, **options: Any) -> Any:
    config = DataConfig(augmentation="default", **options)
    return plan_flips(config, plane, ORGANS if classes is None else classes)


ACROSS = {"axial": "superior_inferior", "coronal": "anterior_posterior", "sagittal": "left_right"}


@pytest.mark.parametrize("plane", ACROSS)
@pytest.mark.parametrize("direction", RAS_AXIS)
def test_a_flip_mirrors_the_slices_along_the_anatomical_axis(plane: Any, direction: str) -> None:
    """The oracle flips the volume in space and slices it afterwards."""
    array = np.random.default_rng(0).random((4, 5, 6)).astype(np.float32)
    mirrored = np.ascontiguousarray(np.flip(array, RAS_AXIS[direction]))
    config = DataConfig(plane=plane, fit="crop", intensity="percentile")
    prepare = Preprocessing.from_config(config).prepare
    slices, expected = (prepare(Volume(a, np.eye(4))).voxels[0] for a in (array, mirrored))
    axis = 2 if direction == ACROSS[plane] else plan(plane, flip_axes=[direction])[0].axis
    np.testing.assert_array_equal(np.flip(slices, axis), expected)


@pytest.mark.parametrize("plane", ACROSS)
def test_a_flip_across_the_slices_is_refused(plane: Any) -> None:
    possible = [direction for direction in RAS_AXIS if direction != ACROSS[plane]]
    with pytest.raises(UserError, match=f"{ACROSS[plane]}, which runs across") as caught:
        plan(plane, flip_axes=[ACROSS[plane]])
    assert f"{' or '.join(possible)} where data.plane is {plane}" in str(caught.value)


def test_no_axes_are_no_flips() -> None:
    assert plan() == plan(flip_axes=[]) == ()


def test_a_direction_given_twice_counts_once() -> None:
    assert plan(flip_axes=["anterior_posterior"] * 2) == (Flip(0),)


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (["aorta", "left_kidney", "liver", "right_kidney"], ((2, 4),)),
        (["right lung", "Left-Lung", "left adrenal", "right adrenal"], ((1, 2), (3, 4))),
        (["kidney (left)", "kidney (right)"], ((1, 2),)),
        (["left upper lobe", "left lower lobe", "right upper lobe", "right lower lobe"],
         ((1, 3), (2, 4))),
        (["liver", "spleen"], ()),
    ],
)  # fmt: skip
def test_sides_are_read_from_the_names(names: list[str], pairs: Any) -> None:
    classes = dict(enumerate(names, start=1))
    assert plan(classes=classes, flip_axes=["left_right"]) == (Flip(1, pairs),)
    assert plan(classes=classes, flip_axes=["anterior_posterior"]) == (Flip(0),)


def test_only_the_left_right_flip_exchanges_classes() -> None:
    flips = plan(flip_axes=["anterior_posterior", "left_right"])
    assert flips == (Flip(0), Flip(1, ((2, 4),)))


@pytest.mark.parametrize("name", ["left_ventricle", "Right atrium", "bright spot"])
def test_a_side_without_partner_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"`{name}` without a partner"):
        plan(classes={1: "liver", 2: name}, flip_axes=["left_right"])
    plan(classes={1: "liver", 2: name}, flip_axes=["anterior_posterior"])
    flips = plan(classes={1: "liver", 2: name}, flip_axes=["left_right"], swap_classes=[])
    assert flips == (Flip(1),)


def test_configured_pairs_come_before_the_names() -> None:
    (flip,) = plan(flip_axes=["left_right"], swap_classes=[("liver", "aorta")])
    assert flip.pairs == ((3, 1),)


@pytest.mark.parametrize(
    ("pairs", "found"),
    [
        ([("liver", "spleen")], "unknown ['spleen']"),
        ([("liver", "liver")], "['liver'] more than once"),
        ([("liver", "aorta"), ("aorta", "left_kidney")], "['aorta'] more than once"),
    ],
)
def test_wrong_pairs_are_refused(pairs: Any, found: str) -> None:
    with pytest.raises(UserError) as caught:
        plan(flip_axes=["left_right"], swap_classes=pairs)
    assert str(caught.value).startswith("data.swap_classes: ")
    assert found in str(caught.value)


def test_pairs_without_a_left_right_flip_are_refused() -> None:
    with pytest.raises(UserError, match=r"data\.swap_classes: expected no value unless"):
        plan(flip_axes=["anterior_posterior"], swap_classes=[("liver", "aorta")])
