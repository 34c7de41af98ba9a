"""What the images of a data set say about its intensity and geometry options."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np

from datasets.cases import few
from datasets.facts import PERCENTILES, Array, Channel, ImageFacts
from datasets.fingerprint import short
from datasets.problems import Problem, Severity
from datasets.survey import Survey

# The smallest Hounsfield unit that scanners store; what is below is padding or resampling.
LOWEST_HU = -1024
# Where no body part has all its voxels: fat is below.
FAT_HU = -50
LARGE_INTENSITY = 10_000
# From these ratios on, intensities or spacings are said to differ.
SCALE_RATIO, SPACING_RATIO, THICKNESS_RATIO = 10.0, 2.0, 2.0
FEW_IN_WINDOW = 0.01
MUCH_PADDING = 0.005

# Kind, severity, message and fix of a problem of one channel.
Finding = tuple[str, Severity, str, str]


def intensity_problems(survey: Survey) -> Iterator[Problem]:
    """Yield constant images, values that do not fit the window, and scales that differ."""
    for name, image in survey.images.items():
        for index, channel in enumerate(image.channels):
            where = f"channel {index}: " if len(image.channels) > 1 else ""
            for kind, severity, message, fix in _channel_findings(survey, channel, index):
                file = str(survey.image_path(name))
                yield Problem(kind, severity, name, file, where + message, fix)
    for index, title in enumerate(survey.dataset.channels):
        channels = {
            name: image.channels[index]
            for name, image in survey.images.items()
            if index < len(image.channels)
        }
        yield from _large_intensities(survey, title, channels)
        yield from _different_scales(survey, title, channels)


def _channel_findings(survey: Survey, channel: Channel, index: int) -> Iterator[Finding]:
    if channel.minimum == channel.maximum:
        message = f"all voxels are {channel.minimum:g}"
        yield "constant image", "warning", message, "Export it again, or leave the case out."
        return
    window = survey.config.window if survey.config.intensity == "window" else None
    if window is not None:
        yield from _window_findings(channel, window)
    if _is_ct(survey, index):
        yield from _padding_findings(channel, is_clipped=window is not None)


def _window_findings(channel: Channel, window: tuple[float, float]) -> Iterator[Finding]:
    """Yield values of which the window leaves nothing, or that are no HU where it expects them."""
    low, high = window
    share = float(np.mean((channel.sample > low) & (channel.sample < high)))
    values = f"the values run from {channel.minimum:g} to {channel.maximum:g}"
    if share < FEW_IN_WINDOW:
        message = f"{share:.1%} of the voxels lie in data.window [{low:g}, {high:g}]; {values}"
        fix = "Give the window in this image's units, or take data.intensity zscore."
        yield "outside the window", "warning", message, fix
    elif low < FAT_HU <= channel.minimum:
        message = f"no value is below {FAT_HU}, where air and fat are in Hounsfield units; {values}"
        fix = "Apply the rescale intercept (often -1024), or take data.intensity zscore."
        yield "not in Hounsfield units", "warning", message, fix


def _padding_findings(channel: Channel, *, is_clipped: bool) -> Iterator[Finding]:
    """Yield what lies below the smallest Hounsfield unit."""
    if channel.minimum >= LOWEST_HU:
        return
    share = float(np.mean(channel.sample < LOWEST_HU))
    message = (
        f"{share:.1%} of the voxels are below {LOWEST_HU} HU, down to {channel.minimum:g}: padding"
        " or resampling"
    )
    if is_clipped:
        yield "below Hounsfield units", "info", message, "Nothing: data.window clips it."
        return
    severity: Severity = "warning" if share > MUCH_PADDING else "info"
    fix = "Take data.intensity window: padding moves the percentiles and the mean."
    yield "below Hounsfield units", severity, message, fix


def _is_ct(survey: Survey, index: int) -> bool:
    """Tell whether a channel holds Hounsfield units, by its name or by a window for them."""
    titles = survey.dataset.channels
    is_named = index < len(titles) and titles[index].strip().upper() == "CT"
    window = survey.config.window if survey.config.intensity == "window" else None
    return is_named or (window is not None and window[0] < 0)


def _large_intensities(
    survey: Survey, title: str, channels: Mapping[str, Channel]
) -> Iterator[Problem]:
    large = [name for name, channel in channels.items() if channel.maximum > LARGE_INTENSITY]
    if not large:
        return
    largest = max(large, key=lambda name: channels[name].maximum)
    message = (
        f"{title}: the maximum is above {LARGE_INTENSITY:,} in {len(large)} of {len(channels)} "
        f"images, {short(channels[largest].maximum)} in {largest} ({few(large)})"
    )
    yield _of_the_scale(survey, "large intensities", message)


def _different_scales(
    survey: Survey, title: str, channels: Mapping[str, Channel]
) -> Iterator[Problem]:
    """Yield that the ranges of the images differ by a factor which no single window can fit."""
    spans = {
        name: channel.percentiles[-1] - channel.percentiles[0]
        for name, channel in channels.items()
        if channel.percentiles and channel.percentiles[-1] > channel.percentiles[0]
    }
    if not spans:
        return
    narrow, wide = min(spans, key=lambda name: spans[name]), max(spans, key=lambda n: spans[n])
    ratio = spans[wide] / spans[narrow]
    if ratio >= SCALE_RATIO:
        message = (
            f"{title}: the range of {PERCENTILES[0]:g} to {PERCENTILES[-1]:g} % of the voxels "
            f"differs {ratio:,.0f}-fold: {short(spans[narrow])} in {narrow}, {short(spans[wide])} "
            f"in {wide}"
        )
        yield _of_the_scale(survey, "different intensity scales", message)


def _of_the_scale(survey: Survey, kind: str, message: str) -> Problem:
    if survey.config.intensity == "window":
        fix = "Take data.intensity zscore or percentile: one window cannot fit all."
        return Problem(kind, "warning", "", "", message, fix)
    fix = f"Nothing: data.intensity {survey.config.intensity} measures every volume."
    return Problem(kind, "info", "", "", message, fix)


def geometry_problems(survey: Survey) -> Iterator[Problem]:
    """Yield orientations, spacings and sizes that differ, or that the options do not fit."""
    yield from _mixed_orientations(survey)
    yield from _missing_spacing(survey)
    yield from _unusual_spacing(survey)
    yield from _thick_axis(survey)
    yield from _small_slices(survey)
    yield from _single_slices(survey)


def _mixed_orientations(survey: Survey) -> Iterator[Problem]:
    counts = Counter(image.codes for image in survey.images.values() if image.has_spacing)
    if len(counts) > 1:
        listed = ", ".join(f"{codes} ({count})" for codes, count in counts.most_common(8))
        message = f"the files' axes run in {len(counts)} directions: {listed}"
        fix = "Nothing: every volume is turned to the same orientation, and results are turned back"
        yield Problem("mixed orientation", "info", "", "", message, f"{fix}.")


def _missing_spacing(survey: Survey) -> Iterator[Problem]:
    count = sum(not image.has_spacing for image in survey.images.values())
    if count:
        message = f"{count} of {len(survey.images)} images have no voxel size"
        fix = "Distances in mm will be missing from the scores; convert to NIfTI to have them."
        yield Problem("no voxel size", "info", "", "", message, fix)


def _unusual_spacing(survey: Survey) -> Iterator[Problem]:
    """Yield the images whose voxels are far larger or smaller than the median image's."""
    plane = survey.plane
    spacings = {
        name: image.working(plane)[1] for name, image in survey.images.items() if image.has_spacing
    }
    if not spacings:
        return
    median = np.median(list(spacings.values()), axis=0)
    for name, spacing in spacings.items():
        ratio = float(np.maximum(spacing / median, median / spacing).max())
        if ratio > SPACING_RATIO:
            message = (
                f"rows, columns and slices are {_millimetres(spacing)} apart, in the median image "
                f"{_millimetres(median)}"
            )
            fix = "Check the header; with data.fit crop, data.spacing_mm evens out rows and columns"
            file = str(survey.image_path(name))
            yield Problem("unusual spacing", "warning", name, file, message, f"{fix}.")


