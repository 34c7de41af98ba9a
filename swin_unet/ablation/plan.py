"""From a study to its training runs: complete configurations, identified by what they hold."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swin_unet.ablation.study import Setting, Study
from swin_unet.config import MODEL_OPTIONS, UserError

Plain = dict[str, Any]
# What does not change a run's result, and so not its identity.
_INCIDENTAL = (
    ("output_dir",),
    ("data", "root"),
    ("data", "cache_dir"),
    ("train", "num_workers"),
)


@dataclass(frozen=True)
class PlannedRun:
    """One training.

    Attributes:
        setting: Name of its setting.
        seed: Of initial weights, sample order and augmentation.
        fold: Of the cross-validation, None without.
        config: Complete configuration as plain values.
        folder: Where it is trained; runs of equal configuration share it.
    """

    setting: str
    seed: int
    fold: int | None
    config: Plain
    folder: Path

    @property
    def name(self) -> str:
        """What to call it on the screen."""
        fold = "" if self.fold is None else f", fold {self.fold}"
        return f"{self.setting}, seed {self.seed}{fold}"


@dataclass(frozen=True)
class Fixed:
    """What all runs of a study share.

    Attributes:
        split_files: Fold (None without cross-validation) to its split.json.
        initial_weights: Seed to a file of weights that runs start from where shapes agree.
    """

    split_files: Mapping[int | None, Path]
    initial_weights: Mapping[int, Path]


def plan_runs(
    study: Study,
    base: Plain,
    fixed: Fixed,
    runs_folder: Path,
    check: Callable[[Setting, Plain], Plain],
) -> list[PlannedRun]:
    """List the trainings of a study, the baseline's and each fold's and seed's first.

    Args:
        study: What is compared.
        base: Complete configuration that the settings change.
        fixed: What the runs share; says which seeds and folds there are.
        runs_folder: Holds the run folders of all studies.
        check: Completes and validates a configuration, or raises a UserError.
    """
    ordered = sorted(study.settings, key=lambda setting: setting.name != study.baseline)
    configs = {setting.name: check(setting, apply(base, setting)) for setting in ordered}
    runs = []
    for seed in fixed.initial_weights:
        for fold in fixed.split_files:
            for name, config in configs.items():
                config = _fixed_config(config, fixed, seed, fold)
                if config["model"]["name"] != configs[study.baseline]["model"]["name"]:
                    config["train"]["initial_weights"] = None  # of which no tensor would agree
                folder = runs_folder / identity(config, fixed, seed, fold)
                runs.append(PlannedRun(name, seed, fold, config, folder))
    return runs


def apply(base: Plain, setting: Setting) -> Plain:
    """Return a configuration with a setting's options.

    Options of the base's network that another network does not take are left out.
    """
    config = copy.deepcopy(base)
    network = setting.overrides.get("model.name")
    if network is not None and network != base["model"]["name"]:
        taken = MODEL_OPTIONS.get(network, frozenset()) & MODEL_OPTIONS[base["model"]["name"]]
        shared = {key: config["model"][key] for key in taken & {"checkpointing"}}
        config["model"] = {"name": network, **shared}
    for key, value in setting.overrides.items():
        _set(config, key, value, setting.name)
    return config


def identity(config: Plain, fixed: Fixed, seed: int, fold: int | None) -> str:
    """Hash what determines a run's result; files by what they hold, not by where they are."""
    content = copy.deepcopy(config)
    for *sections, key in _INCIDENTAL:
        table = content
        for section in sections:
            table = table[section]
        table.pop(key, None)
    content["data"]["split_file"] = _digest(fixed.split_files[fold])
    if content["train"]["initial_weights"] is not None:
        content["train"]["initial_weights"] = _digest(fixed.initial_weights[seed])
    content["data"]["root_name"] = Path(str(config["data"]["root"])).resolve().as_posix()
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def held_fixed(study: Study, base: Plain) -> list[str]:
    """Say in sentences what the runs of a study have in common and what not."""
    varied = sorted({key for setting in study.settings for key in setting.overrides})
    network_varies = "model.name" in varied
    notes = [
        "All runs share the split of the cases, the order of the samples and their augmentation "
        "(both depend on the seed only), the number of epochs and everything else but "
        f"{', '.join(varied)}.",
        "Initial weights of a seed are equal wherever name and shape of a tensor agree with the "
        "baseline's.",
    ]
    if network_varies:
        notes.append(
            "Another network takes its own default options; the recipe of training is the same."
        )
    if base["model"].get("pretrained"):
        notes.append(f"Weights to start from: {base['model']['pretrained']}.")
    return notes


def unique_runs(runs: Iterable[PlannedRun]) -> list[PlannedRun]:
    """Drop the runs that an earlier one of the list stands for."""
    seen: dict[Path, PlannedRun] = {}
    for run in runs:
        seen.setdefault(run.folder, run)
    return list(seen.values())


def replicates(runs: Sequence[PlannedRun], setting: str) -> list[PlannedRun]:
    """Return the runs of a setting, one per seed and fold."""
    return [run for run in runs if run.setting == setting]


def _fixed_config(config: Plain, fixed: Fixed, seed: int, fold: int | None) -> Plain:
    config = copy.deepcopy(config)
    config["seed"] = seed
    config["output_dir"] = None
    config["data"] |= {"split_file": str(fixed.split_files[fold]), "folds": None, "fold": None}
    config["train"]["initial_weights"] = str(fixed.initial_weights[seed])
    return config


def _set(config: Plain, key: str, value: Any, setting: str) -> None:
    section, _, name = key.rpartition(".")
    table = config.get(section) if section else config
    if not isinstance(table, dict):
        raise UserError(
            f"setting {setting}",
            expected="options such as model.skips",
            found=key,
            fix="See python train.py --help for all options.",
        )
    table[name] = value


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
