"""Data sets: cases on disk to batches of slices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from datasets.cases import Case, Dataset, Split, load_case, load_split, save_split, split_cases
from datasets.decathlon import read_decathlon
from swin_unet.config import DataConfig, UserError

DATASETS: dict[str, Callable[[Path], Dataset]] = {"decathlon": read_decathlon}

__all__ = [
    "DATASETS",
    "Case",
    "Dataset",
    "Split",
    "build_dataset",
    "load_case",
    "load_split",
    "save_split",
    "split_cases",
]


def build_dataset(config: DataConfig) -> Dataset:
    """List the cases of the configured data set.

    Raises:
        UserError: No root, an unknown kind of data set, faults of the folder, or class names
            other than the configured ones.
    """
    if config.root is None:
        raise UserError(
            "data.root",
            expected="the folder of the data set",
            found="no value",
            fix="Give --data.root FOLDER.",
        )
    if config.name not in DATASETS:
        raise UserError(
            "data.name",
            expected=f"one of {', '.join(sorted(DATASETS))}",
            found=config.name,
            fix="Convert the data to one of these layouts.",
        )
    dataset = replace(DATASETS[config.name](config.root), on_mismatch=config.on_mismatch)
    found = list(dataset.classes.values())
    if config.classes is not None and list(config.classes) != found:
        raise UserError(
            config.root,
            expected=f"the classes {list(config.classes)} of data.classes",
            found=str(found),
            fix="Correct data.classes, or give the right data.root.",
        )
    return dataset