def _thick_axis(survey: Survey) -> Iterator[Problem]:
    """Yield that the slices are cut along the axis that has few, thick slices."""
    working = [image.working(survey.plane) for image in survey.images.values() if image.has_spacing]
    spacings = [spacing for size, spacing in working if size.min() > 1]
    if not spacings:
        return
    rows, columns, slices = np.median(spacings, axis=0)
    if max(rows, columns) >= THICKNESS_RATIO * slices:
        message = (
            f"{survey.plane} slices have pixels of {rows:.3g} x {columns:.3g} mm and lie "
            f"{slices:.3g} mm apart: the thick slices of the scan run another way"
        )
        fix = "Take data.plane auto, unless this is meant."
        yield Problem("plane across thin slices", "warning", "", "data.plane", message, fix)


def _small_slices(survey: Survey) -> Iterator[Problem]:
    """Yield that crops are larger than slices, the rest of which repeats the edges."""
    config = survey.config
    if config.fit != "crop":
        return
    sizes = np.array([input_size(survey, image) for image in survey.images.values()])
    wanted = np.array(config.image_size)
    count = int((sizes < wanted).any(axis=1).sum()) if len(sizes) else 0
    if count:
        share = np.median(np.minimum(sizes, wanted).prod(axis=1)) / wanted.prod()
        height, width = np.median(sizes, axis=0)
        message = (
            f"{count} of {len(sizes)} images have slices smaller than data.image_size "
            f"{wanted[0]} x {wanted[1]}, {height:.0f} x {width:.0f} in the median: "
            f"{1 - share:.0%} of a crop repeats the edges"
        )
        severity: Severity = "warning" if share < 1 / 2 else "info"
        fix = "Take a smaller data.image_size, unless whole slices are meant."
        yield Problem("slices smaller than the crop", severity, "", "data.image_size", message, fix)


def input_size(survey: Survey, image: ImageFacts) -> Array:
    """Return height and width of a slice before it is cropped, as preprocessing makes it."""
    size, spacing = image.working(survey.plane)
    if survey.config.spacing_mm is None:
        return size[:2]
    return np.maximum(1, np.rint(size[:2] * spacing[:2] / survey.config.spacing_mm)).astype(int)


def _single_slices(survey: Survey) -> Iterator[Problem]:
    if survey.config.context_slices == 1:
        return
    for name, image in survey.images.items():
        if image.working(survey.plane)[0][2] == 1:
            message = f"a single {survey.plane} slice has no neighbours to feed as context"
            fix = "Set data.context_slices to 1, or data.plane to the plane of the slice."
            file = str(survey.image_path(name))
            yield Problem("single slice", "warning", name, file, message, fix)


def _millimetres(values: Array) -> str:
    return " x ".join(f"{value:.3g}" for value in values) + " mm"
