"""Every fault of the input: exit code 2, one line that helps, and nothing written."""

from __future__ import annotations

import json
import os
import pickle
import re
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml

import infer
from swin_unet import checkpoint as checkpoints

Arguments = list[str | Path]
LINE = re.compile(r"error: (?P<subject>.+?): expected (.+), found (.+?)\. (?P<fix>[A-Z].*)")


@dataclass(frozen=True)
class Workplace:
    """A folder of its own for one fault, with copies of what the fault may damage.

    Attributes:
        folder: Holds all of it.
        config: A good configuration file.
        runs: Run folders by fit, not to be changed.
    """

    folder: Path
    config: Path
    runs: dict[str, Path]

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def output(self) -> Path:
        return self.folder / "output"

    def image(self, number: int = 1) -> Path:
        return self.data / "imagesTr" / f"phantom_00{number}.nii.gz"

    def label(self, number: int = 1) -> Path:
        return self.data / "labelsTr" / f"phantom_00{number}.nii.gz"

    def infer(self, *more: str | Path, **changes: Path) -> Arguments:
        """Segment the first image, unless changed."""
        options = {
            "checkpoint": self.runs["resize"] / "best.pt",
            "input": self.image(),
            "output": self.output,
            **changes,
        }
        return [*(item for key in options for item in (f"--{key}", options[key])), *more]

    def train(self, *more: str | Path, **changes: Path) -> Arguments:
        """Train on the cases 1 and 2, validate by case 3."""
        split = {"train": ["phantom_001", "phantom_002"], "val": ["phantom_003"], "test": []}
        (self.folder / "split.json").write_text(json.dumps(split))
        options = {
            "config": self.config,
            "data.root": self.data,
            "data.split_file": self.folder / "split.json",
            "data.cache_dir": self.folder / "cache",
            "output_dir": self.output,
            **changes,
        }
        return [*(item for key in options for item in (f"--{key}", options[key])), *more]

    def resume(self, *more: str | Path) -> Arguments:
        """Continue a copy of the run, unless it is done."""
        shutil.copytree(self.runs["resize"], self.output)
        return [*self.train(), "--resume", "auto", *more]

    def checkpoint(self, **changes: Any) -> Path:
        """Copy a good checkpoint with changes to its content."""
        content = checkpoints.load(self.runs["resize"] / "best.pt")
        path = self.folder / "changed.pt"
        torch.save({**content, **changes}, path)
        return path

    def files(self) -> dict[Path, bytes]:
        """Return all files but those of the cache, which may be filled before a fault is met."""
        return {
            path: path.read_bytes()
            for path in self.folder.rglob("*")
            if path.is_file() and self.folder / "cache" not in path.parents
        }


@pytest.fixture
def place(tmp_path: Path, data: Path, config: Path, resize_run: Path, crop_run: Path) -> Workplace:
    shutil.copytree(data, tmp_path / "data")
    return Workplace(tmp_path, config, {"resize": resize_run, "crop": crop_run})


def assert_refused(outcome: Any, subject: str, *words: str) -> None:
    """Check exit code and message: one line that names the subject and holds the words."""
    assert outcome.code == 2
    assert "Traceback" not in outcome.stderr
    (line,) = (line for line in outcome.stderr.splitlines() if "error" in line)
    match = LINE.fullmatch(line)
    assert match, line
    assert subject in match["subject"], line
    for word in words:
        assert word in line


def rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray], dtype: Any = None) -> None:
    """Change the voxels of a NIfTI file."""
    image = nib.load(path)
    voxels = change(np.asarray(image.dataobj))
    nib.save(nib.Nifti1Image(voxels.astype(dtype or voxels.dtype), image.affine), path)


def set_first(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(voxels: np.ndarray) -> np.ndarray:
        voxels = voxels.astype(np.float32)
        voxels[0, 0, 0] = value
        return voxels

    return change


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def shift(path: Path) -> None:
    """Move a volume by 5 mm."""
    image = nib.load(path)
    affine = image.affine + np.array([[0, 0, 0, 5.0]] + [[0] * 4] * 3)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), path)


