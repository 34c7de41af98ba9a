"""Runs that end before their time, by whatever cause, go on as if nothing had happened."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.faults import kill_children
from benchmarks.kill_points import differences, prepare, try_one
from swin_unet import checkpoint as checkpoints
from swin_unet.training.tasks import SegmentationTask

ROOT = Path(__file__).resolve().parents[2]
ARGUMENTS = Callable[..., list[str]]


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration with everything that has a state: drop path, average, parts, warm-up."""
    return prepare(tmp_path_factory.mktemp("interruptions"))


@pytest.fixture(scope="session")
def whole(settings: Path, command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing interrupts: 4 epochs of 9 steps, validated every second one."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    command("train.py", "--config", settings, "--output_dir", folder)
    return folder


@pytest.fixture
def train(call, settings: Path, tmp_path: Path) -> Callable[..., Any]:
    """Train or resume in a folder of the test's own, in this process."""

    def run(*more: str) -> Any:
        options = ("--config", settings, "--output_dir", tmp_path / "run", "--resume", "auto")
        return call("train", *options, "--train.num_workers", "0", *more)

    return run


def assert_goes_on(train, whole: Path, folder: Path) -> None:
    """Check that what is left of a run comes to the same end."""
    outcome = train()
    assert outcome.code == 0, outcome.stderr
    assert "resumed" in outcome.stdout
    assert differences(whole, folder) == []
    assert not list(folder.rglob(".*"))


def at_step(monkeypatch, step: int, action: Callable[[], Any]) -> None:
    """Do something when the loss of a step, from 1 on, is computed (two parts to a step)."""
    original, calls = SegmentationTask.loss, []

    def loss(self, batch):
        calls.append(1)
        losses = original(self, batch)
        if len(calls) == 2 * step:
            changed = action()
            losses = losses if changed is None else changed
        return losses

    monkeypatch.setattr(SegmentationTask, "loss", loss)


@pytest.mark.parametrize("seed", range(4))
def test_killed_at_a_random_moment(settings: Path, whole: Path, tmp_path: Path, seed: int) -> None:
    """See `python -m benchmarks.kill_points` for fifty of them."""
    folder = tmp_path / "run"
    generator = np.random.default_rng(seed)
    try_one(settings, folder, 4.0, generator, twice=seed == 3)
    assert differences(whole, folder) == []


def running(start, settings: Path, folder: Path, *more: str, **options: Any) -> Any:
    """Start a run and wait for its first epoch."""
    arguments = ("train.py", "--config", settings, "--output_dir", folder, *more)
    process = start(*arguments, **options)
    while not (folder / "last.pt").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    return process


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"]
)
def test_a_signal_to_all_processes_saves_and_says_how_to_go_on(
    start, call, settings: Path, whole: Path, tmp_path: Path, number: int, code: int
) -> None:
    """As Ctrl-C on a terminal, and as the end of a job on a cluster: the loader gets it as well."""
    folder = tmp_path / "a run"
    options = ("--train.num_workers", "1")
    process = running(start, settings, folder, *options, start_new_session=True)
    os.killpg(process.pid, number)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == code, stderr
    assert "Traceback" not in stderr
    assert f"stopped by {signal.Signals(number).name}; everything is saved" in stdout
    last = checkpoints.load(folder / "last.pt")
    assert (last["epoch"], last["position"]) > (1, 0) or last["position"] == 0
    shown = shlex.split(stdout.splitlines()[-1])
    assert shown[:2] == ["python", "train.py"]
    assert call("train", *shown[2:]).code == 0
    assert differences(whole, folder) == []


