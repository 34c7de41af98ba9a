"""Describe label maps: arrays in, plain records out, one per class; statistics.csv.

| key                        | meaning                                                          |
|----------------------------|------------------------------------------------------------------|
| `num_voxels`, `volume_ml`  | size                                                             |
| `mean_intensity`           | of the image's voxels in the class, in the image's units         |
| `std_intensity`            | their standard deviation (of the population)                     |
| `components`               | parts that do not touch, not even at a corner                    |
| `largest_component_share`  | of the voxels                                                    |
| `touches_border`           | whether it reaches the edge of the volume: it may be cut off;    |
|                            | across a single slice nothing does                               |
| `first_x` ... `last_z`     | bounding box: voxel indices in the file's axes, from 0, inclusive|
| `size_x_mm` ... `size_z_mm`| edges of the bounding box                                        |

For images with several channels `mean_intensity_1`, `std_intensity_1`, ... follow for the second
channel and so on. None is undefined: of an absent class all but the sizes, and everything in mm or
mL where the voxel size is unknown.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from swin_unet.files import atomic_path

Array = np.ndarray[Any, Any]
Record = dict[str, Any]
Box = tuple[slice, ...]
AXES = ("x", "y", "z")


def describe_labels(
    labels: Array,
    image: Array,
    spacing_mm: Sequence[float] | None,
    classes: Mapping[int, str],
) -> dict[str, Record]:
    """Describe every class of a label map.

    Args:
        labels: (X, Y, Z), 0 is background.
        image: Voxels of the same shape, or (X, Y, Z, C) for several channels.
        spacing_mm: Voxel size along each axis; None: unknown.
        classes: Names of label values.

    Returns:
        A record per class name.
    """
    from scipy import ndimage

    assert image.shape[:3] == labels.shape
    channels = image if image.ndim == 4 else image[..., None]
    boxes = dict(enumerate(ndimage.find_objects(labels, max(classes, default=0)), start=1))
    return {
        name: _describe_class(labels, channels, boxes.get(value), value, spacing_mm)
        for value, name in classes.items()
    }


def _describe_class(
    labels: Array,
    channels: Array,
    box: Box | None,
    value: int,
    spacing_mm: Sequence[float] | None,
) -> Record:
    """Describe the class of one value, which lies in `box`, if anywhere."""
    mask = labels[box] == value if box is not None else np.zeros((0, 0, 0), bool)
    num_voxels = int(np.count_nonzero(mask))
    voxel_ml = None if spacing_mm is None else float(np.prod(spacing_mm)) / 1000
    record: Record = {
        "num_voxels": num_voxels,
        "volume_ml": None if voxel_ml is None else num_voxels * voxel_ml,
    }
    for channel in range(channels.shape[3]):
        suffix = f"_{channel}" if channel else ""
        voxels = channels[..., channel][box][mask] if box is not None else None
        record[f"mean_intensity{suffix}"] = _mean(voxels)
        record[f"std_intensity{suffix}"] = _deviation(voxels)
    return record | _describe_parts(mask) | _describe_box(box, labels.shape, spacing_mm)


def _mean(voxels: Array | None) -> float | None:
    return None if voxels is None else float(voxels.mean(dtype=np.float64))


def _deviation(voxels: Array | None) -> float | None:
    return None if voxels is None else float(voxels.std(dtype=np.float64))


def _describe_parts(mask: Array) -> Record:
    """Count the connected components of a mask; voxels are connected by faces, edges, corners."""
    from scipy import ndimage

    if mask.size == 0:
        return {"components": 0, "largest_component_share": None}
    parts, num_parts = ndimage.label(mask, structure=np.ones((3, 3, 3), bool))
    sizes = np.bincount(parts[mask])
    share = float(sizes.max() / sizes.sum())
    return {"components": int(num_parts), "largest_component_share": share}


def _describe_box(
    box: Box | None, shape: Sequence[int], spacing_mm: Sequence[float] | None
) -> Record:
    """Say where the bounding box is and how large."""
    if box is None:
        keys = [f"{end}_{axis}" for axis in AXES for end in ("first", "last")]
        keys += [f"size_{axis}_mm" for axis in AXES]
        return dict.fromkeys(["touches_border", *keys])
    ends = [(part.start, part.stop - 1) for part in box]
    sizes: Sequence[float | None] = [None] * 3
    if spacing_mm is not None:
        sizes = [
            (1 + last - first) * mm for (first, last), mm in zip(ends, spacing_mm, strict=True)
        ]
    return {
        "touches_border": any(
            size > 1 and (first == 0 or last == size - 1)
            for (first, last), size in zip(ends, shape, strict=True)
        ),
        **{
            f"{name}_{axis}": index
            for axis, pair in zip(AXES, ends, strict=True)
            for name, index in zip(("first", "last"), pair, strict=True)
        },
        **{f"size_{axis}_mm": size for axis, size in zip(AXES, sizes, strict=True)},
    }


def write_statistics(path: Path, cases: Iterable[Mapping[str, Any]]) -> None:
    """Write one line per case and class.

    Args:
        path: A .csv file; replaced if it exists.
        cases: One {"case": name, "statistics": {class name: record}} each.

    Raises:
        UserError: When the file cannot be written.
    """
    rows = [
        {"case": case["case"], "class": name, **record}
        for case in cases
        for name, record in case["statistics"].items()
    ]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with (
        atomic_path(path) as temporary,
        temporary.open("w", newline="", encoding="utf8") as file,
    ):
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