def copy(source: Path, target: Path) -> Path:
    target.parent.mkdir(exist_ok=True)
    return Path(shutil.copy(source, target))


# Faults of an image: how to make one, and words of the message. Both commands meet them.
IMAGE_FAULTS: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "truncated": (truncate, ("complete NIfTI file", "truncated", "again")),
    "empty file": (lambda path: path.write_bytes(b"") and None, ("NIfTI", "truncated")),
    "2D": (lambda path: rewrite(path, lambda voxels: voxels[..., 0]), ("3D volume", "2D data")),
    "4D": (
        lambda path: rewrite(path, lambda voxels: np.stack([voxels, voxels], axis=-1)),
        ("1 ", "channel", "2"),
    ),
    "5D": (
        lambda path: rewrite(path, lambda v: np.broadcast_to(v[..., None, None], (*v.shape, 2, 2))),
        ("3D volume", "5D data"),
    ),
    "NaN": (lambda path: rewrite(path, set_first(np.nan)), ("finite voxels", "1 of 12288", "NaN")),
    "infinite": (lambda path: rewrite(path, set_first(np.inf)), ("finite voxels", "1 of 12288")),
}
# Faults of a label map, for both commands as well.
LABEL_FAULTS: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "value beyond the classes": (
        lambda path: rewrite(path, set_first(3), np.uint8),
        ("from 0 to 2", "1 voxels with 3"),
    ),
    "probabilities": (lambda path: rewrite(path, set_first(0.5)), ("integer", "0.5")),
    "other grid": (shift, ("grid of", "imagesTr", "origin", "Resample")),
    "other shape": (
        lambda path: rewrite(path, lambda voxels: voxels[:, :, 1:]),
        ("grid of", "imagesTr", "shape"),
    ),
    "4D": (
        lambda path: rewrite(path, lambda voxels: np.stack([voxels, voxels], axis=-1)),
        ("3D label map", "4D"),
    ),
    "truncated": (truncate, ("complete NIfTI file", "truncated")),
}


@pytest.mark.parametrize("fault", IMAGE_FAULTS)
def test_infer_refuses_an_image(call, place: Workplace, fault: str) -> None:
    spoil, words = IMAGE_FAULTS[fault]
    spoil(place.image())
    before = place.files()
    assert_refused(call("infer", *place.infer()), str(place.image()), *words)
    assert place.files() == before


@pytest.mark.parametrize("number", [1, 3], ids=["train", "val"])
@pytest.mark.parametrize("fault", IMAGE_FAULTS)
def test_train_refuses_an_image(call, place: Workplace, fault: str, number: int) -> None:
    spoil, words = IMAGE_FAULTS[fault]
    spoil(place.image(number))
    arguments = place.train()
    before = place.files()
    assert_refused(call("train", *arguments), str(place.image(number)), *words)
    assert place.files() == before
    assert not list(place.folder.rglob(".*"))


@pytest.mark.parametrize("fault", LABEL_FAULTS)
def test_infer_refuses_a_label_map(call, place: Workplace, fault: str) -> None:
    spoil, words = LABEL_FAULTS[fault]
    spoil(place.label())
    before = place.files()
    arguments = place.infer(labels=place.data / "labelsTr")
    assert_refused(call("infer", *arguments), str(place.label()), *words)
    assert place.files() == before


@pytest.mark.parametrize("number", [1, 3], ids=["train", "val"])
@pytest.mark.parametrize("fault", LABEL_FAULTS)
def test_train_refuses_a_label_map(call, place: Workplace, fault: str, number: int) -> None:
    spoil, words = LABEL_FAULTS[fault]
    spoil(place.label(number))
    arguments = place.train()
    before = place.files()
    assert_refused(call("train", *arguments), str(place.label(number)), *words)
    assert place.files() == before


