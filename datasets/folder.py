"""Any folder: images and label maps paired by name, by two patterns, or by a list."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datasets.case_list import Row, read_list
from datasets.cases import PARTS, Case, Dataset, Split, few, missing_files
from datasets.pairing import CHANNEL, check_names, group_channels, list_entries, pair_labels
from datasets.sources import check_root, no_data
from swin_unet.config import DataConfig, UserError
from swin_unet.imaging import read_header, split_name

IMAGES, LABELS = "images", "labels"


def read_folder(config: DataConfig) -> Dataset:
    """List the cases of a folder.

    `data.list_file` names them, or `data.images` and `data.labels` do; without these it is the
    folders `images` and `labels`, of which the latter may be missing.

    Raises:
        UserError: Missing folders or files, files that cannot be paired, no class names for
            label maps, or cases with other numbers of channels.
    """
    root = check_root(config)
    if config.list_file is None:
        cases, split = _found_cases(config, root), None
    else:
        cases, split = _listed_cases(root, root / config.list_file)
    return Dataset(
        cases=tuple(sorted(cases, key=lambda case: case.name)),
        classes=_classes(config, cases),
        channels=_channels(root, cases),
        split=split,
    )


def _found_cases(config: DataConfig, root: Path) -> list[Case]:
    """Pair what lies in two folders or matches two patterns."""
    images_at, labels_at = _places(config, root)
    entries = list_entries(root, images_at, "data.images")
    labels = [] if labels_at is None else list_entries(root, labels_at, "data.labels")
    taken = {label.path for label in labels}  # *.nii.gz also matches what *_seg.nii.gz does
    entries = [entry for entry in entries if entry.path not in taken]
    if not entries:
        raise UserError(
            "data.images",
            expected="images beside the label maps",
            found=f"the same files by {images_at} and {labels_at}",
            fix="Correct the patterns.",
        )
    groups = group_channels(entries)
    pairs = pair_labels(list(groups), labels, "data.labels")
    return [
        Case(image.name, paths, (pairs[image].path,) if image in pairs else ())
        for image, paths in groups.items()
    ]


def _places(config: DataConfig, root: Path) -> tuple[str, str | None]:
    """Return where images and label maps are."""
    if config.images is not None:
        return config.images, config.labels
    if not (root / IMAGES).is_dir():
        expected = f"the folders {IMAGES} and {LABELS}, or data.images, or data.list_file"
        raise no_data("folder", root, expected, "none of them", "Say where the images are.")
    has_labels = (root / LABELS).is_dir()
    return IMAGES, config.labels or (LABELS if has_labels else None)


def _listed_cases(root: Path, path: Path) -> tuple[list[Case], Split | None]:
    """Take the cases of a list, and the split if it has one."""
    rows = read_list(path)
    cases = [_listed_case(root, row) for row in rows]
    check_names(path, [case.name for case in cases])
    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    for row, case in zip(rows, cases, strict=True):
        if row.part is not None and case.labels:
            parts[row.part].append(case.name)
    has_split = any(row.part is not None for row in rows)
    return cases, Split(*(tuple(names) for names in parts.values())) if has_split else None


def _listed_case(root: Path, row: Row) -> Case:
    images = tuple(root / image for image in row.images)
    stem = split_name(images[0])[0]
    name = row.name or (CHANNEL.sub("", stem) if len(images) > 1 else stem)
    labels = () if row.label is None else (root / row.label,)
    return Case(name, images, labels, row.group)


def _classes(config: DataConfig, cases: Sequence[Case]) -> dict[int, str]:
    labelled = next((case for case in cases if case.labels), None)
    if config.classes is None and labelled is not None:
        raise UserError(
            "data.classes",
            expected="the names of the label values 1, 2, ... in order",
            found=f"no value, and label maps such as {labelled.labels[0]}",
            fix="Give them, for example --data.classes '[liver, spleen]'.",
        )
    return dict(enumerate(config.classes or (), start=1))


def _channels(root: Path, cases: Sequence[Case]) -> tuple[str, ...]:
    """Number the channels: the files of a case, or what the first file holds."""
    counts = {case.name: len(case.images) for case in cases}
    most = max(counts.values())
    odd = [name for name, count in counts.items() if count < most]
    if odd:
        raise UserError(
            root,
            expected=f"{most} channel files for every case, as some have",
            found=f"fewer for {few(odd)}",
            fix="Add the missing files, or leave the cases out.",
        )
    first = next((case for case in cases if not missing_files([case])), None)
    if most == 1 and first is not None:
        most = read_header(first.images[0]).num_channels
    return tuple(f"channel {number}" for number in range(most))
