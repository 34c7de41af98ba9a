"""Cases of a data set, how they are split, and how one is loaded."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from swin_unet.config import UserError
from swin_unet.files import atomic_path
from swin_unet.imaging import OnMismatch, Volume, read_image, read_labels

PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Case:
    """One examination.

    Attributes:
        name: Unique in its data set; also the stem of what is written for it.
        images: One file with all channels, or one file per channel in order; when `stacked`, one
            file per slice from the lowest to the highest.
        labels: The reference label map; when `stacked`, one per slice; empty: unlabelled. May be
            the files of the images, where those hold both (.npz and .h5).
        group: What must stay together in a split, such as the patient; None: the case alone.
        stacked: The files are single slices of one volume.
    """

    name: str
    images: tuple[Path, ...]
    labels: tuple[Path, ...] = ()
    group: str | None = None
    stacked: bool = False


@dataclass(frozen=True)
class Dataset:
    """What a folder holds.

    Attributes:
        cases: In order of their names.
        classes: Names of the label values 1, 2, ... without the background.
        channels: Names of the image channels.
        split: The published split, None where there is none; cases outside it are not used. An
            empty `val` is drawn from `train`.
        label_values: Value in the files to class value, where they differ; other values are
            faults. None: the files hold class values.
        on_mismatch: As in DataConfig.
        notes: What to tell the user about the data set, a sentence each.
    """

    cases: tuple[Case, ...]
    classes: dict[int, str]
    channels: tuple[str, ...]
    split: Split | None = None
    label_values: dict[int, int] | None = None
    on_mismatch: OnMismatch = "error"
    notes: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        """Number of label values, background included."""
        return len(self.classes) + 1

    @property
    def num_channels(self) -> int:
        """Number of image channels."""
        return len(self.channels)


@dataclass(frozen=True)
class Split:
    """Case names for training, for choosing the best checkpoint, and never seen in training."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]


def split_cases(
    cases: Sequence[Case], val_fraction: float, test_fraction: float, seed: int
) -> Split:
    """Split the labelled cases by group; the same cases and seed give the same split.

    Every fraction above 0 gets at least one group.

    Raises:
        UserError: Too few groups for the parts that were asked for.
    """
    groups = _groups(case for case in cases if case.labels)
    num_val, num_test = (
        _share(fraction, len(groups)) for fraction in (val_fraction, test_fraction)
    )
    if num_val + num_test >= len(groups):
        raise UserError(
            "data.val_fraction and data.test_fraction",
            expected=f"at least {num_val + num_test + 1} labelled cases (or patients)",
            found=str(len(groups)),
            fix="Add cases, set a fraction to 0, or give data.split_file.",
        )
    keys = sorted(groups)
    order = [keys[index] for index in np.random.default_rng(seed).permutation(len(keys))]
    parts = order[num_val + num_test :], order[:num_val], order[num_val : num_val + num_test]
    return Split(*(tuple(sorted(n for key in part for n in groups[key])) for part in parts))


def save_split(split: Split, path: str | Path) -> None:
    """Write split.json."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(asdict(split), indent=2) + "\n", encoding="utf-8")


def load_split(path: str | Path, cases: Sequence[Case]) -> Split:
    """Read a split.json and check it against the cases of the data set.

    Raises:
        UserError: Unreadable file, unknown or unlabelled cases, a case named twice, no training
            case, or a group in two parts.
    """
    path = Path(path)
    content = read_json(path)
    if set(content) != set(PARTS) or not all(_is_names(content[part]) for part in PARTS):
        raise UserError(
            path,
            expected="lists of case names under train, val and test",
            found=f"the keys {sorted(content)}",
            fix="Take the split.json of an earlier run as a model.",
        )
    split = Split(*(tuple(content[part]) for part in PARTS))
    _check_split(path, split, cases)
    return split


def load_case(case: Case, dataset: Dataset) -> tuple[Volume, Volume]:
    """Read a case's image and its label map, and check them against the data set and each other.

    Args:
        case: One of the data set's.
        dataset: Says how many channels and which label values to expect.

    Returns:
        The image, and its label map of class values on the same grid.

    Raises:
        UserError: Any fault of the files, see swin_unet.imaging.readers; no label map; another
            number of channels than the data set's.
    """
    if not case.labels:
        raise UserError(
            case.name, expected="a label map", found="none", fix="Add one or leave the case out."
        )
    image = load_image(case, dataset)
    label = read_labels(
        case.labels,
        dataset.num_classes,
        like=image,
        stacked=case.stacked,
        values=dataset.label_values,
        on_mismatch=dataset.on_mismatch,
    )
    return image, label


def load_image(case: Case, dataset: Dataset) -> Volume:
    """Read a case's image alone and check its channels.

    Raises:
        UserError: As `load_case`.
    """
    image = read_image(case.images, stacked=case.stacked)
    if image.num_channels != dataset.num_channels:
        raise UserError(
            image.label,
            expected=f"{dataset.num_channels} channel(s), as the data set says",
            found=f"{image.num_channels} (shape {image.array.shape})",
            fix="Correct the data set's list of channels, or the image.",
        )
    return image


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        UserError: Missing file, or not a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(
            path, expected="a JSON file", found=error.strerror or "none", fix="Check the path."
        ) from error
    except ValueError as error:
        raise UserError(
            path, expected="valid JSON", found=str(error), fix="Correct the file."
        ) from error
    if not isinstance(content, dict):
        raise UserError(
            path,
            expected="a JSON object",
            found=type(content).__name__,
            fix="Put braces and keys around it.",
        )
    return content


def _groups(cases: Iterable[Case]) -> dict[str, list[str]]:
    """Return the case names of each group; a case without one is a group of its own."""
    groups: dict[str, list[str]] = {}
    for case in cases:
        key = f"case {case.name}" if case.group is None else f"group {case.group}"
        groups.setdefault(key, []).append(case.name)
    return groups


def _share(fraction: float, total: int) -> int:
    return max(1, round(fraction * total)) if fraction > 0 else 0


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _check_split(path: Path, split: Split, cases: Sequence[Case]) -> None:
    names = [*split.train, *split.val, *split.test]
    labelled = {case.name: case for case in cases if case.labels}
    unknown = [name for name in names if name not in labelled]
    repeated = [name for name, count in Counter(names).items() if count > 1]
    problem = None
    if unknown:
        problem = "labelled cases of the data set", f"unknown names {_few(unknown)}"
    elif repeated:
        problem = "every case once", f"{_few(repeated)} more than once"
    elif not split.train:
        problem = "training cases", "none"
    elif torn := _torn_groups(split, labelled):
        problem = "every patient in one part", f"{_few(torn)} in two"
    if problem:
        raise UserError(path, expected=problem[0], found=problem[1], fix="Correct the split file.")


def _torn_groups(split: Split, cases: dict[str, Case]) -> list[str]:
    """List the groups that have cases in more than one part."""
    parts: dict[str, set[str]] = {}
    for part in PARTS:
        for name in getattr(split, part):
            group = cases[name].group
            if group is not None:
                parts.setdefault(group, set()).add(part)
    return [group for group, where in parts.items() if len(where) > 1]


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