# Every other fault: make it, return the arguments; then the subject and words of the message.
Row = tuple[Callable[[Workplace], Arguments], str, tuple[str, ...]]


def two_outputs(place: Workplace) -> Arguments:
    other = copy(place.image(), place.folder / "other" / "phantom_001.nii.gz")
    return [*place.infer()[:2], "--input", place.image(), other, "--output", place.output]


def one_of_two_channels_missing(place: Workplace) -> Arguments:
    images = place.folder / "images"
    for number in (0, 2):
        copy(place.image(), images / f"a_000{number}.nii.gz")
    return place.infer(input=images)


def surplus_channel(place: Workplace) -> Arguments:
    images = place.folder / "images"
    for number in (0, 1):
        copy(place.image(), images / f"a_000{number}.nii.gz")
    return place.infer(input=images)


def channels_on_two_grids(place: Workplace) -> Arguments:
    arguments = surplus_channel(place)
    shift(place.folder / "images" / "a_0001.nii.gz")
    return arguments


def empty_input(place: Workplace) -> Arguments:
    (place.folder / "empty").mkdir()
    return place.infer(input=place.folder / "empty")


def no_label(place: Workplace) -> Arguments:
    place.label().unlink()
    return place.infer(labels=place.data / "labelsTr")


def other_weights(place: Workplace) -> Arguments:
    weights = checkpoints.load(place.runs["resize"] / "best.pt")["model"]
    renamed = {key.replace("encoder", "backbone"): value for key, value in weights.items()}
    return place.infer(checkpoint=place.checkpoint(model=renamed))


def truncated_checkpoint(place: Workplace) -> Arguments:
    path = copy(place.runs["resize"] / "best.pt", place.folder / "best.pt")
    truncate(path)
    return place.infer(checkpoint=path)


