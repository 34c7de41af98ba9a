"""A data set in numbers: `python -m datasets.fingerprint --config X`, or with datasets.check.

Only the training cases count, so that nothing chosen by these numbers has seen a test case.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from datasets.facts import PERCENTILES, Array, ImageFacts
from datasets.problems import align_columns
from datasets.survey import Survey

if TYPE_CHECKING:
    from datasets.check_report import Report

AXES = ("rows", "columns", "slices")
MM3_PER_ML = 1000.0


def fingerprint(survey: Survey) -> dict[str, Any]:
    """Summarize the training cases that can be read, as plain numbers, strings and None.

    Returns:
        `cases`, `plane`, `orientations` (counts), `size` and `spacing_mm` of rows, columns and
        slices, `intensity` per channel, `classes`, and `slices` with and without labels.
    """
    names = [name for name in survey.names("train") if name in survey.images]
    images = [survey.images[name] for name in names]
    working = [image.working(survey.plane) for image in images]
    spacings = [
        spacing for image, (_, spacing) in zip(images, working, strict=True) if image.has_spacing
    ]
    return {
        "cases": len(names),
        "plane": survey.plane,
        "orientations": dict(Counter(image.codes for image in images if image.has_spacing)),
        "size": _per_axis([size for size, _ in working]),
        "spacing_mm": _per_axis(spacings),
        "intensity": {
            title: _intensity(images, index) for index, title in enumerate(survey.dataset.channels)
        },
        "classes": _classes(survey, names),
        "slices": _slices(survey, names),
    }


def _per_axis(values: Sequence[Array]) -> dict[str, Any] | None:
    """Return median and range along rows, columns and slices."""
    if not values:
        return None
    return {axis: _range(column) for axis, column in zip(AXES, np.array(values).T, strict=True)}


def _range(values: Iterable[float]) -> dict[str, float]:
    array = np.array(list(values), dtype=np.float64)
    return {
        "median": float(np.median(array)),
        "smallest": float(array.min()),
        "largest": float(array.max()),
    }


def _intensity(images: Sequence[ImageFacts], index: int) -> dict[str, Any]:
    """Return the percentiles of one channel, every case counting the same."""
    channels = [image.channels[index] for image in images if index < len(image.channels)]
    whole = [channel.sample for channel in channels]
    foreground = [channel.foreground for channel in channels if channel.foreground.size]
    return {"whole": _pooled(whole), "foreground": _pooled(foreground)}


def _pooled(samples: Sequence[Array]) -> dict[str, float] | None:
    if not samples:
        return None
    # The cases' samples are of equal size unless a case has fewer voxels than that.
    values = np.percentile(np.concatenate(samples), PERCENTILES)
    return {f"{q:g}": float(value) for q, value in zip(PERCENTILES, values, strict=True)}


def _classes(survey: Survey, names: Sequence[str]) -> dict[str, Any]:
    """Return voxels, share, volume and number of cases and slices of every class."""
    voxels = survey.class_voxels(names)  # (cases, K)
    volumes_ml = _volumes_ml(survey, names)
    slices = _class_slices(survey, names)
    total = max(1, int(voxels.sum()))
    titles = {0: "background", **survey.dataset.classes}
    return {
        title: {
            "voxels": int(voxels[:, value].sum()),
            "share": int(voxels[:, value].sum()) / total,
            "cases": int(np.count_nonzero(voxels[:, value])),
            "slices": int(slices[value]),
            "volume_ml": _range(column) if (column := _present(volumes_ml, value)).size else None,
        }
        for value, title in titles.items()
    }


def _volumes_ml(survey: Survey, names: Sequence[str]) -> Array:
    """Return the volume (cases, K) of every class in the labelled cases with a voxel size."""
    volumes = [np.empty((0, survey.dataset.num_classes))]
    for name in names:
        image, label = survey.images[name], survey.examinations[name].label
        if label is not None and image.has_spacing:
            voxel_ml = float(np.prod(image.header.spacing_mm)) / MM3_PER_ML
            volumes.append(label.voxels[None] * voxel_ml)
    return np.concatenate(volumes)


def _present(volumes_ml: Array, value: int) -> Array:
    column: Array = volumes_ml[:, value]
    return column[column > 0]


def _class_slices(survey: Survey, names: Sequence[str]) -> Array:
    """Return in how many slices (K,) every class occurs."""
    counts = np.zeros(survey.dataset.num_classes, dtype=np.int64)
    for profile in _slice_profiles(survey, names):
        counts += np.count_nonzero(profile, axis=0)
    return counts


def _slice_profiles(survey: Survey, names: Sequence[str]) -> Iterable[Array]:
    """Yield for each labelled case the voxels (S, K) of every class in each slice."""
    for name in names:
        label = survey.examinations[name].label
        if label is not None:
            yield label.profiles[survey.images[name].working_axes(survey.plane)[2]]


def _slices(survey: Survey, names: Sequence[str]) -> dict[str, int]:
    profiles = list(_slice_profiles(survey, names))
    labelled = sum(int(profile[:, 1:].any(axis=1).sum()) for profile in profiles)
    return {"total": sum(len(profile) for profile in profiles), "with_foreground": labelled}


def sideways(survey: Survey) -> dict[str, float]:
    """Say how far to one side each class lies in the training cases.

    Returns:
        Mean distance of its centre from the image's, in widths of the image, patient's right
        positive, by class name; only classes that occur.
    """
    offsets: dict[int, list[float]] = {value: [] for value in survey.dataset.classes}
    for name in survey.names("train"):
        label, image = survey.examinations[name].label, survey.images.get(name)
        if label is not None and image is not None:
            axis = next(i for i, code in enumerate(image.codes) if code in "LR")
            sign = 1.0 if image.codes[axis] == "R" else -1.0
            for value, offset in _offsets(label.profiles[axis]).items():
                offsets[value].append(sign * offset)
    classes = survey.dataset.classes
    return {classes[value]: float(np.mean(found)) for value, found in offsets.items() if found}


def _offsets(profile: Array) -> dict[int, float]:
    """Return the offset of each class's centre from the middle, in widths, from (n, K) counts."""
    places = (np.arange(len(profile)) + 0.5) / len(profile) - 0.5
    totals = profile.sum(axis=0)
    return {
        value: float(places @ profile[:, value]) / float(totals[value])
        for value in range(1, profile.shape[1])
        if totals[value]
    }


