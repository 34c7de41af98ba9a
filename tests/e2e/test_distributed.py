"""Several processes, as torchrun starts them, against one."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from swin_unet import checkpoint as checkpoints
from tests.e2e.conftest import Command

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
SGD = ("--model.drop_path_rate=0", "--train.optimizer=sgd", "--train.learning_rate=0.05")
ENDED = "error: torchrun: expected all processes of the job to run to its end"
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def train(command: Command, config: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Train by two processes."""

    def run(folder: Path, *more: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        arguments = ("train.py", "--config", config, "--output_dir", folder)
        return command(*TORCHRUN, *arguments, *more, code=code)

    return run


def errors(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if line.startswith("error:")]


def read_metrics(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    content: dict[str, torch.Tensor] = checkpoints.load(folder / "last.pt")["model"]
    return content


def test_losses_and_gradients_are_those_of_the_whole_batch(command: Command) -> None:
    done = command(*TORCHRUN, "--module", "tests.e2e.distributed_gradients")
    assert sorted(done.stdout.split("\n")) == ["", "process 0: equal", "process 1: equal"]


def test_two_processes_train_as_one(
    command: Command, train: Any, config: Path, tmp_path: Path
) -> None:
    options = (*SGD, "--train.epochs=3", "--train.gradient_clip=1", "--train.deep_supervision=true")
    one, two = tmp_path / "one", tmp_path / "two"
    command("train.py", "--config", config, "--output_dir", one, *options)
    done = train(two, *options)

    for ours, theirs in zip(read_metrics(two), read_metrics(one), strict=True):
        for name in ("train/loss", "train/ce", "train/dice"):
            assert float(ours[name]) == pytest.approx(float(theirs[name]), abs=1e-6)
        for name in ("epoch", "step", "learning_rate"):
            assert ours[name] == theirs[name]
        for name in (key for key in theirs if key.startswith("dice/")):
            assert float(ours[name]) == pytest.approx(float(theirs[name]), abs=1e-6)
    ours, theirs = weights(two), weights(one)
    assert ours.keys() == theirs.keys()
    assert not any("heads" in name for name in ours)
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=0, atol=1e-6)

    # Everything is written and said once.
    def names(folder: Path) -> list[str]:
        return sorted(path.name.split(".")[0] for path in folder.rglob("*"))

    assert names(two) == names(one)
    assert [line.split("  ")[0] for line in done.stdout.splitlines()].count("epoch 1/3") == 1
    log = (two / "log.txt").read_text()
    assert log.count("epoch 3/3") == 1
    assert json.loads((two / "run.json").read_text())["num_processes"] == 2


@pytest.mark.parametrize("task", ["simmim", "classification"])
def test_two_processes_pretrain_and_classify_as_one(
    command: Command, data: Path, tmp_path: Path, task: str
) -> None:
    network = {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4}
    name = "swin_unet" if task == "simmim" else "swin_classifier"
    content = {
        "task": task,
        "model": {**network, "name": name, "drop_path_rate": 0.0},
        "data": {
            **{"root": str(data), "cache_dir": str(tmp_path / "cache"), "val_fraction": 0.4},
            **{"intensity": "window", "window": [-125, 275], "image_size": [32, 32]},
        },
        "train": {
            **{"epochs": 2, "batch_size": 4, "learning_rate": 0.01, "device": "cpu"},
            **{"num_workers": 0, "precision": "fp32"},
        },
    }
    config = tmp_path / "task.yaml"
    config.write_text(yaml.safe_dump(content))
    one, two = tmp_path / "one", tmp_path / "two"
    command("train.py", "--config", config, "--output_dir", one)
    command(*TORCHRUN, "train.py", "--config", config, "--output_dir", two)
    for ours, theirs in zip(read_metrics(two), read_metrics(one), strict=True):
        same = [key for key in theirs if key == "train/loss" or key.endswith("/mean")]
        assert len(same) == 2
        for key in same:
            assert float(ours[key]) == pytest.approx(float(theirs[key]), abs=1e-5)
    for key, value in weights(one).items():
        torch.testing.assert_close(weights(two)[key], value, rtol=0, atol=1e-5)


def process_of(torchrun: int, rank: int) -> int:
    """Return the process id of one of torchrun's processes."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                parent = (folder / "stat").read_text().rsplit(")", 1)[1].split()[1]
                environment = (folder / "environ").read_text().split("\0")
            except OSError:
                continue
            if int(parent) == torchrun and f"RANK={rank}" in environment:
                return int(folder.name)
    raise AssertionError(f"no process {rank}")


def wait_for_step(folder: Path, process: subprocess.Popen[str], epoch: int) -> None:
    """Wait until an epoch is written down."""
    deadline = time.monotonic() + 120
    while f"epoch {epoch}/" not in _read(folder / "log.txt"):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _read(path: Path) -> str:
    return path.read_text() if path.is_file() else ""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in /proc")
def test_a_job_that_is_stopped_or_loses_a_process_goes_on_exactly(
    start: Start, train: Any, config: Path, tmp_path: Path
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    options = ("--train.epochs=16", "--model.drop_path_rate=0.3", "--train.val_interval=16")
    train(whole, *options)
    again = (*TORCHRUN, "train.py", "--config", config, "--output_dir", broken, *options)
    again = (*again, "--resume", "auto")

    job = start(*again)
    wait_for_step(broken, job, 2)
    job.send_signal(signal.SIGTERM)
    job.communicate(timeout=120)
    assert job.returncode != 0
    log = (broken / "log.txt").read_text()
    assert log.count("stopped by SIGTERM; everything is saved") == 1
    assert "--resume auto" in log

    job = start(*again)
    wait_for_step(broken, job, checkpoints.load(broken / "last.pt")["epoch"] + 2)
    os.kill(process_of(job.pid, rank=1), signal.SIGKILL)
    _, stderr = job.communicate(timeout=120)
    assert job.returncode != 0
    assert [line[: len(ENDED)] for line in errors(stderr)] == [ENDED]
    assert checkpoints.load(broken / "last.pt")["epoch"] < 16

    train(broken, *options, "--resume", "auto")
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(broken)[name]), name


def test_infer_shares_the_cases_and_reports_once(
    command: Command, resize_run: Path, data: Path, tmp_path: Path
) -> None:
    options = ("--checkpoint", resize_run / "best.pt", "--input", data / "imagesTr")
    options = (*options, "--labels", data / "labelsTr")
    one, two = tmp_path / "one", tmp_path / "two"
    alone = command("infer.py", *options, "--output", one)
    shared = command(*TORCHRUN, "infer.py", *options, "--output", two)
    names = sorted(path.name for path in one.iterdir())
    assert sorted(path.name for path in two.iterdir()) == names
    for name in set(names) - {"run.json"}:
        assert (two / name).read_bytes() == (one / name).read_bytes(), name
    cases = [json.loads((folder / "run.json").read_text())["cases"] for folder in (one, two)]
    assert [case["case"] for case in cases[1]] == [case["case"] for case in cases[0]]
    table = alone.stdout[alone.stdout.index("Protocol") :]
    assert shared.stdout.endswith(table)
    titles = [line.split(":")[0] for line in shared.stdout.splitlines() if line.startswith("[")]
    assert sorted(titles) == [f"[{n}/5] phantom_00{n}" for n in range(1, 6)]


@pytest.mark.parametrize(
    ("option", "subject"),
    [
        ("--train.batch_size=3", "train.batch_size: expected a multiple of the 2 processes"),
        ("--train.class_weights=[1,2]", "train.class_weights: expected 3 numbers"),
        ("--train.epochs=0", "train.epochs: expected at least 1"),
    ],
)
def test_what_all_processes_refuse_is_told_once(
    train: Any, tmp_path: Path, option: str, subject: str
) -> None:
    stderr = train(tmp_path / "run", option, code=1).stderr
    (line,) = errors(stderr)
    assert line.startswith(f"error: {subject}")
    assert not (tmp_path / "run" / "config.yaml").exists()