class Payload:
    """Leaves a trace when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def pickled_code(place: Workplace) -> Arguments:
    path = place.folder / "code.pt"
    path.write_bytes(pickle.dumps(Payload(place.output)))
    return place.infer(checkpoint=path)


def pickled_code_by_torch(place: Workplace) -> Arguments:
    return place.infer(checkpoint=place.checkpoint(model=Payload(place.output)))


def other_content(place: Workplace) -> Arguments:
    torch.save({"state_dict": {}}, place.folder / "other.pt")
    return place.infer(checkpoint=place.folder / "other.pt")


def part_without_split(place: Workplace) -> Arguments:
    path = copy(place.runs["resize"] / "best.pt", place.folder / "alone" / "best.pt")
    return place.infer("--part", "val", checkpoint=path)


def part_of_damaged_split(place: Workplace) -> Arguments:
    arguments = part_without_split(place)
    (place.folder / "alone" / "split.json").write_text("{")
    return arguments


def output_is_a_file(place: Workplace) -> Arguments:
    place.output.write_text("mine")
    return place.infer()


INFER_ROWS: dict[str, Row] = {
    "no such input": (
        lambda place: place.infer(input=place.folder / "nothing.nii.gz"),
        "nothing.nii.gz",
        ("a file", "nothing there", "Check the path"),
    ),
    "other format": (
        lambda place: place.infer(input=place.data / "dataset.json"),
        "dataset.json",
        ("NIfTI", ".json"),
    ),
    "empty input folder": (empty_input, "empty", ("NIfTI files", "none in this folder")),
    "two inputs, one output": (two_outputs, "phantom_001", ("one output file per input", "other")),
    "channel number missing": (one_of_two_channels_missing, "a_0000", ("_0001", "a_0002")),
    "too many channels": (surplus_channel, "a_0000", ("1 image channel", "found 2")),
    "channels on two grids": (channels_on_two_grids, "a_0000", ("grid of", "a_0001", "origin")),
    "output is the input's": (
        lambda place: place.infer(output=place.data / "imagesTr"),
        "imagesTr",
        ("folder of the input", "overwritten"),
    ),
    "output is the labels'": (
        lambda place: place.infer(labels=place.data / "labelsTr", output=place.data / "labelsTr"),
        "labelsTr",
        ("folder of the labels", "overwritten"),
    ),
    "output is the run folder": (
        lambda place: place.infer(output=place.runs["resize"]),
        "resize",
        ("folder of the checkpoint", "overwritten"),
    ),
    "output is a file": (output_is_a_file, "output", ("expected a folder", "found a file")),
    "no label": (no_label, "labelsTr", ("phantom_001", "none")),
    "part without split": (part_without_split, "split.json", ("no such file",)),
    "part of damaged split": (part_of_damaged_split, "split.json", ("valid JSON",)),
    "no such checkpoint": (
        lambda place: place.infer(checkpoint=place.folder / "best.pt"),
        "best.pt",
        ("no such file", "path of a best.pt"),
    ),
    "truncated checkpoint": (truncated_checkpoint, "best.pt", ("unreadable", "copy the file")),
    "pickled code": (pickled_code, "code.pt", ("checkpoint that train.py wrote", "never run")),
    "code in a checkpoint": (pickled_code_by_torch, "changed.pt", ("never run",)),
    "other content": (other_content, "other.pt", ("other content",)),
    "volume as checkpoint": (
        lambda place: place.infer(checkpoint=place.image()),
        "phantom_001",
        ("checkpoint that train.py wrote", "unreadable"),
    ),
    "newer checkpoint": (
        lambda place: place.infer(checkpoint=place.checkpoint(format=99)),
        "changed.pt",
        ("format 99",),
    ),
    "other architecture": (other_weights, "changed.pt", ("same architecture", "encoder")),
    "resize instead of crop": (
        lambda place: place.infer("--fit", "crop"),
        "best.pt",
        ("fit crop", "found fit resize"),
    ),
    "crop instead of resize": (
        lambda place: place.infer("--fit", "resize", checkpoint=place.runs["crop"] / "best.pt"),
        "best.pt",
        ("fit resize", "found fit crop"),
    ),
    "overlap of resized slices": (
        lambda place: place.infer("--overlap", "0.5"),
        "--overlap",
        ("fit resize", "0.5", "Remove it"),
    ),
    "no such device": (lambda place: place.infer("--device", "cuda:99"), "device", ("cuda:99",)),
    "half precision on a CPU": (
        lambda place: place.infer("--device", "cpu", "--precision", "fp16"),
        "precision",
        ("fp32 or bf16",),
    ),
}


@pytest.mark.parametrize(
    "usage", [("--overlap", "1.5"), ("--batch_size", "0"), ("--batch_size", "a"), ("--lables", "x")]
)
def test_infer_refuses_wrong_usage(place: Workplace, capsys, usage: tuple[str, str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        infer.main([str(argument) for argument in place.infer(*usage)])
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("infer.py: error: ")
    assert usage[0] in message


@pytest.mark.parametrize("fault", INFER_ROWS)
def test_infer_refuses(call, place: Workplace, fault: str) -> None:
    make, subject, words = INFER_ROWS[fault]
    arguments = make(place)
    before = place.files()
    run_before = sorted(place.runs["resize"].rglob("*"))
    assert_refused(call("infer", *arguments), subject, *words)
    assert place.files() == before
    assert sorted(place.runs["resize"].rglob("*")) == run_before
    if fault.endswith("code"):
        assert not place.output.exists()


def config_of(place: Workplace, section: str, **options: Any) -> Arguments:
    """Train by a configuration file with other options in one section."""
    content = yaml.safe_load(place.config.read_text())
    return config_file(place, **{section: content[section] | options})


def config_file(place: Workplace, **sections: Any) -> Arguments:
    """Train by a configuration file with other sections."""
    content = yaml.safe_load(place.config.read_text())
    path = place.folder / "changed.yaml"
    path.write_text(yaml.safe_dump(content | sections))
    return place.train(config=path)


def no_root(place: Workplace) -> Arguments:
    content = yaml.safe_load(place.config.read_text())
    del content["data"]["root"]
    (place.folder / "changed.yaml").write_text(yaml.safe_dump(content))
    return ["--config", place.folder / "changed.yaml", "--output_dir", place.output]


def no_dataset_json(place: Workplace) -> Arguments:
    (place.data / "dataset.json").unlink()
    return place.train()


def described(place: Workplace, **changes: Any) -> Arguments:
    """Train on a data set that describes itself otherwise."""
    path = place.data / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return place.train()


def no_image(place: Workplace) -> Arguments:
    place.image().unlink()
    return place.train()


def unknown_names(place: Workplace) -> Arguments:
    split = place.folder / "other.json"
    split.write_text(json.dumps({"train": ["phantom_001"], "val": ["nobody"], "test": []}))
    return place.train(**{"data.split_file": split})


def other_run(place: Workplace) -> Arguments:
    """Resume a run in the folder of another."""
    path = place.runs["crop"] / "last.pt"
    return [*place.resume()[:-2], "--resume", path]


def damaged_last(place: Workplace) -> Arguments:
    arguments = place.resume()
    truncate(place.output / "last.pt")
    return arguments


def train_into_a_file(place: Workplace) -> Arguments:
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
    "resume another architecture": (
        lambda place: place.resume("--model.embed_dim", "16"),
        "last.pt",
        ("same architecture",),
    ),
    "resume another optimizer": (
        lambda place: place.resume("--train.optimizer", "sgd"),
        "last.pt",
        ("optimizer sgd", "adamw"),
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
def test_train_refuses(call, place: Workplace, fault: str) -> None:
    make, subject, words = TRAIN_ROWS[fault]
    arguments = make(place)
    before = place.files()
    assert_refused(call("train", *arguments), subject, *words)
    assert place.files() == before


@contextmanager
def file_size_limit(num_bytes: int) -> Iterator[None]:
    """Let the system refuse larger files (EFBIG), as it refuses all on a full disk (ENOSPC)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", ["big.nii", "big.nii.gz"])
