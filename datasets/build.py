"""From the data section of a configuration to a data set."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from datasets.acdc import read_acdc
from datasets.cases import Case, Dataset, check_files
from datasets.cifar10 import read_cifar10
from datasets.decathlon import read_decathlon
from datasets.folder import read_folder
from datasets.image_folder import read_image_folder
from datasets.overview import absence_notes
from datasets.sources import check_root
from datasets.synapse import read_synapse
from swin_unet.config import PICTURE_SETS, DataConfig, UserError

DATASETS: dict[str, Callable[[DataConfig], Dataset]] = {
    "decathlon": read_decathlon,
    "synapse": read_synapse,
    "acdc": read_acdc,
    "folder": read_folder,
    "image_folder": read_image_folder,
    "cifar10": read_cifar10,
}

MEAN = "mean"  # of all classes, in every table of results


def build_dataset(config: DataConfig) -> Dataset:
    """List the cases of the configured data set.

    Raises:
        UserError: As `list_dataset`; or a file that is not there.
    """
    dataset = list_dataset(config)
    check_files(dataset.cases)
    return dataset


def require_label_maps(config: DataConfig) -> None:
    """Raise UserError for a data set whose images have one class as a whole."""
    if config.name in PICTURE_SETS:
        raise UserError(
            "data.name",
            expected="a data set with label maps, which are what is looked at here",
            found=config.name,
            fix="Train on it: train.py says at once what is wrong with it.",
        )


def list_dataset(config: DataConfig) -> Dataset:
    """List the cases of the configured data set, whether or not their files are there.

    Raises:
        UserError: No root, an unknown kind of data set, faults of the folder, class names
            other than the configured ones, or a name without the configured group.
    """
    if config.name not in DATASETS:
        raise UserError(
            "data.name",
            expected=f"one of {', '.join(sorted(DATASETS))}",
            found=config.name,
            fix="Convert the data to one of these layouts.",
        )
    check_root(config)
    dataset = DATASETS[config.name](config)
    _check_classes(config, dataset)
    cases = tuple(_grouped(case, config.group_pattern) for case in dataset.cases)
    dataset = replace(dataset, cases=cases, on_mismatch=config.on_mismatch)
    return replace(dataset, notes=(*dataset.notes, *absence_notes(dataset)))


def _check_classes(config: DataConfig, dataset: Dataset) -> None:
    found = list(dataset.classes.values())
    if config.classes is not None and list(config.classes) != found:
        raise UserError(
            config.root or "data.root",
            expected=f"the classes {list(config.classes)} of data.classes",
            found=str(found),
            fix="Correct data.classes, or give the right data.root.",
        )
    bad = sorted({name for name in found if name == MEAN or found.count(name) > 1})
    if bad:
        raise UserError(
            "data.classes" if config.classes is not None else f"the class names of {config.root}",
            expected=f"a name of its own for every class, and none called {MEAN!r}",
            found=", ".join(bad),
            fix="Rename them: the tables of results have a row and column for each name.",
        )


def _grouped(case: Case, pattern: str | None) -> Case:
    """Return the case with the group that the pattern finds in its name, if it has none yet."""
    if pattern is None or case.group is not None:
        return case
    match = re.search(pattern, case.name)
    if match is None:
        raise UserError(
            "data.group_pattern",
            expected="a pattern that finds the patient in every case's name",
            found=f"none in {case.name}",
            fix="Correct the pattern.",
        )
    return replace(case, group=(match[1] if match.re.groups else None) or match[0])
