"""Kill a small training at random moments, resume it, and compare what comes out bit by bit.

    python -m benchmarks.kill_points                     50 kills, about 20 minutes on two cores
    python -m benchmarks.kill_points --kills 3 --seed 1  a look

Every trial starts `train.py` on made-up volumes, kills it by SIGKILL at a random moment, every
third one again after the restart, and goes on by the same command with `--resume auto`. The end is
compared with that of a run that nobody killed: all weights, the optimizer, the running average and
the random states in last.pt and best.pt, metrics.csv and TensorBoard's curves without the times,
and the scores. Loader processes and the interval of saves differ from trial to trial; they must
not matter. Exits 1 when any run differs.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from swin_unet import checkpoint as checkpoints
from swin_unet.training.record import TIMING_COLUMNS
from swin_unet.training.resume import FREE_KEYS

ROOT = Path(__file__).resolve().parent.parent
TOO_LATE = "after its end"
CONFIG: dict[str, Any] = {
    "seed": 3,
    "model": {
        "patch_size": 2, "embed_dim": 8, "depths": [2, 2], "num_heads": [1, 2], "window_size": 4,
        "skips": 1, "drop_path_rate": 0.2,
    },
    "data": {
        "val_fraction": 0.2, "test_fraction": 0.2, "intensity": "window", "window": [-125, 275],
        "image_size": [24, 24], "augmentation": "default",
    },
    "train": {
        "epochs": 4, "batch_size": 4, "optimizer": "adamw", "learning_rate": 0.003,
        "warmup_epochs": 1, "gradient_clip": 1.0, "accumulation": 2, "ema_decay": 0.9,
        "val_interval": 2, "device": "cpu", "precision": "fp32",
    },
}  # fmt: skip


def command(config: Path, folder: Path, *options: object) -> list[str]:
    """Return the command that trains in a folder."""
    paths = ["train.py", "--config", config, "--output_dir", folder]
    return [sys.executable, *map(str, paths), *map(str, options)]


def start(arguments: list[str]) -> subprocess.Popen[str]:
    """Start a training with one thread."""
    return subprocess.Popen(
        arguments,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run_to_end(arguments: list[str]) -> str:
    """Train to the end and return what it printed."""
    process = start(arguments)
    output, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)} ended with {process.returncode}:\n{output}")
    return output


def started_seconds(process: subprocess.Popen[str], marker: Path, before: int) -> float:
    """Wait until a file is written anew; return the time."""
    while process.poll() is None and (not marker.exists() or marker.stat().st_mtime_ns == before):
        time.sleep(0.002)
    return time.monotonic()


def kill_once(arguments: list[str], folder: Path, delay: float) -> str:
    """Start a training, kill it `delay` seconds after it wrote run.json, and say where it was."""
    marker = folder / "run.json"
    process = start(arguments)
    started_seconds(process, marker, marker.stat().st_mtime_ns if marker.exists() else 0)
    time.sleep(delay)
    is_late = process.poll() is not None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return TOO_LATE if is_late else where(folder)


def where(folder: Path) -> str:
    """Say what the last checkpoint is of."""
    path = folder / "last.pt"
    if not path.exists():
        return "before the first save"
    content = checkpoints.load(path)
    return f"saved epoch {content['epoch']} + {content['position']} batches"


def differences(a: Path, b: Path) -> list[str]:
    """List in what two finished run folders differ, times and free options aside."""
    found = []
    for name in ("last.pt", "best.pt"):
        found += [f"{name}: {key}" for key in unequal(*(_checkpoint(run / name) for run in (a, b)))]
    if _rows(a) != _rows(b):
        found.append("metrics.csv")
    if _curves(a) != _curves(b):
        found.append("tensorboard")
    for name in ("validation_metrics.json", "test_metrics.json", "split.json"):
        if _result(a / name) != _result(b / name):
            found.append(name)
    return found


def _result(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf8"))
    content.pop("seconds_per_case", None)
    return content


def _checkpoint(path: Path) -> dict[str, Any]:
    content = checkpoints.load(path)
    for key in FREE_KEYS:
        section, _, name = key.rpartition(".")
        del (content["config"][section] if section else content["config"])[name]
    return content


def unequal(a: Any, b: Any, key: str = "") -> list[str]:
    """List the keys under which nested tensors, lists and dicts differ in any bit."""
    if type(a) is not type(b):
        return [key]
    if isinstance(a, torch.Tensor):
        same = a.dtype == b.dtype and a.numpy().tobytes() == b.numpy().tobytes()
        return [] if same else [key]
    if isinstance(a, dict):
        if a.keys() != b.keys():
            return [key]
        return [found for name in a for found in unequal(a[name], b[name], f"{key}.{name}")]
    if isinstance(a, list | tuple):
        if len(a) != len(b):
            return [key]
        pairs = enumerate(zip(a, b, strict=True))
        return [found for index, (x, y) in pairs for found in unequal(x, y, f"{key}.{index}")]
    return [] if a == b else [key]


def _rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="", encoding="utf8") as file:
        rows = list(csv.DictReader(file))
    return [{key: row[key] for key in row if key not in TIMING_COLUMNS} for row in rows]


def _curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Read TensorBoard's curves back, and the steps of its pictures."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"), {"images": 0, "scalars": 0})
    events.Reload()
    tags = events.Tags()
    curves = {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in tags["scalars"]
        if name not in TIMING_COLUMNS
    }
    pictures = {name: [(e.step, 0.0) for e in events.Images(name)] for name in tags["images"]}
    return curves | pictures


def training_seconds(folder: Path) -> float:
    """Return the time that the epochs of a run took."""
    with (folder / "metrics.csv").open(newline="", encoding="utf8") as file:
        return sum(float(row["train/seconds"]) for row in csv.DictReader(file))


def prepare(folder: Path) -> Path:
    """Write made-up volumes and the configuration; return its path."""
    from datasets.phantom import write_phantoms

    write_phantoms(folder / "data", cases=5, test_cases=0, seed=0, size=(32, 32, 12))
    paths = {"root": str(folder / "data"), "cache_dir": str(folder / "cache")}
    content = {**CONFIG, "data": {**CONFIG["data"], **paths}}
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf8")
    return path


def try_one(
    config: Path, folder: Path, seconds: float, generator: np.random.Generator, twice: bool
) -> list[str]:
    """Kill a run once or twice and let it go on to its end; return where it was killed."""
    free = [
        *("--train.num_workers", generator.integers(0, 2)),
        *("--train.save_minutes", generator.choice([0.0, 0.003, 10.0])),
    ]
    arguments = command(config, folder, *free)
    places = [kill_once(arguments, folder, generator.uniform(0, seconds))]
    arguments += ["--resume", "auto"]
    if twice:
        places.append(kill_once(arguments, folder, generator.uniform(0, seconds)))
    run_to_end(arguments)
    return places


def try_all(folder: Path, num_kills: int, generator: np.random.Generator) -> bool:
    """Kill as many runs, print a line for each, and tell whether all came to the same end."""
    config, whole = prepare(folder), folder / "whole"
    process = start(command(config, whole))
    started = started_seconds(process, whole / "run.json", 0)
    output, _ = process.communicate()
    seconds = time.monotonic() - started
    print(f"a run that nobody kills takes {seconds:.1f} s after its start\n{output}")
    num_killed, num_equal, pace = 0, 0, 1.0
    while num_killed < num_kills:
        run = folder / "killed"
        places = try_one(config, run, pace * seconds, generator, twice=num_killed % 3 == 2)
        # Other work on the machine comes and goes: kills are to hit the late epochs as well.
        pace = training_seconds(run) / training_seconds(whole)
        found = differences(whole, run)
        shutil.rmtree(run)
        if places[0] == TOO_LATE and not found:
            continue
        num_killed += 1
        num_equal += not found
        verdict = f"DIFFERENT: {', '.join(found)}" if found else "equal"
        print(f"{num_killed:3}  killed: {'; again: '.join(places):60} {verdict}", flush=True)
    print(f"{num_equal} of {num_kills} killed runs are bitwise equal to the one nobody killed")
    return num_equal == num_kills


def main() -> int:
    """Kill runs; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kill_points")
    parser.add_argument("--kills", type=int, default=50, help="runs to kill")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = parser.parse_args()
    generator = np.random.default_rng(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        return int(not try_all(Path(name), arguments.kills, generator))


if __name__ == "__main__":
    sys.exit(main())