def test_full_disk_leaves_no_piece_of_a_label_map(call, place: Workplace, name: str) -> None:
    image = nib.load(place.image())
    nib.save(image, place.folder / name)
    before = place.files()
    with file_size_limit(200 if name.endswith("gz") else 8000):
        outcome = call("infer", *place.infer(input=place.folder / name))
    assert_refused(outcome, str(place.output / name), "a place to write to", "File too large")
    assert place.files() == before


def test_full_disk_leaves_the_last_checkpoint(call, place: Workplace) -> None:
    arguments = place.resume("--train.epochs", "5")
    before = checkpoints.load(place.output / "last.pt")
    size = (place.output / "last.pt").stat().st_size
    with file_size_limit(size * 2 // 3):
        outcome = call("train", *arguments)
    assert_refused(outcome, str(place.output / "last.pt"), "a place to write to", "Free some space")
    assert not list(place.output.rglob(".*"))
    after = checkpoints.load(place.output / "last.pt")
    assert after["epoch"] == before["epoch"] == 4
    assert all(torch.equal(after["model"][key], value) for key, value in before["model"].items())
    assert call("train", *arguments).code == 0  # once there is space again
    assert checkpoints.load(place.output / "last.pt")["epoch"] == 5


@pytest.mark.parametrize("script", ["train", "infer"])
def test_unwritable_output_folder_is_refused(call, place: Workplace, script: str) -> None:
    place.output.mkdir()
    place.output.chmod(0o555)
    if os.access(place.output, os.W_OK):
        pytest.skip("this user may write anywhere")
    arguments = place.train() if script == "train" else place.infer()
    assert_refused(call(script, *arguments), str(place.output), "a place to write to", "denied")
    assert not list(place.output.iterdir())
