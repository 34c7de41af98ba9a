"""Pretraining and classification by the commands: train, stop, resume, infer."""

from __future__ import annotations

import csv
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from benchmarks.kill_points import differences
from datasets.cifar10 import write_folders, write_stand_in
from swin_unet import checkpoint as checkpoints
from swin_unet.training.classification import ClassificationTask
from swin_unet.training.pretraining import PretrainingTask

NETWORK = {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4}
VOLUMES = {
    "val_fraction": 0.2,
    "test_fraction": 0.2,
    "intensity": "window",
    "window": [-125, 275],
    "image_size": [32, 32],
}
PICTURES = {
    "name": "cifar10",
    "val_fraction": 0.2,
    "intensity": "window",
    "window": [0, 255],
    "image_size": [32, 32],
    "augmentation": "none",
}
TRAIN = {
    "epochs": 2,
    "batch_size": 6,
    "optimizer": "adamw",
    "learning_rate": 0.003,
    "num_workers": 0,
    "device": "cpu",
    "precision": "fp32",
}
TASKS = {
    "simmim": (PretrainingTask, {"task": "simmim", "simmim": {"mask_patch_size": 8}}),
    "slices": (ClassificationTask, {"task": "classification"}),
    "pictures": (ClassificationTask, {"task": "classification"}),
}


def read_json(path: Path):
    return json.loads(path.read_text(encoding="utf8"))


