from __future__ import annotations

from dataclasses import fields
from importlib import import_module
from inspect import signature
from pathlib import Path

import pytest
import yaml

from swin_unet.cli import build_parser, config_keys, parse_config, run
from swin_unet.config import (
    MODEL_OPTIONS,
    TASK_MODELS,
    Config,
    ModelConfig,
    UserError,
    to_plain,
)
from swin_unet.models import MODELS

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


def parse(*argv):
    parser = build_parser("train.py", "Train.")
    return parse_config(parser, [str(part) for part in argv])[0]


def config_file(tmp_path, content):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_shipped_configurations_parse_and_build_their_model(path):
    from swin_unet.models import build_model, model_arguments

    config = parse("--config", path)
    assert config.output_dir == Path("runs") / path.stem
    description = model_arguments(config.model, 1, 3, config.data.image_size)
    assert build_model(description) is not None


def test_a_written_configuration_reads_back_the_same(tmp_path):
    config = parse("--config", "phantom.yaml", "--model.skips", "[4, 8]", "--model.patch_size", 4)
    path = config_file(tmp_path, to_plain(config))
    assert parse("--config", path) == config


def test_flags_win_over_the_file_and_the_file_over_defaults(tmp_path):
    path = config_file(tmp_path, {"model": {"skips": 2, "window_size": [8, 8, 8, 4]}, "seed": 5})
    config = parse("--config", path, "--model.skips", "[4, 16]")
    assert (config.model.skips, config.model.window_size) == ([4, 16], [8, 8, 8, 4])
    assert (config.seed, config.model.patch_size) == (5, 4)


@pytest.mark.parametrize("name", MODEL_OPTIONS)
def test_model_keys_are_the_constructors_arguments(name):
    module, function = MODELS[name]
    arguments = set(signature(getattr(import_module(module), function)).parameters)
    assert MODEL_OPTIONS[name] - {"pretrained", "pretrained_decoder"} <= arguments
    assert {"in_channels", "num_classes"} <= arguments
    assert name in {model for models in TASK_MODELS.values() for model in models}


def test_swin_unet_takes_all_but_the_options_of_classifiers_with_the_same_defaults():
    from swin_unet import SwinUNet

    arguments = signature(SwinUNet.__init__).parameters
    keys = {field.name: field.default for field in fields(ModelConfig)}
    assert MODEL_OPTIONS["swin_unet"] == keys.keys() - {"name", "head", "importance"}
    assert MODEL_OPTIONS["swin_unet"] - {"pretrained", "pretrained_decoder"} == arguments.keys() - {
        "self",
        "in_channels",
        "num_classes",
    }
    assert all(arguments[key].default == keys[key] for key in keys if key in arguments)


def test_every_field_is_a_flag():
    parser = build_parser("train.py", "Train.")
    known = {option for action in parser._actions for option in action.option_strings}
    assert {f"--{key}" for key in config_keys()} <= known


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": {"skipz": 2}}, "found `model.skipz`. Correct it. Did you mean `model.skips`?"),
        ({"learning_rate": 1}, "Did you mean `train.learning_rate`?"),
        ({"zzz": 1}, "found `zzz`"),
        ({"train": {"epochs": "many"}}, "train.epochs: expected a value of type int, found many"),
        ({"data": {"fit": "squeeze"}}, "'resize', 'crop'"),
        ({"train": {"epochs": -3}}, "train.epochs: expected at least 1, found -3"),
        ({"data": {"window": [5, -5]}}, "data.window"),
        ({"data": {"spacing_mm": [1, 1]}}, "no value unless data.fit is crop"),
        ({"train": {"optimizer": "adamw", "momentum": 0.9}}, "unless train.optimizer is sgd"),
        ({"seed": -1}, "seed: expected at least 0"),
        ({"task": "classification"}, "one of swin_classifier, swin_resnet, resnet50, localizer"),
        ({"model": {"name": "resnet50"}}, "for task segmentation, found 'resnet50'"),
        ({"data": {"name": "cifar10"}}, "data.name: expected a data set with label maps, or task"),
        ({"train": {"label_smoothing": 0.1}}, "unless task is classification and data.name image"),
        ({"simmim": {"mask_ratio": 0.5}}, "simmim.mask_ratio: expected no value unless task is"),
        ({"task": "simmim", "simmim": {"mask_ratio": 1.5}}, "simmim.mask_ratio: expected in (0"),
        ({"task": "simmim", "simmim": {"target_window": 4}}, "an odd number from 3 on"),
        ({"task": "simmim", "simmim": {"mask_patch_size": 6}}, "a multiple of model.patch_size"),
        ({"task": "simmim", "data": {"image_size": [224, 200]}}, "of simmim.mask_patch_size, 32"),
        ({"task": "simmim", "model": {"skips": 2}}, "model.skips: expected no value unless task"),
        ({"task": "simmim", "train": {"dice_weight": 1}}, "train.dice_weight: expected no value"),
        ({"data": {"train_fraction": 0}}, "data.train_fraction: expected in (0, 1]"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, content, message):
    with pytest.raises(UserError) as caught:
        parse("--config", config_file(tmp_path, content))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["a: [1", "- just\n- a list", ""])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"mine\.yaml"):
        parse("--config", path)


def test_a_misspelt_flag_or_file_gets_the_nearest_name():
    with pytest.raises(UserError, match=r"Did you mean `--model\.skips`\?"):
        parse("--model.skip", 3)
    with pytest.raises(UserError, match=r"Did you mean `phantom\.yaml`\?"):
        parse("--config", "phantm.yaml")


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (UserError("x", expected="a", found="b", fix="Do c."), 2, "error: x: expected a, found b."),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_errors_become_exit_codes(error, code, text, capsys):
    def main():
        raise error

    assert run(main) == code
    assert capsys.readouterr().err.startswith(text)
    assert run(lambda: None) == 0
    assert run(lambda: 3) == 3


def test_our_own_bugs_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        run(lambda: 1 // 0)


def test_the_default_configuration_is_valid():
    assert parse() == Config(output_dir=Path("runs/unnamed"))
