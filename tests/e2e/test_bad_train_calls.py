"""Calls of train.py that are refused: one line that helps, and nothing written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

# Make the fault in a Workplace and return the arguments; then subject and words of the message.
Row = tuple[Callable[[Any], list[str | Path]], str, tuple[str, ...]]


def config_of(place, section: str, **options: Any):
    """Train by a configuration file with other options in one section."""
    content = yaml.safe_load(place.config.read_text())
    return config_file(place, **{section: content[section] | options})


def config_file(place, **sections: Any):
    """Train by a configuration file with other sections."""
    content = yaml.safe_load(place.config.read_text())
    path = place.folder / "changed.yaml"
    path.write_text(yaml.safe_dump(content | sections))
    return place.train(config=path)


def no_root(place):
    content = yaml.safe_load(place.config.read_text())
    del content["data"]["root"]
    (place.folder / "changed.yaml").write_text(yaml.safe_dump(content))
    return ["--config", place.folder / "changed.yaml", "--output_dir", place.output]


def no_dataset_json(place):
    (place.data / "dataset.json").unlink()
    return place.train()


def described(place, **changes: Any):
    """Train on a data set that describes itself otherwise."""
    path = place.data / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return place.train()


def no_image(place):
    place.image().unlink()
    return place.train()


def unknown_names(place):
    split = place.folder / "other.json"
    split.write_text(json.dumps({"train": ["phantom_001"], "val": ["nobody"], "test": []}))
    return place.train(**{"data.split_file": split})


def other_run(place):
    """Resume a run in the folder of another."""
    path = place.runs["crop"] / "last.pt"
    return [*place.resume()[:-2], "--resume", path]


def damaged_last(place):
    arguments = place.resume()
    for name in ("last.pt", "last.previous.pt"):
        place.truncate(place.output / name)
    return arguments


def edited_label(place):
    """Change a label file that trained, and neither its name nor its size."""
    (name, *_) = json.loads((place.runs["resize"] / "split.json").read_text())["train"]
    path = place.label(int(name[-1]))
    data = bytearray(path.read_bytes())
    data[4] ^= 1  # of the time in the header of gzip
    path.write_bytes(data)
    return place.resume()


def train_into_a_file(place):
    place.output.write_text("mine")
    return place.train()


TRAIN_ROWS: dict[str, Row] = {
    "no such config": (
        lambda place: place.train(config=Path("phantm.yaml")),
        "phantm.yaml",
        ("existing configuration file", "Did you mean `phantom.yaml`?"),
    ),
    "unknown key in the file": (
        lambda place: config_of(place, "model", skpis=2),
        "changed.yaml",
        ("`model.skpis`", "Did you mean `model.skips`?"),
    ),
    "unknown flag": (
        lambda place: place.train("--model.skpis", "2"),
        "command line",
        ("`--model.skpis`", "Did you mean `--model.skips`?"),
    ),
    "wrong type in the file": (
        lambda place: config_of(place, "train", epochs="many"),
        "train.epochs",
        ("type int", "found many", "changed.yaml"),
    ),
    "no options in a section": (
        lambda place: config_file(place, model=3),
        "changed.yaml",
        ("options below `model:`",),
    ),
    "wrong type of a flag": (
        lambda place: place.train("--train.epochs", "many"),
        "train.epochs",
        ("type int", "found many"),
    ),
    "one number for two": (
        lambda place: place.train("--data.image_size", "224"),
        "data.image_size",
        ("tuple[int, int]", "found 224"),
    ),
    "no value": (
        lambda place: place.train("--train.epochs"),
        "command line",
        ("--train.epochs", "one argument"),
    ),
    "no such choice": (
        lambda place: place.train("--data.fit", "stretch"),
        "data.fit",
        ("Literal['resize', 'crop']", "found stretch"),
    ),
    "negative epochs": (
        lambda place: place.train("--train.epochs", "-1"),
        "train.epochs",
        ("at least 1", "found -1"),
    ),
    "negative number of workers": (
        lambda place: place.train("--train.num_workers", "-1"),
        "train.num_workers",
        ("at least 0", "found -1"),
    ),
    "window upside down": (
        lambda place: place.train("--data.window", "[275, -125]"),
        "data.window",
        ("low < high", "275"),
    ),
    "option that does not apply": (
        lambda place: place.train("--train.momentum", "0.9"),
        "train.momentum",
        ("no value unless", "0.9"),
    ),
    "contradicting model options": (
        lambda place: place.train("--model.num_heads", "[3, 2]"),
        "model",
        ("fit together", "num_heads 3", "8 channels"),
    ),
    "no root": (no_root, "data.root", ("folder of the data set", "--data.root")),
    "no such root": (
        lambda place: place.train(**{"data.root": place.folder / "nowhere"}),
        "nowhere",
        ("data set folder", "nothing there"),
    ),
    "no dataset.json": (no_dataset_json, "data", ("dataset.json", "none")),
    "damaged dataset.json": (
        lambda place: [place.data.joinpath("dataset.json").write_text("{"), *place.train()][1:],
        "dataset.json",
        ("valid JSON",),
    ),
    "incomplete dataset.json": (
        lambda place: described(place, labels={"0": "background"}),
        "dataset.json",
        ("labels",),
    ),
    "other channels": (
        lambda place: described(place, modality={"0": "CT", "1": "PET"}),
        "phantom_001",
        ("2 channel", "found 1"),
    ),
    "other classes": (
        lambda place: place.train("--data.classes", "[liver]"),
        "data",
        ("liver", "body"),
    ),
    "listed image missing": (no_image, "phantom_001", ("a file of the data set", "nothing there")),
    "unknown names in the split": (unknown_names, "other.json", ("nobody",)),
    "no such device": (
        lambda place: place.train("--train.device", "cuda:99"),
        "device",
        ("cuda:99",),
    ),
    "half precision on a CPU": (
        lambda place: place.train("--train.precision", "fp16"),
        "precision",
        ("fp32 or bf16",),
    ),
    "output is a file": (train_into_a_file, "output", ("expected a folder", "found a file")),
    "folder that holds a run": (
        lambda place: place.resume()[:-2],
        "output",
        ("a new run folder", "--resume auto"),
    ),
    "resume into another run": (other_run, "output", ("a new run folder", "found a run")),
    "nothing to resume": (
        lambda place: place.train("--resume", place.folder / "last.pt"),
        "last.pt",
        ("checkpoint to resume", "no such file"),
    ),
    "resume from best.pt": (
        lambda place: [*place.resume()[:-1], place.output / "best.pt"],
        "best.pt",
        ("optimizer", "last.pt of the run"),
    ),
    "resume a damaged checkpoint": (damaged_last, "last.pt", ("unreadable",)),
    "resume with an edited label": (
        edited_label,
        "last.pt",
        ("files that the run was started with", "other contents for phantom_00"),
    ),
    "initial weights are no file": (
        lambda place: place.train("--train.initial_weights", place.folder / "start.pt"),
        "start.pt",
        ("a weights file", "no such file"),
    ),
    "no step to probe": (
        lambda place: place.train("--probe", "0"),
        "--probe",
        ("at least 1 step", "found 0"),
    ),
    "probe of a resumed run": (
        lambda place: place.resume("--probe", "2"),
        "--probe",
        ("from its start", "--resume auto"),
    ),
    "resume another architecture": (
        lambda place: place.resume("--model.embed_dim", "16"),
        "last.pt",
        ("started with", "model.embed_dim: 8 -> 16"),
    ),
    "resume another optimizer": (
        lambda place: place.resume("--train.optimizer", "sgd"),
        "last.pt",
        ("started with", "train.optimizer: adamw -> sgd"),
    ),
    "pretrained weights missing": (
        lambda place: place.train("--model.pretrained", place.folder / "weights.pth"),
        "weights.pth",
        (),
    ),
    "pretrained weights damaged": (
        lambda place: place.train("--model.pretrained", place.image()),
        "phantom_001",
        (),
    ),
}


@pytest.mark.parametrize("fault", TRAIN_ROWS)
def test_train_refuses(call, place, fault: str) -> None:
    make, subject, words = TRAIN_ROWS[fault]
    arguments = make(place)
    before = place.files()
    call("train", *arguments).assert_refused(subject, *words)
    assert place.files() == before
