"""A tiny data set, tiny trained networks, and two ways to run a command."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
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
from swin_unet import checkpoint as checkpoints
from swin_unet.cli import run
from tests.e2e.bad_data import Bench

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
Arguments = list[str | Path]
ERROR_LINE = re.compile(r"error: (?P<subject>.+?): expected (.+), found (.+?)\. ([A-Z].*)")


@dataclass(frozen=True)
class Outcome:
    """What a command that ran in this process ended with."""

    code: int
    stdout: str
    stderr: str

    def assert_refused(self, subject: str, *words: str) -> None:
        """Check exit code and message: one line that names the subject and holds the words."""
        assert self.code == 2
        assert "Traceback" not in self.stderr
        (line,) = (line for line in self.stderr.splitlines() if "error" in line)
        match = ERROR_LINE.fullmatch(line)
        assert match, line
        assert subject in match["subject"], line
        for word in words:
            assert word in line


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a Python command in the checkout, as a user would, with one thread.

    What a failed test has left running is ended with the session: an abandoned process would
    warn in some later test and fail that one too.
    """
    started: list[subprocess.Popen[str]] = []

    def popen(*arguments: str | Path, **options: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf8",
            **options,
        )
        started.append(process)
        return process

    yield popen
    for process in started:
        process.kill()
        with process:  # closes its pipes, which what it started may hold, and waits for it
            pass


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
        options = {"data.split_file": self.folder / "split.json", **changes}
        return [*self._train_here(options), *more]

    def resume(self, *more: str | Path) -> Arguments:
        """Continue a copy of the run, unless it is done."""
        shutil.copytree(self.runs["resize"], self.output)
        return [*self._train_here({}), "--resume", "auto", *more]

    def _train_here(self, changes: dict[str, Path]) -> Arguments:
        options = {
            "config": self.config,
            "data.root": self.data,
            "data.cache_dir": self.folder / "cache",
            "output_dir": self.output,
            **changes,
        }
        return [item for key in options for item in (f"--{key}", options[key])]

    def checkpoint(self, **changes: Any) -> Path:
        """Copy a good checkpoint with changes to its content."""
        content = checkpoints.load(self.runs["resize"] / "best.pt")
        path = self.folder / "changed.pt"
        torch.save({**content, **changes}, path)
        return path

    @staticmethod
    def truncate(path: Path) -> None:
        """Cut off the second half of a file."""
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    @staticmethod
    def shift(path: Path) -> None:
        """Move a volume by 5 mm."""
        image = nib.load(path)
        affine = image.affine + np.array([[0, 0, 0, 5.0]] + [[0] * 4] * 3)
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), path)

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


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Give an empty folder for a small data set with a fault."""
    return Bench(tmp_path)