def test_a_killed_loader_process_is_told(
    start, train, settings: Path, whole: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    process = running(start, settings, folder, "--train.num_workers", "1")
    kill_children(process)
    stdout, stderr = process.communicate()
    assert process.returncode == 2, stdout + stderr
    assert "Traceback" not in stderr
    assert "error: train.num_workers: expected loader processes that live" in stderr
    assert "SIGKILL" in stderr
    assert_goes_on(train, whole, folder)


def test_the_time_budget_ends_the_session_and_not_the_run(
    train, whole: Path, tmp_path: Path
) -> None:
    for step in (1, 2):
        outcome = train("--train.max_minutes", "1e-5")
        assert outcome.code == 0
        assert "stopped after 1e-05 minutes" in outcome.stdout
        assert "--resume auto" in outcome.stdout
        last = checkpoints.load(tmp_path / "run" / "last.pt")
        assert (last["epoch"], last["position"], last["step"]) == (0, step, step)
    assert_goes_on(train, whole, tmp_path / "run")


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing"])
def test_a_damaged_last_checkpoint_falls_back_to_the_one_before(
    train, whole: Path, tmp_path: Path, damage: str
) -> None:
    folder = shutil.copytree(whole, tmp_path / "run")
    path = folder / "last.pt"
    data = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(data[: len(data) // 2])
    else:
        data[len(data) // 2] ^= 4
        path.write_bytes(data)
    outcome = train()
    assert outcome.code == 0, outcome.stderr
    assert "last.previous.pt after epoch 3" in outcome.stdout
    if damage != "missing":
        assert "Going on from last.previous.pt instead" in outcome.stdout
    assert differences(whole, folder) == []


def test_killed_between_the_last_and_the_best_checkpoint(
    train, whole: Path, tmp_path: Path
) -> None:
    for name in ("older", "missing"):
        folder = shutil.copytree(whole, tmp_path / "run", dirs_exist_ok=True)
        best = folder / "best.pt"
        content = checkpoints.load(best)
        assert content["epoch"] == 4, "the last epoch must be the best of this run"
        best.unlink()
        if name == "older":
            checkpoints.save(best, {**content, "epoch": 2, "best_epoch": 2})
        assert train().code == 0
        assert differences(whole, folder) == []


def test_patience_ends_a_run_that_gets_no_better(train, tmp_path: Path, monkeypatch) -> None:
    original = SegmentationTask.validate
    scores = iter([0.5, 0.4, 0.4, 0.9])

    def validate(self, *arguments):
        validation = original(self, *arguments)
        validation.summary["mean"]["dice"] = next(scores)
        return validation

    monkeypatch.setattr(SegmentationTask, "validate", validate)
    outcome = train("--train.patience", "2", "--train.val_interval", "1")
    assert outcome.code == 0, outcome.stderr
    last = checkpoints.load(tmp_path / "run" / "last.pt")
    assert (last["epoch"], last["best_epoch"]) == (3, 1)
    outcome = train("--train.patience", "3", "--train.val_interval", "1")  # may go on
    assert checkpoints.load(tmp_path / "run" / "last.pt")["best_epoch"] == 4


# Faults while the run goes on.


def test_nan_in_a_batch_stops_the_run_and_names_its_cases(
    train, whole: Path, tmp_path: Path, monkeypatch
) -> None:
    nan = {name: torch.tensor(float("nan")) for name in ("loss", "ce", "dice")}
    with monkeypatch.context() as patch:
        bad = {name: value.requires_grad_() for name, value in nan.items()}
        at_step(patch, 13, lambda: bad)
        outcome = train("--train.save_minutes", "0")
    outcome.assert_refused("epoch 2, step 13", "a finite loss", "nan for slices of phantom_")
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "error: epoch 2, step 13" in log
    last = checkpoints.load(tmp_path / "run" / "last.pt")
    assert last["step"] == 12
    assert all(torch.isfinite(value).all() for value in last["model"].values())
    assert_goes_on(train, whole, tmp_path / "run")


def test_the_slices_of_a_case_vanish(
    train, settings: Path, whole: Path, tmp_path: Path, monkeypatch
) -> None:
    cache = tmp_path / "cache"

    def remove():
        for path in cache.rglob("*.npy"):
            path.unlink()

    with monkeypatch.context() as patch:
        at_step(patch, 12, remove)
        outcome = train("--data.cache_dir", str(cache))
    outcome.assert_refused(str(cache), "the cached slices", "--resume auto")
    assert checkpoints.load(tmp_path / "run" / "last.pt")["step"] == 12
    outcome = train("--data.cache_dir", str(cache))
    assert outcome.code == 0
    assert differences(whole, tmp_path / "run") == []


def test_a_validation_case_vanishes(
    train, settings: Path, whole: Path, tmp_path: Path, monkeypatch
) -> None:
    data = shutil.copytree(settings.parent / "data", tmp_path / "data")
    (name,) = _read_json(whole / "split.json")["val"]
    image = data / "imagesTr" / f"{name}.nii.gz"

    def take_away():
        image.rename(tmp_path / image.name)

    with monkeypatch.context() as patch:
        at_step(patch, 12, take_away)
        outcome = train("--data.root", str(data))
    outcome.assert_refused(image.name)
    last = checkpoints.load(tmp_path / "run" / "last.pt")
    assert (last["epoch"], last["position"]) == (1, 9)  # the epoch is not lost
    (tmp_path / image.name).rename(image)
    assert train("--data.root", str(data)).code == 0
    assert differences(whole, tmp_path / "run") == []


def test_the_run_folder_becomes_unwritable(train, whole: Path, tmp_path: Path, monkeypatch) -> None:
    folder, aside = tmp_path / "run", tmp_path / "aside"

    def replace():
        folder.rename(aside)
        folder.write_text("a file")

    with monkeypatch.context() as patch:
        at_step(patch, 12, replace)
        outcome = train()
    outcome.assert_refused(str(folder), "a place to write to")
    folder.unlink()
    aside.rename(folder)
    assert_goes_on(train, whole, folder)


DISK_FILLS = """
set -e
mount -t tmpfs -o size={size}k tmpfs {disk}
code=0
{train} || code=$?
ls -A {run} > {disk}/../names
mount -o remount,size=20m {disk}
{train}
cp -r {run} {disk}/../copy
exit $code
"""


def disk_size(run: Path, moment: str) -> int:
    """Return the KB of a disk too small for the second save, or for those after the first best.

    While last.pt is written, it is there three times: as it was, as it was before, and anew.
    """
    sizes = {
        path.relative_to(run).as_posix(): -(-path.stat().st_size // 4096) * 4
        for path in run.rglob("*")
        if path.is_file()
    }
    last, _, _ = (sizes.pop(name) for name in ("last.pt", "last.previous.pt", "best.pt"))
    return 7 * last // 4 if moment == "early" else 3 * last + sum(sizes.values())


@pytest.mark.parametrize("moment", ["early", "late"])
def test_a_real_disk_fills_up(settings: Path, whole: Path, tmp_path: Path, moment: str) -> None:
    size = disk_size(whole, moment)
    disk = tmp_path / "disk"
    disk.mkdir()
    run = disk / "run"
    options = ["--train.num_workers", "0", "--train.save_minutes", "0", "--resume", "auto"]
    train = [sys.executable, "train.py", "--config", str(settings), "--output_dir", str(run)]
    script = DISK_FILLS.format(size=size, disk=disk, run=run, train=shlex.join([*train, *options]))
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("this user may not mount file systems of its own")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        encoding="utf8",
    )
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = (line for line in done.stderr.splitlines() if "error" in line)
    assert "a place to write to, found No space left on device. Free some space" in line
    assert "Traceback" not in done.stderr
    names = (tmp_path / "names").read_text().split()
    assert not [name for name in names if name.startswith(".")]
    assert differences(whole, tmp_path / "copy") == []


def _read_json(path: Path) -> Any:
    import json

    return json.loads(path.read_text(encoding="utf8"))
