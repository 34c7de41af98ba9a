"""Measure what keeping freed memory saves of a training step on a CPU.

    python -m benchmarks.allocator                          a minute
    python -m benchmarks.allocator --config synapse.yaml --batch_size 2

Takes training steps of a configuration's network on random slices, one thread, in turns of fresh
processes: with glibc's own limits, and as train.py sets them. Prints CPU time and page faults per
slice, medians of the turns, and the ratio.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from statistics import median

import torch
from torch.nn.functional import cross_entropy

from benchmarks.metrics import machine_name
from swin_unet.cli import build_parser, parse_config
from swin_unet.devices import choose_precision
from swin_unet.training.build import build_network
from swin_unet.training.memory import keep_freed_memory

NUM_CLASSES = 3
TURNS = 5
STEPS = 10
NAMES = ("given back", "kept")


def build_step(config_path: str, batch_size: int) -> Callable[[], None]:
    """Return a function that takes one training step."""
    config, _ = parse_config(build_parser("allocator", ""), ["--config", config_path])
    precision = choose_precision(config.train.precision, torch.device("cpu"))
    channels, size = config.data.context_slices, config.data.image_size
    model, _ = build_network(config, channels, NUM_CLASSES)
    optimizer = torch.optim.AdamW(model.parameters())
    image = torch.randn(batch_size, channels, *size)
    label = torch.randint(0, NUM_CLASSES, (batch_size, *size))

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = cross_entropy(model(image).float(), label)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def measure(step: Callable[[], None]) -> list[float]:
    """Return user and system seconds and page faults of some steps."""
    for _ in range(3):
        step()  # the first ones fill the heap
    before = resource.getrusage(resource.RUSAGE_SELF)
    for _ in range(STEPS):
        step()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return [
        after.ru_utime - before.ru_utime,
        after.ru_stime - before.ru_stime,
        after.ru_minflt - before.ru_minflt,
    ]


def take_turn(name: str, arguments: Sequence[str]) -> list[float]:
    """Measure in a process of its own: glibc's own limits adapt until they are set, then never."""
    command = [sys.executable, "-m", "benchmarks.allocator", *arguments, "--turn", name]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def main(arguments: Sequence[str]) -> int:
    """Measure as the command line says; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.allocator", description=__doc__)
    parser.add_argument("--config", default="hippocampus.yaml")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--turn", choices=NAMES, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.turn is not None:
        torch.set_num_threads(1)
        if options.turn == "kept" and not keep_freed_memory():
            sys.exit("This C library is not glibc: nothing to measure.")
        print(json.dumps(measure(build_step(options.config, options.batch_size))))
        return 0
    turns: dict[str, list[list[float]]] = {name: [] for name in NAMES}
    for _ in range(TURNS):
        for name, rows in turns.items():
            rows.append(take_turn(name, arguments))
    print(f"{machine_name()}, one thread; {options.config}, batches of {options.batch_size}")
    num_slices = STEPS * options.batch_size
    totals = {}
    for name, rows in turns.items():
        user, system, faults = (median(column) / num_slices for column in zip(*rows, strict=True))
        totals[name] = median(row[0] + row[1] for row in rows)
        print(
            f"{name:<10}  user {1e3 * user:6.2f} ms  system {1e3 * system:6.2f} ms  "
            f"page faults {faults:5.0f}   per slice"
        )
    print(f"CPU time given back / kept: {totals['given back'] / totals['kept']:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
