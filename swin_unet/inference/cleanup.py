"""What label maps are freed from: all but the largest part of a class, and parts too small."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from swin_unet.config import UserError
from swin_unet.imaging import Volume


@dataclass(frozen=True)
class Cleanup:
    """Rules by label value. Voxels that share a face, an edge or a corner are one part.

    Attributes:
        largest: Classes of which only the largest part is kept.
        min_volume_mm3: Smaller parts of these classes are removed, after that.
    """

    largest: frozenset[int] = frozenset()
    min_volume_mm3: Mapping[int, float] = field(default_factory=dict)

    @property
    def is_needed(self) -> bool:
        """False where there is nothing to do."""
        return bool(self.largest or self.min_volume_mm3)

    @classmethod
    def of_classes(
        cls,
        classes: Sequence[str],
        largest: Sequence[str] | None = None,
        min_volume_mm3: Sequence[str] = (),
    ) -> Cleanup:
        """Read the rules as the command line has them.

        Args:
            classes: Names of labels 1, 2, ...
            largest: Names of classes; empty: all; None: none.
            min_volume_mm3: `10` for all classes, or `liver=10`.

        Raises:
            UserError: For an unknown class, or a volume that is no number above 0.
        """
        values = {name: value for value, name in enumerate(classes, start=1)}
        if largest is None:
            chosen: frozenset[int] = frozenset()
        else:
            names = largest or list(classes)
            chosen = frozenset(_find("--largest_component", name, values) for name in names)
        volumes: dict[int, float] = {}
        for text in min_volume_mm3:
            name, _, number = text.rpartition("=")
            volume = _number(text, number)
            if name:
                volumes[_find("--min_volume_mm3", name, values)] = volume
            else:
                volumes |= dict.fromkeys(values.values(), volume)
        return cls(chosen, volumes)

    def describe_largest(self, classes: Sequence[str]) -> list[str]:
        """Name the classes of which only the largest part is kept."""
        return [classes[value - 1] for value in sorted(self.largest)]

    def describe_volumes(self, classes: Sequence[str]) -> dict[str, float]:
        """Return the smallest volume by class name."""
        return {classes[value - 1]: volume for value, volume in self.min_volume_mm3.items()}

    def apply(self, labels: np.ndarray[Any, Any], image: Volume) -> None:
        """Set what is to be removed to 0, in place.

        Args:
            labels: (X, Y, Z) on the grid of the image.
            image: Says how large a voxel is.

        Raises:
            UserError: For volumes in mm3 where the image has no voxel size.
        """
        from scipy import ndimage

        if self.min_volume_mm3 and not image.has_spacing:
            raise UserError(
                image.label,
                expected="a voxel size, for --min_volume_mm3",
                found="none in this format",
                fix="Leave the option out.",
            )
        voxel_mm3 = float(np.prod(image.spacing_mm))
        for value, box in enumerate(ndimage.find_objects(labels), start=1):
            if box is None:
                continue
            smallest = self.min_volume_mm3.get(value, 0.0) / voxel_mm3
            if value in self.largest or smallest > 1:
                part = labels[box]
                part[_removed(part == value, value in self.largest, smallest)] = 0


def _removed(
    mask: np.ndarray[Any, Any], is_largest_only: bool, smallest: float
) -> np.ndarray[Any, Any]:
    """Mark the voxels of a mask to remove; parts of fewer than `smallest` voxels, at least."""
    from scipy import ndimage

    parts, num_parts = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    # slice by slice: bincount converts to int64
    sizes = np.zeros(num_parts + 1, np.int64)
    for part in parts:
        sizes += np.bincount(part.ravel(), minlength=num_parts + 1)
    is_removed = sizes < smallest * (1 - 1e-6)  # spacing comes from float32 headers
    if is_largest_only and num_parts:
        is_removed |= np.arange(len(sizes)) != 1 + sizes[1:].argmax()
    is_removed[0] = False  # the background of the mask
    removed: np.ndarray[Any, Any] = is_removed[parts]
    return removed


def _find(option: str, name: str, values: Mapping[str, int]) -> int:
    if name not in values:
        raise UserError(
            option,
            expected=f"classes of the checkpoint: {', '.join(values)}",
            found=name,
            fix="Correct the name.",
        )
    return values[name]


def _number(text: str, number: str) -> float:
    try:
        value = float(number)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise UserError(
            "--min_volume_mm3",
            expected="a volume in mm3 above 0, for all classes or as CLASS=VOLUME",
            found=text,
            fix="For example --min_volume_mm3 100, or --min_volume_mm3 liver=5000 spleen=500.",
        )
    return value
