"""Calls of infer.py that are refused: one line that helps, and nothing written."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import infer
from swin_unet import checkpoint as checkpoints

# Make the fault in a Workplace and return the arguments; then subject and words of the message.
Row = tuple[Callable[[Any], list[str | Path]], str, tuple[str, ...]]


def copy(source: Path, target: Path) -> Path:
    target.parent.mkdir(exist_ok=True)
    return Path(shutil.copy(source, target))


def two_outputs(place):
    other = copy(place.image(), place.folder / "other" / "phantom_001.nii.gz")
    return [*place.infer()[:2], "--input", place.image(), other, "--output", place.output]


def one_of_two_channels_missing(place):
    images = place.folder / "images"
    for number in (0, 2):
        copy(place.image(), images / f"a_000{number}.nii.gz")
    return place.infer(input=images)


def surplus_channel(place):
    images = place.folder / "images"
    for number in (0, 1):
        copy(place.image(), images / f"a_000{number}.nii.gz")
    return place.infer(input=images)


def channels_on_two_grids(place):
    arguments = surplus_channel(place)
    place.shift(place.folder / "images" / "a_0001.nii.gz")
    return arguments


def empty_input(place):
    (place.folder / "empty").mkdir()
    return place.infer(input=place.folder / "empty")


def no_label(place):
    place.label().unlink()
    return place.infer(labels=place.data / "labelsTr")


def other_weights(place):
    weights = checkpoints.load(place.runs["resize"] / "best.pt")["model"]
    renamed = {key.replace("encoder", "backbone"): value for key, value in weights.items()}
    return place.infer(checkpoint=place.checkpoint(model=renamed))


def truncated_checkpoint(place):
    path = copy(place.runs["resize"] / "best.pt", place.folder / "best.pt")
    place.truncate(path)
    return place.infer(checkpoint=path)


class Payload:
    """Leaves a trace when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def pickled_code(place):
    path = place.folder / "code.pt"
    path.write_bytes(pickle.dumps(Payload(place.output)))
    return place.infer(checkpoint=path)


def pickled_code_by_torch(place):
    return place.infer(checkpoint=place.checkpoint(model=Payload(place.output)))


def other_content(place):
    torch.save({"state_dict": {}}, place.folder / "other.pt")
    return place.infer(checkpoint=place.folder / "other.pt")


def part_without_split(place):
    path = copy(place.runs["resize"] / "best.pt", place.folder / "alone" / "best.pt")
    return place.infer("--part", "val", checkpoint=path)


def part_of_damaged_split(place):
    arguments = part_without_split(place)
    (place.folder / "alone" / "split.json").write_text("{")
    return arguments


def output_is_a_file(place):
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
    "empty input folder": (empty_input, "empty", ("NIfTI (.nii", "none in this folder")),
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
def test_infer_refuses_wrong_usage(place, capsys, usage: tuple[str, str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        infer.main([str(argument) for argument in place.infer(*usage)])
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("infer.py: error: ")
    assert usage[0] in message


@pytest.mark.parametrize("fault", INFER_ROWS)
def test_infer_refuses(call, place, fault: str) -> None:
    make, subject, words = INFER_ROWS[fault]
    arguments = make(place)
    before = place.files()
    run_before = sorted(place.runs["resize"].rglob("*"))
    call("infer", *arguments).assert_refused(subject, *words)
    assert place.files() == before
    assert sorted(place.runs["resize"].rglob("*")) == run_before
    if fault.endswith("code"):
        assert not place.output.exists()
