"""Flips by anatomical direction, and the classes that a flip exchanges."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from swin_unet.config import DataConfig, UserError
from swin_unet.imaging.orientation import WORKING_CODES
from swin_unet.imaging.planes import Plane

# The directions that an axis of a volume can have, by the code of where it runs to.
DIRECTIONS = {
    "left_right": "LR",
    "anterior_posterior": "AP",
    "superior_inferior": "SI",
}
_OTHER_SIDE = {"left": "right", "right": "left"}


@dataclass(frozen=True)
class Flip:
    """One way to mirror a slice.

    Attributes:
        axis: 0 turns it upside down, 1 exchanges its left and right.
        pairs: Label values that it exchanges.
    """

    axis: int
    pairs: tuple[tuple[int, int], ...] = ()


def plan_flips(config: DataConfig, plane: Plane, classes: Mapping[int, str]) -> tuple[Flip, ...]:
    """Say what the flips of the data section do to slices of a plane.

    Args:
        config: The data section.
        plane: Of the slices, `auto` resolved.
        classes: Names of the label values.

    Raises:
        UserError: A flip across the slices, or classes of one side whose partner is unknown.
    """
    directions = tuple(dict.fromkeys(config.flip_axes or ()))
    axes = [_picture_axis(direction, plane) for direction in directions]
    if "left_right" not in directions:
        if config.swap_classes is not None:
            raise UserError(
                "data.swap_classes",
                expected="no value unless data.flip_axes has left_right",
                found=str(config.swap_classes),
                fix="Remove it, or add left_right to data.flip_axes.",
            )
        return tuple(Flip(axis) for axis in axes)
    if config.swap_classes is None:
        pairs = _sided_pairs(classes)
    else:
        pairs = _named_pairs(config.swap_classes, classes)
    return tuple(
        Flip(axis, pairs if direction == "left_right" else ())
        for direction, axis in zip(directions, axes, strict=True)
    )


def _picture_axis(direction: str, plane: Plane) -> int:
    """Return which axis of an upright slice runs in a direction."""
    rows, columns = WORKING_CODES[plane][0], WORKING_CODES[plane][1]
    for axis, code in enumerate((rows, columns)):
        if code in DIRECTIONS[direction]:
            return axis
    possible = [name for name, codes in DIRECTIONS.items() if rows in codes or columns in codes]
    raise UserError(
        "data.flip_axes",
        expected=f"directions within a slice: {' or '.join(possible)} where data.plane is {plane}",
        found=f"{direction}, which runs across the slices",
        fix="Remove it, or choose another data.plane.",
    )


def _sided_pairs(classes: Mapping[int, str]) -> tuple[tuple[int, int], ...]:
    """Pair the classes whose names differ by left and right."""
    values = {_normal(name): value for value, name in classes.items()}
    pairs = []
    for name, value in values.items():
        partner = re.sub("left|right", lambda match: _OTHER_SIDE[match[0]], name)
        if partner == name:
            continue
        if partner not in values:
            raise UserError(
                "data.flip_axes",
                expected="a right class for every left one and the reverse, as a left_right flip "
                "makes one of the other",
                found=f"`{classes[value]}` without a partner",
                fix="Remove left_right, or list the pairs in data.swap_classes: [] when the flip "
                "exchanges no classes.",
            )
        if value < values[partner]:
            pairs.append((value, values[partner]))
    return tuple(pairs)


def _normal(name: str) -> str:
    return re.sub(r"[\W_]+", " ", name.lower())


def _named_pairs(
    pairs: Sequence[tuple[str, str]], classes: Mapping[int, str]
) -> tuple[tuple[int, int], ...]:
    """Look the configured pairs up."""
    values = {name: value for value, name in classes.items()}
    names = [name for pair in pairs for name in pair]
    unknown = [name for name in names if name not in values]
    repeated = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    found = f"unknown {unknown}" if unknown else f"{repeated} more than once"
    if unknown or repeated:
        raise UserError(
            "data.swap_classes",
            expected=f"pairs of different classes of {list(values)}, each class once at most",
            found=found,
            fix="Correct the pairs.",
        )
    return tuple((values[first], values[second]) for first, second in pairs)
