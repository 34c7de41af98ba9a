"""Data sets: cases on disk to batches of slices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets.build import DATASETS, build_dataset, list_dataset
    from datasets.cases import Case, Dataset, Split, choose_plane, load_case
    from datasets.label_order import check_label_order
    from datasets.overview import pairing_table
    from datasets.pretraining import make_pretraining_split
    from datasets.splits import describe_split, load_split, make_split, save_split, split_cases
    from datasets.training_survey import survey_training

__all__ = [
    "DATASETS",
    "Case",
    "Dataset",
    "Split",
    "build_dataset",
    "check_label_order",
    "choose_plane",
    "describe_split",
    "list_dataset",
    "load_case",
    "load_split",
    "make_pretraining_split",
    "make_split",
    "pairing_table",
    "save_split",
    "split_cases",
    "survey_training",
]

_HOMES = {
    "build": ("DATASETS", "build_dataset", "list_dataset"),
    "cases": ("Case", "Dataset", "Split", "choose_plane", "load_case"),
    "label_order": ("check_label_order",),
    "overview": ("pairing_table",),
    "pretraining": ("make_pretraining_split",),
    "splits": ("describe_split", "load_split", "make_split", "save_split", "split_cases"),
    "training_survey": ("survey_training",),
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used.

    Otherwise `python -m datasets.synapse` would find its module imported before it runs.
    """
    from importlib import import_module

    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"datasets.{home}"), name)
    raise AttributeError(f"module 'datasets' has no attribute {name!r}")
