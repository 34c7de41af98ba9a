"""Let things go wrong in a small training, show what it says, and see that it goes on exactly.

    unshare -rm python -m benchmarks.faults     some minutes; unshare for a small disk of its own

Every trial starts `train.py` on made-up volumes, waits for the first epoch, does something bad to
the run from outside, prints the messages of the run, takes the bad thing back, and goes on by
`--resume auto`. The end is compared bit by bit with that of a run to which nothing happened, as in
`benchmarks.kill_points`. Exits 1 when any run differs.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.kill_points import command, differences, prepare, run_to_end, start

EPOCHS = 10
DISK_MB = 40


@dataclass(frozen=True)
class Place:
    """Where a trial happens.

    Attributes:
        folder: Holds data, cache and configuration.
        run: The run folder, on the small disk.
    """

    folder: Path
    run: Path

    @property
    def disk(self) -> Path:
        """The small disk."""
        return self.run.parent

    def case(self, part: str) -> str:
        """Return the first case of a part of the split."""
        name: str = json.loads((self.run / "split.json").read_text(encoding="utf8"))[part][0]
        return name


Fault = Callable[[Place, "subprocess.Popen[str]"], AbstractContextManager[None]]


@contextmanager
def full_disk(place: Place, process: subprocess.Popen[str]) -> Iterator[None]:
    """Leave no byte free."""
    path = place.disk / "full"
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    yield
    path.unlink()


@contextmanager
def folder_taken(place: Place, process: subprocess.Popen[str]) -> Iterator[None]:
    """Put a file where the run folder is."""
    aside = place.disk / "aside"
    place.run.rename(aside)
    place.run.write_text("a file", encoding="utf8")
    yield
    place.run.unlink()
    aside.rename(place.run)


@contextmanager
def deleted(path: Path) -> Iterator[None]:
    """Take a file or folder away."""
    aside = path.with_name(f"aside_{path.name}")
    path.rename(aside)
    yield
    if path.is_dir():  # made again by the training
        shutil.rmtree(path)
    aside.rename(path)


def validation_case_deleted(
    place: Place, process: subprocess.Popen[str]
) -> AbstractContextManager[None]:
    """Delete the image of a validation case."""
    return deleted(place.folder / "data" / "imagesTr" / f"{place.case('val')}.nii.gz")


def training_case_deleted(
    place: Place, process: subprocess.Popen[str]
) -> AbstractContextManager[None]:
    """Delete the image of a training case."""
    return deleted(place.folder / "data" / "imagesTr" / f"{place.case('train')}.nii.gz")


def cached_slices_deleted(
    place: Place, process: subprocess.Popen[str]
) -> AbstractContextManager[None]:
    """Delete the slices of a training case from the cache."""
    return deleted(cache_entry(place))


@contextmanager
def nan_in_a_slice(place: Place, process: subprocess.Popen[str]) -> Iterator[None]:
    """Write NaN over one slice of a training case."""
    path = cache_entry(place) / "image.npy"
    slices = np.load(path, mmap_mode="r+")
    before = slices[5].copy()
    slices[5] = np.nan
    slices.flush()
    yield
    slices[5] = before
    slices.flush()


@contextmanager
def loader_process_killed(place: Place, process: subprocess.Popen[str]) -> Iterator[None]:
    """Kill the loader's processes, as a system does that runs out of memory."""
    kill_children(process)
    yield


def kill_children(process: subprocess.Popen[str]) -> None:
    """Kill whatever processes a process starts, until it ends itself."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while process.poll() is None:  # again and again: between two epochs there is none
        with suppress(FileNotFoundError, ProcessLookupError):  # it or a child has just ended
            for child in children.read_text(encoding="ascii").split():
                os.kill(int(child), signal.SIGKILL)
        time.sleep(0.01)


def cache_entry(place: Place) -> Path:
    """Return the cache's folder of a training case."""
    (entry,) = (place.folder / "cache").glob(f"{place.case('train')}-*")
    return entry


FAULTS: dict[str, Fault] = {
    "the disk is full": full_disk,
    "the run folder cannot be written": folder_taken,
    "a validation case is deleted": validation_case_deleted,
    "a training case is deleted": training_case_deleted,
    "cached slices are deleted": cached_slices_deleted,
    "NaN in one slice": nan_in_a_slice,
    "a loader process is killed": loader_process_killed,
}


def arguments_of(place: Place, num_workers: int) -> list[str]:
    """Return the command of all trials."""
    options = ("--train.epochs", EPOCHS, "--train.num_workers", num_workers, "--resume", "auto")
    often = ("--train.save_minutes", 0)  # so that the checkpoint is what finds the disk full
    return command(place.folder / "config.yaml", place.run, *options, *often)


def try_fault(place: Place, fault: Fault) -> tuple[int, list[str]]:
    """Let a fault happen to a run after its first epoch, and let the run go on without it.

    Returns:
        Exit code and last lines of the run that it happened to.
    """
    arguments = arguments_of(place, int(fault is loader_process_killed))
    process = start(arguments)
    while not (place.run / "last.pt").exists() and process.poll() is None:
        time.sleep(0.005)
    with fault(place, process):
        output, _ = process.communicate()
    run_to_end(arguments)
    lines = [line for line in output.splitlines() if line.startswith("error:")]
    return process.returncode, lines or output.splitlines()[-1:]


def refused_at_the_start(place: Place) -> tuple[int, list[str]]:
    """Start on a disk that is mounted read-only, then on the same one for reading and writing."""
    subprocess.run(["mount", "-o", "remount,ro", str(place.disk)], check=True)
    process = start(arguments_of(place, 0))
    output, _ = process.communicate()
    subprocess.run(["mount", "-o", "remount,rw", str(place.disk)], check=True)
    run_to_end(arguments_of(place, 0))
    return process.returncode, output.splitlines()[-1:]


def main() -> int:
    """Run all trials and print what each of them said."""
    num_different = 0
    with tempfile.TemporaryDirectory() as name:
        folder, disk = Path(name), Path(name) / "disk"
        prepare(folder)
        disk.mkdir()
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", disk], check=True
        )
        whole = Place(folder, folder / "whole")
        run_to_end(arguments_of(whole, 0))
        place = Place(folder, disk / "run")
        trials = {"the disk is read-only": lambda: refused_at_the_start(place)} | {
            title: lambda fault=fault: try_fault(place, fault) for title, fault in FAULTS.items()
        }
        for title, trial in trials.items():
            code, lines = trial()
            found = differences(whole.run, place.run)
            num_different += bool(found)
            verdict = f"DIFFERENT: {', '.join(found)}" if found else "equal"
            print(f"{title}: exit code {code}, resumed: {verdict}", flush=True)
            print("".join(f"    {line.replace(name, 'TMP')}\n" for line in lines), flush=True)
            shutil.rmtree(place.run)
        subprocess.run(["umount", str(disk)], check=True)
    return int(num_different > 0)


if __name__ == "__main__":
    sys.exit(main())
