"""Compare finished classifications: python -m benchmarks.classifiers RUN RUN ...

For every run folder: test accuracy of best.pt and of the last epoch, and the time of a training
batch without the waiting for data, the median over the epochs. Times of runs on different
machines do not compare: the table names them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from swin_unet.config import UserError
from swin_unet.training.record import read_rows
from swin_unet.training.tables import align

HEADINGS = ["run", "network", "pixels", "epochs", "best", "last", "ms per batch", "machine"]


def read_run(folder: Path) -> list[str]:
    """Return the row of a run.

    Raises:
        UserError: It is no finished run of a classification.
    """
    config = yaml.safe_load(_read(folder / "config.yaml"))
    results = json.loads(_read(folder / "test_metrics.json"))
    about = json.loads(_read(folder / "run.json"))
    if config["task"] != "classification":
        raise UserError(
            folder,
            expected="a run of task classification",
            found=f"one of {config['task']}",
            fix="Leave it out.",
        )
    rows = read_rows(folder / "metrics.csv")
    batch_size = config["train"]["batch_size"]
    height, width = config["data"]["image_size"]
    return [
        folder.name,
        config["model"]["name"],
        f"{height} x {width}",
        str(len(rows)),
        f"{100 * results['best']['accuracy']:.1f} %",
        f"{100 * results['last']['accuracy']:.1f} %",
        f"{batch_milliseconds(rows, batch_size):.0f} ({batch_size})",
        _machine(about),
    ]


def batch_milliseconds(rows: Sequence[dict[str, Any]], batch_size: int) -> float:
    """Return the time of a batch, given the rows of metrics.csv."""
    return median(
        1000 * batch_size / row["train/slices_per_second"] * (1 - row["train/data_wait"])
        for row in rows
    )


def _machine(run: dict[str, Any]) -> str:
    """Return the first GPU, or the processor, of a run.json."""
    names = [*run["gpus"], run["processor"]]
    return str(names[0])


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf8")
    except OSError as error:
        raise UserError(
            path,
            expected="a finished run of train.py with test cases",
            found=error.strerror or "none",
            fix="Give the folders of such runs.",
        ) from error


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.classifiers", description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders")
    arguments = parser.parse_args(argv)
    print("\n".join(align([HEADINGS, *(read_run(folder) for folder in arguments.runs)])))
    return 0


if __name__ == "__main__":
    from swin_unet.cli import run

    sys.exit(run(main))
