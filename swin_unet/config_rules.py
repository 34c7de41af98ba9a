"""What a configuration may hold, beyond what its types already say."""

from __future__ import annotations

import math
import re
from dataclasses import fields
from typing import Any

from swin_unet.config import (
    MODEL_OPTIONS,
    Config,
    DataConfig,
    ModelConfig,
    TrainConfig,
    UserError,
)
from swin_unet.task_rules import task_range_rules, task_relevance_rules


def validate(config: Config) -> None:
    """Raise UserError for values that no type annotation can refuse."""
    for key, value, is_valid, expected in _range_rules(config):
        if not is_valid:
            raise UserError(key, expected=expected, found=repr(value), fix="Correct this option.")
    for key, value, applies, condition in _relevance_rules(config):
        if value is not None and not applies:
            raise UserError(
                key, expected=f"no value unless {condition}", found=repr(value), fix="Remove it."
            )


def _range_rules(config: Config) -> list[tuple[str, Any, bool, str]]:
    """List (key, value, whether it is valid, what is) for every numeric option."""
    data, model = config.data, config.model
    overlap = config.inference.overlap
    at_least_one = {
        "model.patch_size": model.patch_size,
        "inference.batch_size": config.inference.batch_size or 1,
    }
    fractions = data.val_fraction + data.test_fraction
    rate, share, pattern = model.drop_path_rate, data.foreground_fraction, data.group_pattern
    return [
        *((key, value, value >= 1, "at least 1") for key, value in at_least_one.items()),
        ("seed", config.seed, config.seed >= 0, "at least 0"),
        ("data.image_size", data.image_size, min(data.image_size) >= 1, "positive sizes"),
        ("data.val_fraction", data.val_fraction, 0 <= data.val_fraction < 1, "in [0, 1)"),
        ("data.test_fraction", data.test_fraction, 0 <= data.test_fraction < 1, "in [0, 1)"),
        ("data.train_fraction", data.train_fraction, 0 < data.train_fraction <= 1, "in (0, 1]"),
        ("data.val_fraction + data.test_fraction", fractions, fractions < 1, "below 1"),
        ("data.folds", data.folds, data.folds is None or data.folds >= 2, "at least 2"),
        ("data.fold", data.fold, 0 <= (data.fold or 0) < (data.folds or 1), "in [0, data.folds)"),
        ("data.foreground_fraction", share, 0 <= share <= 1, "in [0, 1]"),
        ("data.group_pattern", pattern, _compiles(pattern), "a valid regular expression"),
        ("data.window", data.window, _ascends(data.window), "low < high"),
        ("data.percentiles", data.percentiles, _percentiles(data.percentiles), "0 <= low < high"),
        ("data.spacing_mm", data.spacing_mm, min(data.spacing_mm or (1,)) > 0, "positive mm"),
        ("model.drop_path_rate", rate, 0 <= rate < 1, "in [0, 1)"),
        ("inference.overlap", overlap, 0 <= overlap < 1, "in [0, 1)"),
        *_train_range_rules(config.train),
        *task_range_rules(config),
    ]


def _train_range_rules(train: TrainConfig) -> list[tuple[str, Any, bool, str]]:
    """List the numeric options of the recipe."""
    at_least_one = {
        "train.epochs": train.epochs,
        "train.batch_size": train.batch_size,
        "train.val_interval": train.val_interval,
        "train.accumulation": train.accumulation,
        "train.patience": 1 if train.patience is None else train.patience,
    }
    at_least_zero = {
        "train.ce_weight": train.ce_weight,
        "train.dice_weight": train.dice_weight,
        "train.momentum": train.momentum or 0,
        "train.num_workers": train.num_workers or 0,
        "train.save_minutes": train.save_minutes,
        "train.warmup_epochs": train.warmup_epochs,
        "train.weight_decay": train.weight_decay,
    }
    above_zero = {
        "train.learning_rate": train.learning_rate,
        "train.gradient_clip": 1 if train.gradient_clip is None else train.gradient_clip,
        "train.max_minutes": 1 if train.max_minutes is None else train.max_minutes,
    }
    parts, most, decay = train.accumulation, train.batch_size, train.ema_decay
    weights, layer_decay = train.class_weights, train.layer_decay
    return [
        *((key, value, value >= 1, "at least 1") for key, value in at_least_one.items()),
        *((key, value, value >= 0, "at least 0") for key, value in at_least_zero.items()),
        *((key, value, value > 0, "above 0") for key, value in above_zero.items()),
        ("train.accumulation", parts, parts <= most, f"at most train.batch_size, {most}"),
        ("train.ema_decay", decay, decay is None or 0 < decay < 1, "in (0, 1)"),
        ("train.class_weights", weights, _are_weights(weights), "numbers >= 0, one of them above"),
        ("train.layer_decay", layer_decay, _is_share(layer_decay), "in (0, 1]"),
    ]


