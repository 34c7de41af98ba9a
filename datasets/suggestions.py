"""Options that a fingerprint suggests, as lines for a configuration file."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from datasets.fingerprint import AXES, fingerprint, sideways
from datasets.survey import Survey
from swin_unet.config import Config, DataConfig, ModelConfig, UserError
from swin_unet.imaging import thick_plane
from swin_unet.imaging.flips import plan_flips

# Larger slices cost more than most graphics cards have; the paper's 224 is below.
LARGEST_SIDE = 256
WINDOW_STEP = 5
# Neighbouring slices further apart than this many pixels show other anatomy.
FARTHEST_CONTEXT = 3.0
RARE_FOREGROUND = 0.5
FOREGROUND_FRACTION = 0.33
# Lowest and highest value of an image in Hounsfield units, and the air that it shows.
HU_RANGE, AIR_HU = (-4096, 32767), -900
ONE_SIDED = 0.1


@dataclass(frozen=True)
class Suggestion:
    """One option of the data section.

    Attributes:
        option: Its name there.
        value: Plain, as YAML has it.
        reason: Why.
    """

    option: str
    value: Any
    reason: str


@dataclass(frozen=True)
class Suggestions:
    """What the training cases suggest.

    Attributes:
        options: To paste into the data section.
        class_weights: 1 / (share of the voxels), scaled to a mean of 1, by class name; None for
            a class without voxels.
        notes: What a number cannot say.
    """

    options: tuple[Suggestion, ...] = ()
    class_weights: dict[str, float | None] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def suggest(survey: Survey, config: Config) -> Suggestions:
    """Derive options from the training cases.

    Args:
        survey: What was found; without a readable training case there is nothing to suggest.
        config: Its model says which sizes suit it, its `data.fit` what a size is for.
    """
    images = [survey.images[name] for name in survey.names("train") if name in survey.images]
    if not images:
        return Suggestions()
    survey = replace(survey, plane=thick_plane(image.header for image in images))
    content = fingerprint(survey)
    options = (
        *_intensity(survey, content),
        _plane(survey, content),
        Suggestion("fit", config.data.fit, "as configured"),
        _image_size(content, config),
        _context_slices(content),
        _foreground_fraction(content),
    )
    return Suggestions(options, class_weights(content), tuple(_flip_notes(survey, config.data)))


def class_weights(content: dict[str, Any]) -> dict[str, float | None]:
    """Return 1 / (share of the voxels) of every class of a fingerprint, scaled to a mean of 1."""
    inverse = {
        name: 1 / values["share"] if values["share"] else None
        for name, values in content["classes"].items()
    }
    known = [value for value in inverse.values() if value is not None]
    mean = sum(known) / len(known) if known else 1.0
    return {name: None if value is None else value / mean for name, value in inverse.items()}


def format_suggestions(suggestions: Suggestions) -> str:
    """Write the options as YAML to paste, what is no option as comments."""
    lines = ["data:"]
    options = [f"  {item.option}: {_as_yaml(item.value)}" for item in suggestions.options]
    width = max((len(line) for line in options), default=0)
    for line, item in zip(options, suggestions.options, strict=True):
        lines.append(f"{line.ljust(width)}  # {item.reason}")
    lines += [f"  # {note}" for note in suggestions.notes]
    if suggestions.class_weights:
        weights = ", ".join(
            f"{name} {'-' if value is None else f'{value:.3g}'}"
            for name, value in suggestions.class_weights.items()
        )
        lines.append(f"# class weights, 1 / share of the voxels scaled to a mean of 1: {weights}")
    return "\n".join(lines)


def _as_yaml(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _intensity(survey: Survey, content: dict[str, Any]) -> list[Suggestion]:
    """Suggest a window for Hounsfield units, and else what measures every volume."""
    channels = list(content["intensity"].values())
    labelled = channels[0]["foreground"]
    if len(channels) > 1 or not _is_ct(survey):
        reason = "no Hounsfield units: every volume is scaled by what it holds itself"
        return [Suggestion("intensity", "zscore", reason)]
    if labelled is None:
        reason = "no labelled voxel to take a window from"
        return [Suggestion("intensity", "zscore", reason)]
    low, high = math.floor(labelled["0.5"] / WINDOW_STEP), math.ceil(labelled["99.5"] / WINDOW_STEP)
    window = [low * WINDOW_STEP, max(high, low + 1) * WINDOW_STEP]
    return [
        Suggestion("intensity", "window", "Hounsfield units mean the same in every volume"),
        Suggestion("window", window, "0.5 to 99.5 % of the labelled voxels"),
    ]


def _is_ct(survey: Survey) -> bool:
    """Tell whether most training images show air, and nothing that HU cannot be."""
    images = [survey.images[name] for name in survey.names("train") if name in survey.images]
    lowest, highest = HU_RANGE
    fitting = [
        lowest <= image.channels[0].minimum <= AIR_HU and image.channels[0].maximum <= highest
        for image in images
    ]
    return sum(fitting) > len(fitting) / 2


def _plane(survey: Survey, content: dict[str, Any]) -> Suggestion:
    plane = survey.plane
    if not content["spacing_mm"]:
        return Suggestion("plane", plane, "the files hold no voxel size")
    medians = [values["median"] for values in content["spacing_mm"].values()]
    thin, thick = min(medians), max(medians)
    if thick < 1.01 * thin:
        return Suggestion("plane", plane, f"voxels are {thin:.3g} mm wide in all directions")
    return Suggestion("plane", plane, f"across the thick axis, {thick:.3g} against {thin:.3g} mm")


def _image_size(content: dict[str, Any], config: Config) -> Suggestion:
    """Suggest a multiple of the coarsest stride, of its windows too where slices are large."""
    stride, unit = _strides(config.model)
    is_crop = config.data.fit == "crop"
    native = [content["size"][axis]["largest" if is_crop else "median"] for axis in AXES[:2]]
    if is_crop and config.data.spacing_mm is not None and content["spacing_mm"]:
        spacings = [content["spacing_mm"][axis]["median"] for axis in AXES[:2]]
        native = [
            size * spacing / wanted
            for size, spacing, wanted in zip(native, spacings, config.data.spacing_mm, strict=True)
        ]
    size = [_fitting(side, stride, unit) for side in native]
    slices = f"{native[0]:.0f} x {native[1]:.0f}"
    which = "the largest slice is" if is_crop else "the median slice is"
    return Suggestion(
        "image_size", size, f"{which} {slices}; multiples of {stride} suit the network"
    )


def _strides(model: ModelConfig) -> tuple[int, int]:
    """Return the coarsest stride of the network in pixels, and the side of its window there."""
    if model.name != "swin_unet":
        return 32, 32
    stride = model.patch_size * 2 ** (len(model.depths or [2, 2, 2, 2]) - 1)
    window = model.window_size if isinstance(model.window_size, int) else model.window_size[-1]
    return stride, stride * window


def _fitting(side: float, stride: int, unit: int) -> int:
    """Return the multiple of the stride that holds a side; large ones become whole windows."""
    if side <= LARGEST_SIDE or unit > LARGEST_SIDE:
        return max(stride, min(math.ceil(side / stride), LARGEST_SIDE // stride or 1) * stride)
    return LARGEST_SIDE // unit * unit


def _context_slices(content: dict[str, Any]) -> Suggestion:
    if content["size"]["slices"]["median"] == 1:
        return Suggestion("context_slices", 1, "the images are single slices")
    if not content["spacing_mm"]:
        return Suggestion("context_slices", 1, "nothing says how far apart the slices are")
    spacing = content["spacing_mm"]
    pixel = (spacing["rows"]["median"] + spacing["columns"]["median"]) / 2
    distance = spacing["slices"]["median"] / pixel
    reason = f"slices are {distance:.1f} pixel widths apart"
    return Suggestion("context_slices", 3 if distance <= FARTHEST_CONTEXT else 1, reason)


def _foreground_fraction(content: dict[str, Any]) -> Suggestion:
    slices = content["slices"]
    share = slices["with_foreground"] / max(1, slices["total"])
    fraction = FOREGROUND_FRACTION if 0 < share < RARE_FOREGROUND else 0.0
    return Suggestion("foreground_fraction", fraction, f"{share:.0%} of the slices hold a label")


def _flip_notes(survey: Survey, config: DataConfig) -> list[str]:
    """Say whether mirrored patients would still be patients, by where the classes lie."""
    if survey.plane == "sagittal":
        return ["flip_axes: left and right lie across sagittal slices"]
    pairs = _swapped(survey, config)
    if pairs is None:
        return ["flip_axes: without left_right, as a class of one side has no partner"]
    paired = {name for pair in pairs for name in pair}
    offsets = sideways(survey)
    if not offsets:
        return []
    sides = [
        f"{name} on the {'right' if offset > 0 else 'left'}"
        for name, offset in offsets.items()
        if abs(offset) > ONE_SIDED and name not in paired
    ]
    if sides:
        return [f"flip_axes: without left_right, as it would move {', '.join(sides)}"]
    swapped = ", ".join(" and ".join(pair) for pair in pairs)
    exchange = f"; it exchanges {swapped}, unless swap_classes is []" if swapped else ""
    return [f"flip_axes: [left_right] moves no class to the other side{exchange}"]


def _swapped(survey: Survey, config: DataConfig) -> Sequence[tuple[str, str]] | None:
    """Return the pairs of classes that a left-right flip exchanges, None if one is alone."""
    classes = survey.dataset.classes
    try:
        flips = plan_flips(replace(config, flip_axes=["left_right"]), survey.plane, classes)
    except UserError:
        return None
    return [(classes[first], classes[second]) for flip in flips for first, second in flip.pairs]