def format_fingerprint(content: dict[str, Any]) -> str:
    """Lay a fingerprint out as short tables."""
    blocks = [f"Fingerprint of {content['cases']} training cases, {content['plane']} slices"]
    if content["cases"]:
        blocks += [_format_geometry(content), _format_intensity(content), _format_classes(content)]
        slices = content["slices"]
        blocks.append(f"{slices['with_foreground']} of {slices['total']} slices hold a label.")
    return "\n\n".join(blocks)


def _format_geometry(content: dict[str, Any]) -> str:
    rows = [["", "median", "smallest", "largest"]]
    for axis in AXES:
        rows.append([axis, *(f"{value:g}" for value in content["size"][axis].values())])
    for axis in AXES if content["spacing_mm"] else ():
        values = content["spacing_mm"][axis].values()
        title = "mm between slices" if axis == "slices" else f"mm between {axis}"
        rows.append([title, *(f"{value:.3g}" for value in values)])
    return align_columns(rows)


def _format_intensity(content: dict[str, Any]) -> str:
    rows = [["intensity", *(f"{q:g} %" for q in PERCENTILES)]]
    for title, channel in content["intensity"].items():
        for part, where in (("whole", "all voxels"), ("foreground", "labelled voxels")):
            if channel[part]:
                values = map(short, channel[part].values())
                rows.append([f"{title}, {where}", *values])
    return align_columns(rows)


def short(value: float) -> str:
    """Write a number with four digits or, where it is large, without decimals."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _format_classes(content: dict[str, Any]) -> str:
    rows = [["class", "of all voxels", "cases", "slices", "median mL", "smallest", "largest"]]
    for title, values in content["classes"].items():
        volume = values["volume_ml"]
        millilitres = [f"{volume[key]:.4g}" for key in volume] if volume else ["-"] * 3
        share = f"{values['share']:.3%}"
        rows.append([title, share, str(values["cases"]), str(values["slices"]), *millilitres])
    return align_columns(rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the fingerprint of the data set of a configuration, and what it suggests."""
    from datasets.check import add_options, run_check
    from datasets.check_report import format_overview, format_verdict
    from swin_unet.cli import build_parser, parse_config

    def show(report: Report) -> str:
        return f"{format_overview(report)}\n\n{format_verdict(report)}"

    parser = build_parser("python -m datasets.fingerprint", __doc__ or "")
    add_options(parser)
    config, arguments = parse_config(parser, sys.argv[1:] if argv is None else argv)
    return run_check(config, arguments, show)


if __name__ == "__main__":
    from swin_unet.cli import run

    sys.exit(run(main))