def _are_weights(weights: list[float] | None) -> bool:
    return weights is None or (min(weights, default=-1.0) >= 0 and 0 < max(weights) < math.inf)


def _is_share(value: float | None) -> bool:
    return value is None or 0 < value <= 1


def _ascends(pair: tuple[float, float] | None) -> bool:
    return pair is None or pair[0] < pair[1]


def _compiles(pattern: str | None) -> bool:
    try:
        re.compile(pattern or "")
    except re.error:
        return False
    return True


def _percentiles(pair: tuple[float, float] | None) -> bool:
    return pair is None or 0 <= pair[0] < pair[1] <= 100


def _relevance_rules(config: Config) -> list[tuple[str, Any, bool, str]]:
    """List (key, value, whether it applies, when it would) for every conditional option."""
    data, train = config.data, config.train
    windowed = data.intensity == "window"
    flips = data.flip_axes or None
    return [
        *_data_set_rules(data),
        *_model_rules(config.model),
        (
            "model.pretrained_decoder",
            None if config.model.pretrained_decoder else False,
            config.model.pretrained is not None,
            "model.pretrained is given",
        ),
        ("data.fold", data.fold, data.folds is not None, "data.folds is given"),
        ("data.flip_axes", flips, data.augmentation == "default", "data.augmentation is default"),
        ("data.swap_classes", data.swap_classes, flips is not None, "data.flip_axes is given"),
        ("data.window", data.window, windowed, "data.intensity is window"),
        ("data.percentiles", data.percentiles, not windowed, "data.intensity is not window"),
        ("data.spacing_mm", data.spacing_mm, data.fit == "crop", "data.fit is crop"),
        ("train.momentum", train.momentum, train.optimizer == "sgd", "train.optimizer is sgd"),
        *_recipe_rules(train, config.model),
        *task_relevance_rules(config),
    ]


def _recipe_rules(train: TrainConfig, model: ModelConfig) -> list[tuple[str, Any, bool, str]]:
    """List the options of the recipe that ask something of the network."""
    deep, has_weights = train.deep_supervision or None, model.pretrained is not None
    weights, is_used = train.class_weights, train.ce_weight > 0
    return [
        ("train.class_weights", weights, is_used, "train.ce_weight is above 0"),
        ("train.deep_supervision", deep, model.name == "swin_unet", "model.name is swin_unet"),
        ("train.layer_decay", train.layer_decay, has_weights, "model.pretrained is given"),
    ]


def _data_set_rules(data: DataConfig) -> list[tuple[str, Any, bool, str]]:
    """List the options that only some kinds of data sets have."""
    is_folder = data.name == "folder"
    only = "data.name is folder"
    is_paired, paired = is_folder and data.list_file is None, f"{only} without data.list_file"
    has_split = data.split_file is not None
    return [
        ("data.images", data.images, is_paired, paired),
        ("data.labels", data.labels, is_paired, paired),
        ("data.list_file", data.list_file, is_folder, only),
        (
            "data.group_pattern",
            data.group_pattern,
            data.name in ("decathlon", "folder"),
            "data.name is decathlon or folder",
        ),
        ("data.folds", data.folds, not has_split, "data.split_file is not given"),
    ]


def _model_rules(model: ModelConfig) -> list[tuple[str, Any, bool, str]]:
    """List the model's options, each of which applies to some networks only.

    Configurations are written complete, so an option that equals its default is not one given.
    """
    rules = []
    for item in fields(ModelConfig):
        if item.name == "name":
            continue
        value = getattr(model, item.name)
        takers = [name for name, options in MODEL_OPTIONS.items() if item.name in options]
        given = None if value == item.default else value
        condition = f"model.name is {' or '.join(takers)}"
        rules.append((f"model.{item.name}", given, model.name in takers, condition))
    return rules
