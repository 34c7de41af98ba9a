"""Synapse as the authors of TransUNet distribute it: slices for training, volumes for the test."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets.cases import Case, Dataset, Split, few
from datasets.preprocessed import (
    WHOLE,
    SliceFile,
    choose,
    find_list,
    gap_notes,
    parse_slices,
    stack_slices,
    stem,
    walk,
)
from swin_unet.config import DataConfig, UserError
from swin_unet.files import read_json

TRAIN_FOLDER, TEST_FOLDER = "train_npz", "test_vol_h5"
TRAIN_LIST, VAL_LIST, TEST_LIST = "train.txt", "val.txt", "test_vol.txt"
LIST_FOLDERS = (".", "lists", "lists/lists_Synapse")
DESCRIPTION = "prepared.json"
CLASSES = (
    "aorta", "gallbladder", "left_kidney", "right_kidney", "liver", "pancreas", "spleen", "stomach",
)  # fmt: skip
_SLICE = re.compile(r"(?P<case>.+?)_slice_?(?P<number>\d+)")
_NUMBER = re.compile(r"\d+")
# Grey values of the files lie between 0 and 1, give or take a fifth.
_LARGEST = 2.0


@dataclass(frozen=True)
class Folders:
    """Where the files are.

    Attributes:
        train: Holds caseXXXX_sliceYYY.npz.
        test: Holds caseXXXX.npy.h5.
        lists: Where lists may be, the nearest first.
    """

    train: tuple[Path, ...]
    test: tuple[Path, ...]
    lists: tuple[Path, ...]


def find_folders(root: Path) -> Folders | None:
    """Search a data set folder; None: it has neither slices nor volumes of this kind.

    Raises:
        UserError: Several folders of one kind.
    """
    folders = [path for path in (root, *walk(root)) if path.is_dir()]
    train, test = (_only(folders, name) for name in (TRAIN_FOLDER, TEST_FOLDER))
    if not train and not test:
        return None
    parents = dict.fromkeys([path.parent for path in (*train, *test)])
    near = [base / name for base in (root, *parents) for name in LIST_FOLDERS]
    above = [base / LIST_FOLDERS[-1] for path in parents for base in path.absolute().parents[:2]]
    return Folders(train, test, (*near, *above))


def read_transunet(config: DataConfig, folders: Folders) -> Dataset:
    """List the cases: the slices of a training case are stacked, a test case is one file.

    The lists train.txt, val.txt and test_vol.txt choose among the files where there are any.

    Raises:
        UserError: No files, a case in two parts, options that do not fit these files.
    """
    _check_window(config, folders)
    notes = [_split_note(folders)]
    parts = {**_training_parts(folders, notes), "test": _test_cases(folders, notes)}
    _check_sides(parts)
    return Dataset(
        cases=tuple(sorted(itertools.chain(*parts.values()), key=lambda case: case.name)),
        classes=dict(enumerate(_classes(config, folders), start=1)),
        channels=("CT",),
        split=Split(**{part: tuple(case.name for case in cases) for part, cases in parts.items()}),
        notes=tuple(notes),
    )


def _only(folders: Sequence[Path], name: str) -> tuple[Path, ...]:
    """Return the folder of this name, that of a fork with a word behind it, or nothing."""
    found = [path for path in folders if re.fullmatch(rf"{name}(_\w+)?", path.name)]
    if len(found) > 1:
        raise UserError(
            found[0],
            expected=f"one folder {name}",
            found=f"another one, {found[1]}",
            fix="Give the folder that holds the right one as --data.root.",
        )
    return tuple(found)


def _split_note(folders: Folders) -> str:
    lists = [find_list(folders.lists, name) for name in (TRAIN_LIST, VAL_LIST, TEST_LIST)]
    found = [str(path) for path in lists if path is not None]
    source = ", ".join(found) or f"the folders {TRAIN_FOLDER} and {TEST_FOLDER}"
    return f"the published split is that of {source}"


def _training_parts(folders: Folders, notes: list[str]) -> dict[str, list[Case]]:
    """Return the stacked cases of `train` and `val`; add to the notes."""
    paths = [path for folder in folders.train for path in folder.glob("*.npz")]
    slices = parse_slices(paths, _SLICE)
    if folders.train and not slices:
        raise _no_files(folders.train[0], "caseXXXX_sliceYYY.npz")
    train, val = (find_list(folders.lists, name) for name in (TRAIN_LIST, VAL_LIST))
    chosen: dict[str, list[SliceFile]] = {"val": []}
    if val is not None:
        chosen["val"] = choose(slices, val, notes)
    if train is not None:
        chosen["train"] = choose(slices, train, notes)
    else:
        chosen["train"] = [item for item in slices if item not in chosen["val"]]
    used = {item.path for items in chosen.values() for item in items}
    unused = [item.path.name for item in slices if item.path not in used]
    if unused:
        notes.append(f"slices that {train} does not name are left out: {len(unused)}")
    notes += [note for part in ("train", "val") for note in gap_notes(chosen[part])]
    return {part: stack_slices(items, _NUMBER) for part, items in chosen.items()}


def _test_cases(folders: Folders, notes: list[str]) -> list[Case]:
    paths = sorted(path for folder in folders.test for path in folder.glob("*.h5"))
    if folders.test and not paths:
        raise _no_files(folders.test[0], "caseXXXX.npy.h5")
    volumes = [SliceFile(stem(path.name), WHOLE, path) for path in paths]
    path = find_list(folders.lists, TEST_LIST)
    if path is not None:
        chosen = choose(volumes, path, notes)
        unused = sorted({item.case for item in volumes} - {item.case for item in chosen})
        if unused:
            notes.append(f"volumes that {path} does not name are left out: {few(unused)}")
        volumes = chosen
    return stack_slices(volumes, _NUMBER)


def _check_sides(parts: dict[str, list[Case]]) -> None:
    """Raise UserError when a case is in two parts."""
    seen: dict[str | None, str] = {}
    for part, cases in parts.items():
        for case in cases:
            if seen.setdefault(case.group, part) != part:
                raise UserError(
                    case.images[0],
                    expected="every case in one part",
                    found=f"{case.name} in {seen[case.group]} and {part}",
                    fix="Remove it from one, or correct the lists: its score would mean nothing.",
                )


def _check_window(config: DataConfig, folders: Folders) -> None:
    """Refuse a window in HU: it would leave nothing of values between 0 and 1."""
    window = config.window
    if config.intensity == "window" and window is not None and max(map(abs, window)) > _LARGEST:
        raise UserError(
            "data.window",
            expected=f"[0, 1], as the files in {(folders.train + folders.test)[0]} are scaled",
            found=str(list(window)),
            fix="Give --data.window '[0, 1]'.",
        )


def _classes(config: DataConfig, folders: Folders) -> Sequence[str]:
    """Return the configured names, which must be those that the files were prepared with."""
    configured = tuple(config.classes or CLASSES)
    path = find_list([(folders.train + folders.test)[0].parent], DESCRIPTION)
    if path is None:
        return configured
    prepared = tuple(read_json(path).get("classes", configured))
    if config.classes is not None and prepared != configured:
        raise UserError(
            "data.classes",
            expected=f"the classes that {path.parent} was prepared with, {list(prepared)}",
            found=str(list(configured)),
            fix="Correct data.classes, or prepare the files again.",
        )
    return prepared


def _no_files(folder: Path, name: str) -> UserError:
    return UserError(
        folder, expected=f"files named {name}", found="none", fix="Restore them, or data.root."
    )