def read_csv(path: Path):
    with path.open(newline="", encoding="utf8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="session")
def cifar(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cifar")
    write_stand_in(folder, 20)
    return folder


@pytest.fixture
def configure(tmp_path: Path, data: Path, cifar: Path):
    """Write the configuration of a task, with changes to its sections."""

    def write(kind: str, **changes) -> Path:
        model = NETWORK if kind == "simmim" else {**NETWORK, "name": "swin_classifier"}
        section = PICTURES if kind == "pictures" else VOLUMES
        paths = {"root": str(cifar if kind == "pictures" else data)}
        content = {
            **TASKS[kind][1],
            "model": {**model, **changes.get("model", {})},
            "data": {**section, **paths, "cache_dir": str(tmp_path / "cache")},
            "train": TRAIN,
        }
        path = tmp_path / f"{kind}.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return write


@pytest.fixture
def train(call, tmp_path: Path):
    """Train in this process; the run folder is named after the configuration unless told."""

    def run(config: Path, *more, folder: str | None = None) -> Path:
        target = tmp_path / (folder or config.stem)
        outcome = call("train", "--config", config, "--output_dir", target, *more)
        assert outcome.code == 0, outcome.stderr
        return target

    return run


@pytest.mark.parametrize("kind", TASKS)
def test_a_stopped_run_goes_on_as_if_nothing_had_happened(
    monkeypatch, call, train, configure, tmp_path, kind
):
    config = configure(kind)
    whole = train(config, folder="whole")
    task, calls = TASKS[kind][0], []
    original = task.loss

    def loss(self, batch):
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(task, "loss", loss)
        stopped = call("train", "--config", config, "--output_dir", tmp_path / "run")
    assert stopped.code == 143
    assert "--resume auto" in stopped.stdout
    assert checkpoints.load(tmp_path / "run" / "last.pt")["step"] == 3
    train(config, "--resume", "auto", folder="run")
    assert differences(whole, tmp_path / "run") == []


def test_pretraining_then_segmentation(train, configure, config, tmp_path):
    """The encoder of best.pt is what fine-tuning starts from, mirrored decoder included."""
    pretrained = train(configure("simmim", model={"patch_size": 2, "depths": [2, 2]}))
    assert {path.name for path in pretrained.iterdir()} >= {
        *("config.yaml", "split.json", "last.pt", "best.pt", "metrics.csv", "log.txt"),
        *("tensorboard", "progress.png", "validation_metrics.json", "test_metrics.json"),
    }
    rows = read_csv(pretrained / "metrics.csv")
    assert float(rows[1]["error/mean"]) < float(rows[0]["error/mean"])
    log = (pretrained / "log.txt").read_text()
    assert "validation error" in log
    assert "(not read)" in log
    tuned = train(
        config, "--model.pretrained", pretrained / "best.pt", "--train.epochs", "1",
        "--train.learning_rate", "1e-9", "--train.layer_decay", "0.75", folder="tuned",
    )  # fmt: skip
    log = (tuned / "log.txt").read_text()
    assert "encoder filled to 100%" in log
    assert "mirrored (" in log
    source = checkpoints.load(pretrained / "best.pt")["model"]
    target = checkpoints.load(tuned / "best.pt")["model"]
    name = "blocks.1.mlp.fc1.weight"
    for ours in (f"encoder.stages.0.{name}", f"decoder.levels.0.stage.{name}"):
        assert torch.allclose(target[ours], source[f"encoder.stages.0.{name}"], atol=1e-5)


def test_a_pretraining_does_not_segment(call, train, configure, data, tmp_path):
    run = train(configure("simmim"), "--train.epochs", "1")
    outcome = call(
        "infer", "--checkpoint", run / "best.pt", "--input", data / "imagesTr",
        "--output", tmp_path / "out",
    )  # fmt: skip
    outcome.assert_refused("best.pt", "one of task simmim", "--model.pretrained")
    assert not (tmp_path / "out").exists()


def test_which_organs_are_in_a_slice(call, train, configure, data, tmp_path):
    """Predictions of infer.py score as the run's test cases did."""
    run = train(configure("slices", model={"head": "mgff"}))
    rows = read_csv(run / "metrics.csv")
    assert {"f1/mean", "f1/body", "f1/organs"} <= set(rows[0])
    outcome = call(
        "infer", "--checkpoint", run / "best.pt", "--input", data / "imagesTr", "--part", "test",
        "--labels", data / "labelsTr", "--output", tmp_path / "out",
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    found = read_json(tmp_path / "out" / "metrics.json")
    expected = read_json(run / "test_metrics.json")["best"]
    for name in ("body", "organs"):
        assert found["per_class"][name] == pytest.approx(expected["per_class"][name])
    assert found["confusion"] == expected["confusion"]
    predictions = read_csv(tmp_path / "out" / "predictions.csv")
    cases = read_csv(tmp_path / "out" / "cases.csv")
    assert [row["slice"] for row in predictions] == [str(number) for number in range(12)]
    for name in ("body", "organs"):
        values = [float(row[f"probability_{name}"]) for row in predictions]
        assert float(cases[0][f"probability_{name}"]) == max(values)
        for row, value in zip(predictions, values, strict=True):
            assert (name in row["prediction"].split(";")) == (value >= 0.5)
    assert (tmp_path / "out" / "confusion.png").is_file()
    assert read_json(tmp_path / "out" / "run.json")["cases"][0]["slices"] == 12


def test_pictures_of_ten_classes(call, train, configure, tmp_path):
    run = train(configure("pictures"))
    results = read_json(run / "test_metrics.json")["best"]
    assert results["num_samples"] == 20
    assert np.sum(results["confusion"]) == 20
    assert (run / "validation_confusion.png").is_file()
    write_folders(tmp_path / "folders", 20, seed=5)
    outcome = call(
        "infer", "--checkpoint", run / "best.pt", "--input", tmp_path / "folders" / "*",
        "--labels", tmp_path / "folders", "--output", tmp_path / "out",
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    rows = read_csv(tmp_path / "out" / "predictions.csv")
    assert len(rows) == 20
    right = 0
    for row in rows:
        values = {k.removeprefix("probability_"): float(v) for k, v in list(row.items())[3:]}
        assert row["prediction"] == max(values, key=lambda name: values[name])
        assert sum(values.values()) == pytest.approx(1, abs=1e-4)
        right += (tmp_path / "folders" / row["prediction"] / f"{row['case']}.png").is_file()
    assert read_json(tmp_path / "out" / "metrics.json")["accuracy"] == right / 20


def test_a_second_look_where_a_localizer_points(call, train, configure, data, tmp_path):
    fine = train(configure("slices"))
    shape = {"--model.patch_size": 8, "--model.embed_dim": 16, "--model.num_heads": "[2]"}
    content = yaml.safe_load(configure("slices").read_text())
    content["model"] = {"name": "localizer"}
    config = tmp_path / "localizer.yaml"
    config.write_text(yaml.safe_dump(content))
    options = [part for item in {**shape, "--model.depths": "[2]"}.items() for part in item]
    coarse = train(config, *options)
    outcome = call(
        "infer", "--checkpoint", fine / "best.pt", "--coarse", coarse / "best.pt", "--input",
        data / "imagesTr", "--part", "test", "--output", tmp_path / "out",
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    assert len(list((tmp_path / "out").glob("*_look.png"))) == 1
    assert len(read_csv(tmp_path / "out" / "predictions.csv")) == 12
    call(
        "infer", "--checkpoint", fine / "best.pt", "--coarse", fine / "best.pt", "--input",
        data / "imagesTr", "--output", tmp_path / "other",
    ).assert_refused("--coarse", "model.name localizer")  # fmt: skip


def test_a_broken_picture_does_not_stop_the_others(call, train, configure, tmp_path):
    run = train(configure("pictures"), "--train.epochs", "1")
    write_folders(tmp_path / "folders", 10)
    (tmp_path / "folders" / "cat" / "00003.png").write_bytes(b"no picture")
    options = ("--checkpoint", run / "best.pt", "--output", tmp_path / "out")
    outcome = call("infer", *options, "--input", tmp_path / "folders" / "*")
    assert outcome.code == 3
    assert "1 of 10 cases failed: 00003" in outcome.stderr
    assert len(read_csv(tmp_path / "out" / "predictions.csv")) == 9
    alone = call("infer", *options, "--input", tmp_path / "folders" / "cat" / "00003.png")
    alone.assert_refused("00003.png")


def test_options_of_label_maps_are_refused(call, train, configure, data, tmp_path):
    run = train(configure("slices"), "--train.epochs", "1")
    options = ("--checkpoint", run / "best.pt", "--input", data / "imagesTr")
    for option in (("--overlap", "0.5"), ("--protocol", "paper"), ("--fit", "resize")):
        outcome = call("infer", *options, *option, "--output", tmp_path / "out")
        outcome.assert_refused(option[0], "classification")


@pytest.mark.parametrize(
    ("module", "arguments", "subject"),
    [
        ("datasets.check", ["--config", "cifar10_resnet50.yaml"], "data.name"),
        ("datasets.fingerprint", ["--config", "cifar10_resnet50.yaml"], "data.name"),
        ("datasets.preview", ["--config", "cifar10_resnet50.yaml"], "data.name"),
        ("ablate", ["--config", "organs.yaml", "--vary", "model.head=linear,mgff"], "task"),
        ("swin_unet.models.complexity", ["--config", "simmim.yaml"], "task"),
    ],
)
def test_commands_about_label_maps_refuse_other_tasks(
    call, cifar, tmp_path, monkeypatch, module, arguments, subject
):
    monkeypatch.chdir(tmp_path)
    call(module, *arguments, "--data.root", cifar).assert_refused(subject)
    assert not list(tmp_path.iterdir())


def test_the_cost_of_a_classifier_is_told(call):
    """Of Swin-T, without the head's 1,000 classes: the published number and ten classes."""
    outcome = call(
        "swin_unet.models.complexity",
        "--config",
        "cifar10_swin_tiny.yaml",
        "--in_channels",
        3,
        "--num_classes",
        10,
    )
    assert outcome.code == 0
    assert "27,527,044" in outcome.stdout


def test_finished_classifications_are_compared(call, train, configure):
    run = train(configure("pictures"))
    outcome = call("benchmarks.classifiers", run)
    results = read_json(run / "test_metrics.json")
    assert f"{100 * results['best']['accuracy']:.1f} %" in outcome.stdout
    seconds = [
        (1 - float(row["train/data_wait"])) / float(row["train/slices_per_second"])
        for row in read_csv(run / "metrics.csv")
    ]
    assert f"{6000 * np.median(seconds):.0f} (6)" in outcome.stdout
    call("benchmarks.classifiers", run.parent).assert_refused("config.yaml", "finished run")
