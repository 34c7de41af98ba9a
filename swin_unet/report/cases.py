"""One case from its files to what the page shows of it: pictures, volumes, where things are."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nibabel.orientations import aff2axcodes

from swin_unet.report.encoding import Stack, encode, intensity_table

if TYPE_CHECKING:
    import numpy as np

    from swin_unet.imaging import Volume

# Intensities are judged by a sample of about this many voxels.
_SAMPLE_SIZE = 1_000_000
_HU_PRESETS = {
    "Abdomen": (-160, 240),
    "Lung": (-1350, 150),
    "Bone": (-500, 1300),
    "Brain": (0, 80),
    "Liver": (-20, 180),
}
_PERCENTILE_PRESETS = {
    "0.5 to 99.5 %": (0.5, 99.5),
    "2 to 98 %": (2, 98),
    "10 to 99.9 %": (10, 99.9),
}


@dataclass(frozen=True)
class ReportCase:
    """A case and where its files are.

    Attributes:
        name: What to call it.
        image_paths: One file, or one per channel, of which the first is shown.
        prediction_path: The label map that was predicted.
        label_path: The reference label map.
        metrics: Record per class name, as in metrics.json.
        statistics: Record per class name, as in statistics.csv.
        error: Why there is no prediction; nothing else is shown then.
    """

    name: str
    image_paths: Sequence[Path] = ()
    prediction_path: Path | None = None
    label_path: Path | None = None
    metrics: Mapping[str, Mapping[str, Any]] | None = None
    statistics: Mapping[str, Mapping[str, Any]] | None = None
    error: str | None = None


@dataclass(frozen=True)
class Shown:
    """How to show the cases.

    Attributes:
        classes: Names of label values; other values are shown by their number.
        window: (low, high) that the network saw, in the image's units; None: by percentiles.
    """

    classes: Mapping[int, str]
    window: tuple[float, float] | None = None


def read_case(case: ReportCase, shown: Shown, budget: int) -> dict[str, Any]:
    """Read the files of a case and encode them in at most `budget` bytes.

    Raises:
        UserError: When a file cannot be read or the files do not lie on one grid.
    """
    from swin_unet.imaging import read_image, read_labels

    assert case.prediction_path is not None
    image = read_image(case.image_paths)
    label_maps = [read_labels(case.prediction_path, like=image)]
    if case.label_path is not None:
        label_maps.append(read_labels(case.label_path, like=image))
    return describe_case(image, label_maps, shown, budget)


def describe_case(
    image: Volume, label_maps: Sequence[Volume], shown: Shown, budget: int
) -> dict[str, Any]:
    """Return all that the viewer needs of a case: prediction first, then the reference if any."""
    stack, axes = _display_stack(image, label_maps)
    sample = _sample(stack.image)
    table, is_hu = intensity_table(sample)
    spacing_mm = [stack.spacing_mm[axis] for axis in (2, 0, 1)]
    encoded = encode(stack, table, budget)
    return {
        **encoded,
        "full_size": [stack.image.shape[axis] for axis in (2, 0, 1)],
        "spacing_mm": [
            spacing * factor for spacing, factor in zip(spacing_mm, encoded["factors"], strict=True)
        ],
        "has_spacing": image.has_spacing,
        "num_channels": image.num_channels,
        "file_axes": axes,
        "table": [float(f"{value:.8g}") for value in table],
        "is_hu": is_hu,
        "windows": _windows(sample, is_hu, shown.window),
        "volumes": _volumes(image, label_maps, shown.classes),
    }


def _display_stack(
    image: Volume, label_maps: Sequence[Volume]
) -> tuple[Stack, list[dict[str, Any]]]:
    """Turn a case to display orientation, and say which file axis became what.

    Returns:
        The stack, and for slices, rows and columns the file's axis and whether it was reversed.
    """
    from swin_unet.imaging.orientation import WORKING_CODES, axis_order, reorient_array

    source, target = "".join(aff2axcodes(image.affine)), WORKING_CODES["axial"]
    channel = image.array[..., 0] if image.array.ndim == 4 else image.array
    order = axis_order(source, target)
    rows_mm, columns_mm, slices_mm = (image.spacing_mm[axis] for axis in order)
    stack = Stack(
        reorient_array(channel, source, target),
        tuple(reorient_array(labels.array, source, target) for labels in label_maps),
        (rows_mm, columns_mm, slices_mm),
    )
    axes = [
        {"axis": int(order[place]), "reversed": source[order[place]] != target[place]}
        for place in (2, 0, 1)
    ]
    return stack, axes


def _sample(voxels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Thin out all axes until about _SAMPLE_SIZE voxels are left."""
    step = max(1, round((voxels.size / _SAMPLE_SIZE) ** (1 / 3)))
    return voxels[::step, ::step, ::step]


def _windows(
    sample: np.ndarray[Any, Any], is_hu: bool, network: tuple[float, float] | None
) -> list[dict[str, Any]]:
    """List the presets of the display window, the one to start with first."""
    import numpy as np

    windows: dict[str, tuple[float, float]] = {}
    if network is not None:
        windows["As the network sees it"] = network
    if is_hu:
        windows |= _HU_PRESETS
    for name, percentiles in _PERCENTILE_PRESETS.items():
        low, high = np.percentile(sample, percentiles)
        windows[name] = float(low), float(high)
    windows["Everything"] = float(sample.min()), float(sample.max())
    return [
        {"name": name, "low": low, "high": high if high > low else low + 1}
        for name, (low, high) in windows.items()
    ]


def _volumes(
    image: Volume, label_maps: Sequence[Volume], classes: Mapping[int, str]
) -> list[dict[str, Any]]:
    """Measure every class at full resolution: predicted, reference and common volume."""
    import numpy as np

    voxel_ml = float(np.prod(image.spacing_mm)) / 1000 if image.has_spacing else None
    counts = _count_voxels([labels.array for labels in label_maps])
    present = [np.flatnonzero(count).tolist() for count in counts]
    return [
        {
            "value": value,
            "name": classes.get(value, str(value)),
            "voxels": [int(count[value]) if value < len(count) else 0 for count in counts],
            "voxel_ml": voxel_ml,
        }
        for value in sorted({*classes, *itertools.chain(*present)} - {0})
    ]


def _count_voxels(arrays: Sequence[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    """Count the voxels of every value in each array and, of two arrays, in both at once."""
    import numpy as np

    length = 1 + max(int(array.max()) for array in arrays)
    counts = [np.zeros(length, np.int64) for _ in range(len(arrays) * 2 - 1)]
    for slices in zip(*(np.moveaxis(array, -1, 0) for array in arrays), strict=True):
        for count, labels in zip(counts, slices, strict=False):
            count += np.bincount(labels.ravel(), minlength=length)
        if len(slices) == 2:
            common = slices[0][slices[0] == slices[1]]
            counts[2] += np.bincount(common, minlength=length)
    return counts
