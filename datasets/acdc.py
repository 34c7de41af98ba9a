"""ACDC, cine MRI of the heart: as the challenge distributes it, or as preprocessed slices."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from datasets.cases import Case, Dataset, Split
from datasets.pairing import check_names
from datasets.preprocessed import (
    WHOLE,
    SliceFile,
    choose,
    gap_notes,
    group_of,
    parse_slices,
    stack_slices,
    stem,
    walk,
)
from datasets.sources import check_root, no_data
from swin_unet.config import DataConfig, UserError
from swin_unet.imaging import split_name

# In the order of their label values, from 1 on.
CLASSES = ("right_ventricle", "myocardium", "left_ventricle")
LISTS = {"train": ("train_slices.list", "train.list"), "val": ("val.list",), "test": ("test.list",)}
_FRAME = re.compile(r"patient\d+_frame\d+\.nii(\.gz)?")
_VOLUME = re.compile(r"patient\d+_frame\d+")
_SLICE = re.compile(r"(?P<case>patient\d+_frame\d+)_slice_?(?P<number>\d+)")
_PATIENT = re.compile(r"patient\d+")


def read_acdc(config: DataConfig) -> Dataset:
    """List the cases of ACDC: two frames of every patient.

    Raises:
        UserError: Neither kind of files is there, or a fault of them.
    """
    root = check_root(config)
    paths = [path for path in walk(root) if path.is_file()]
    frames = [path for path in paths if _FRAME.fullmatch(path.name)]
    arrays = [path for path in paths if path.suffix == ".h5" and _VOLUME.match(path.name)]
    notes: list[str] = []
    if frames:
        cases, split = _challenge_cases(root, frames, notes)
    elif arrays:
        cases, split = _preprocessed_cases(paths, arrays, notes)
    else:
        expected = "patient001_frame01.nii.gz, ... or patient001_frame01_slice_1.h5, ..."
        raise no_data("acdc", root, expected, "none of them")
    check_names(root, [case.name for case in cases])
    if split is None:
        notes.append(
            "the papers' 70/10/20 split of 100 patients does not say which: unless data.split_file "
            "does, they are drawn by seed"
        )
    return Dataset(
        cases=tuple(sorted(cases, key=lambda case: case.name)),
        classes=dict(enumerate(_classes(config), start=1)),
        channels=("MRI",),
        split=split,
        notes=tuple(notes),
    )


def _classes(config: DataConfig) -> Sequence[str]:
    """Return the configured names of the three structures, or ours."""
    classes = config.classes or CLASSES
    if len(classes) != len(CLASSES):
        raise UserError(
            "data.classes",
            expected=f"names for the three structures of ACDC: {', '.join(CLASSES)}",
            found=str(classes),
            fix="Correct them, or leave data.classes out.",
        )
    return classes


def _challenge_cases(
    root: Path, frames: Iterable[Path], notes: list[str]
) -> tuple[list[Case], Split | None]:
    """Pair the frames with their label maps; the 4D series and Info.cfg are not needed.

    Where the patients of `testing` have label maps, they are the published test part.
    """
    cases: list[Case] = []
    in_test: set[str] = set()
    for path in frames:
        name, ending = split_name(path)
        label = path.with_name(f"{name}_gt{ending}")
        labels = (label,) if label.is_file() else ()
        cases.append(Case(name, (path,), labels, group=group_of(name, _PATIENT)))
        if "testing" in path.relative_to(root).parts:
            in_test.add(name)
    labelled = [case.name for case in cases if case.labels]
    train = tuple(sorted(name for name in labelled if name not in in_test))
    test = tuple(sorted(name for name in labelled if name in in_test))
    if not train or not test:
        return cases, None
    notes.append(
        "the published split is the challenge's; for the papers' 70/10/20 of its 100 training "
        "patients give the folder `training` as --data.root"
    )
    return cases, Split(train, (), test)


def _preprocessed_cases(
    paths: Sequence[Path], arrays: Sequence[Path], notes: list[str]
) -> tuple[list[Case], Split | None]:
    """Take the cases of the lists as these name them, by slice or whole; or all."""
    volumes = (path for path in arrays if _VOLUME.fullmatch(stem(path.name)))
    files = [
        *(SliceFile(stem(path.name), WHOLE, path) for path in volumes),
        *parse_slices(arrays, _SLICE),
    ]
    lists = {part: _find_list(paths, names) for part, names in LISTS.items()}
    if lists["train"] is None:
        files = _whole_first(files)
        notes += gap_notes(files)
        return stack_slices(files, _PATIENT), None
    chosen = {
        part: [] if path is None else _whole_first(choose(files, path, notes))
        for part, path in lists.items()
    }
    cases = {part: stack_slices(items, _PATIENT) for part, items in chosen.items()}
    notes += [note for items in chosen.values() for note in gap_notes(items)]
    used = [path.name for path in lists.values() if path is not None]
    notes.append(f"the published split is that of {', '.join(used)} in {lists['train'].parent}")
    split = Split(**{part: tuple(case.name for case in found) for part, found in cases.items()})
    return list({case.name: case for found in cases.values() for case in found}.values()), split


def _find_list(paths: Sequence[Path], names: Sequence[str]) -> Path | None:
    """Return the first list of the first of these names."""
    return next((path for name in names for path in paths if path.name == name), None)


def _whole_first(files: Sequence[SliceFile]) -> list[SliceFile]:
    """Leave out the slices of which the whole volume is there."""
    whole = {item.case for item in files if item.number == WHOLE}
    return [item for item in files if item.number == WHOLE or item.case not in whole]
