"""What a configuration may hold for each task."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from swin_unet.config import PICTURE_SETS, TASK_MODELS, Config, SimMIMConfig

Rule = tuple[str, Any, bool, str]
# Options of the recipe for label maps, and of a Swin-UNet's decoder.
_LOSS_OPTIONS = ("loss", "ce_weight", "dice_weight", "class_weights", "deep_supervision")
_DECODER_OPTIONS = ("skips", "skip_source", "skip_fusion", "upsampling", "pretrained_decoder")


def task_range_rules(config: Config) -> list[Rule]:
    """List (key, value, whether it is valid, what is) for what depends on the task."""
    task, data, name = config.task, config.data, config.model.name
    models, smoothing = TASK_MODELS[task], config.train.label_smoothing
    is_set_of_pictures = data.name in PICTURE_SETS
    rules: list[Rule] = [
        ("model.name", name, name in models, f"one of {', '.join(models)} for task {task}"),
        ("train.label_smoothing", smoothing, 0 <= smoothing < 1, "in [0, 1)"),
    ]
    if task == "segmentation":
        expected = "a data set with label maps, or task classification"
        return [*rules, ("data.name", data.name, not is_set_of_pictures, expected)]
    if task == "classification" or is_set_of_pictures:
        expected = "resize, so that a slice or picture is seen as a whole"
        return [*rules, ("data.fit", data.fit, data.fit == "resize", expected)]
    return rules + _simmim_rules(config)


def _simmim_rules(config: Config) -> list[Rule]:
    options, size = config.simmim, config.data.image_size
    side, patch = options.mask_patch_size, config.model.patch_size
    stride = patch * 2 ** (len(config.model.depths or range(4)) - 1)
    ratio, window = options.mask_ratio, options.target_window
    fits_mask = side >= 1 and all(pixels % side == 0 for pixels in size)
    fits_stages = all(pixels % stride == 0 for pixels in size)
    is_odd = window is None or (window >= 3 and window % 2 == 1)
    return [
        ("simmim.mask_ratio", ratio, 0 < ratio < 1, "in (0, 1)"),
        ("simmim.target_window", window, is_odd, "an odd number from 3 on"),
        (
            "simmim.mask_patch_size",
            side,
            side >= patch and side % patch == 0,
            f"a multiple of model.patch_size, {patch}",
        ),
        ("data.image_size", size, fits_mask, f"multiples of simmim.mask_patch_size, {side}"),
        ("data.image_size", size, fits_stages, f"multiples of the coarsest stride, {stride}"),
    ]


def task_relevance_rules(config: Config) -> list[Rule]:
    """List (key, value, whether it applies, when it would) for the options of some tasks only."""
    task, train, model, data = config.task, config.train, config.model, config.data
    segments = task == "segmentation"
    return [
        *(
            (f"train.{name}", _given(train, name), segments, "task is segmentation")
            for name in _LOSS_OPTIONS
        ),
        *(
            (f"model.{name}", _given(model, name), segments, "task is segmentation")
            for name in _DECODER_OPTIONS
        ),
        ("model.head", _given(model, "head"), task != "simmim", "task is not simmim"),
        (
            "data.foreground_fraction",
            _given(data, "foreground_fraction"),
            task != "simmim",
            "task is not simmim",
        ),
        (
            "train.label_smoothing",
            _given(train, "label_smoothing"),
            task == "classification" and data.name in PICTURE_SETS,
            f"task is classification and data.name {' or '.join(PICTURE_SETS)}",
        ),
        *(
            (
                f"simmim.{item.name}",
                _given(config.simmim, item.name),
                task == "simmim",
                "task is simmim",
            )
            for item in fields(SimMIMConfig)
        ),
    ]


def _given(section: Any, name: str) -> Any:
    """Return an option's value, None when it equals the default: configurations are complete."""
    value = getattr(section, name)
    default = next(item.default for item in fields(section) if item.name == name)
    return None if value == default else value
