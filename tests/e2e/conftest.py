"""A tiny data set, tiny trained networks, and two ways to run a command."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml

from datasets.phantom import write_phantoms
from swin_unet.cli import run

ROOT = Path(__file__).resolve().parents[2]
SETTINGS: dict[str, Any] = {
    "seed": 3,
    "model": {
        "patch_size": 2,
        "embed_dim": 8,
        "depths": [2, 2],
        "num_heads": [1, 2],
        "window_size": 4,
        "skips": 1,
    },
    "data": {
        "val_fraction": 0.4,
        "test_fraction": 0.2,
        "intensity": "window",
        "window": [-125, 275],
        "image_size": [24, 24],
    },
    "train": {
        "epochs": 4,
        "batch_size": 4,
        "optimizer": "adamw",
        "learning_rate": 0.003,
        "num_workers": 0,
        "device": "cpu",
        "precision": "fp32",
    },
}
# Resampled slices, several windows per slice, and context: all that `resize` does not do.
CROP = {
    "--data.fit": "crop",
    "--data.image_size": "[16, 20]",
    "--data.spacing_mm": "[12, 11]",
    "--data.context_slices": "3",
}
Command = Callable[..., "subprocess.CompletedProcess[str]"]


@dataclass(frozen=True)
class Outcome:
    """What a command that ran in this process ended with."""

    code: int
    stdout: str
    stderr: str


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def start() -> Callable[..., subprocess.Popen[str]]:
    """Start a Python command in the checkout, as a user would, with one thread."""

    def popen(*arguments: str | Path, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    return popen


@pytest.fixture(scope="session")
def command(start: Callable[..., subprocess.Popen[str]]) -> Command:
    """Run a Python command in the checkout to its end; it must succeed unless told otherwise."""

    def complete(
        *arguments: str | Path, code: int = 0, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        process = start(*arguments, **options)
        stdout, stderr = process.communicate(timeout=300)
        assert process.returncode == code, stderr
        return subprocess.CompletedProcess(process.args, code, stdout, stderr)

    return complete


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run train.py or infer.py in this process, where no time goes into imports."""

    def call_main(script: str, *arguments: str | Path) -> Outcome:
        main = importlib.import_module(script).main
        capsys.readouterr()
        code = run(lambda: main([str(argument) for argument in arguments]))
        return Outcome(code, *capsys.readouterr())

    return call_main


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five phantoms with two labels that a tiny network learns at once: body and organs."""
    root = tmp_path_factory.mktemp("data") / "phantoms"
    write_phantoms(root, cases=5, test_cases=0, seed=0, size=(32, 32, 12))
    for path in (root / "labelsTr").iterdir():
        label, image = nib.load(path), nib.load(root / "imagesTr" / path.name)
        values = np.where(np.asarray(label.dataobj) > 0, 2, np.asarray(image.dataobj) > -300)
        nib.save(nib.Nifti1Image(values.astype(np.uint8), label.affine, label.header), path)
    description = json.loads((root / "dataset.json").read_text())
    description["labels"] = {"0": "background", "1": "body", "2": "organs"}
    (root / "dataset.json").write_text(json.dumps(description))
    return root


@pytest.fixture(scope="session")
def config(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration file for the phantoms."""
    folder = tmp_path_factory.mktemp("config")
    paths = {"root": str(data), "cache_dir": str(folder / "cache")}
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({**SETTINGS, "data": {**SETTINGS["data"], **paths}}))
    return path


@pytest.fixture(scope="session")
def resize_run(command: Command, config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with fit `resize`."""
    folder = tmp_path_factory.mktemp("runs") / "resize"
    command("train.py", "--config", config, "--output_dir", folder)
    return folder


@pytest.fixture(scope="session")
def crop_run(command: Command, config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with fit `crop`."""
    folder = tmp_path_factory.mktemp("runs") / "crop"
    options = [f"{key}={value}" for key, value in CROP.items()]
    command("train.py", "--config", config, "--output_dir", folder, *options)
    return folder


@pytest.fixture(scope="session", params=["resize", "crop"])
def run_folder(request: pytest.FixtureRequest) -> Path:
    """The folder of a run, of either fit."""
    folder: Path = request.getfixturevalue(f"{request.param}_run")
    return folder
