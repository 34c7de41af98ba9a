"""Folders with a dataset.json: Medical Segmentation Decathlon and nnU-Net layouts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from datasets.cases import Case, Dataset, read_json
from swin_unet.config import UserError

MSD_KEYS = ("modality", "labels", "training")
NNUNET_KEYS = ("channel_names", "labels", "file_ending")
SUFFIXES = (".nii.gz", ".nii")


def read_decathlon(root: str | Path) -> Dataset:
    """List the labelled cases of a folder with a dataset.json.

    Two dialects: MSD has `modality`, `labels` as value to name, and `training` as a list of image
    and label paths. nnU-Net has `channel_names`, `labels` as name to value, `file_ending`, and
    the files imagesTr/CASE_0000.nii.gz (one per channel) and labelsTr/CASE.nii.gz.

    Raises:
        UserError: Missing folder or file, invalid dataset.json, or no cases.
    """
    root = Path(root)
    _check_root(root)
    path = root / "dataset.json"
    content = read_json(path)
    is_nnunet = "channel_names" in content
    _check_keys(path, content, NNUNET_KEYS if is_nnunet else MSD_KEYS)
    classes = _classes(path, content["labels"])
    channels = _channels(path, content["channel_names" if is_nnunet else "modality"])
    find = _nnunet_cases if is_nnunet else _msd_cases
    cases = find(root, content, len(channels))
    if not cases:
        raise UserError(
            root, expected="labelled training cases", found="none", fix="Add images and labels."
        )
    _check_names(path, cases)
    return Dataset(tuple(sorted(cases, key=_name)), classes, channels)


def _check_root(root: Path) -> None:
    if not root.is_dir():
        raise UserError(
            root,
            expected="a data set folder",
            found="a file" if root.exists() else "nothing there",
            fix="Give the folder that holds dataset.json as --data.root.",
        )
    if not (root / "dataset.json").is_file():
        is_empty = next(root.iterdir(), None) is None
        raise UserError(
            root,
            expected="a dataset.json",
            found="an empty folder" if is_empty else "none in the folder",
            fix="Give the folder that holds dataset.json as --data.root.",
        )


def _check_keys(path: Path, content: dict[str, Any], keys: tuple[str, ...]) -> None:
    missing = [key for key in keys if key not in content]
    if missing:
        raise UserError(
            path,
            expected=f"the keys {', '.join(keys)}",
            found=f"no {', '.join(missing)}",
            fix="Add them as the Medical Segmentation Decathlon or nnU-Net does.",
        )


def _classes(path: Path, labels: Any) -> dict[int, str]:
    """Return value to name without the background, from either direction of the table."""
    try:
        values = _label_values(labels)
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(
            path,
            expected="labels that map single integers and names, no regions, no ignore label",
            found=str(labels),
            fix="Write them as {'0': 'background', '1': 'liver'} or {'background': 0, 'liver': 1}.",
        ) from error
    names = list(values.values())
    if (
        sorted(values) != list(range(len(labels)))
        or len(values) < 2
        or len(set(names)) < len(names)
    ):
        raise UserError(
            path,
            expected="labels 0 (background), 1, 2, ... without gaps, each with its own name",
            found=str(labels),
            fix="Renumber the labels here and in the label maps.",
        )
    return {value: values[value] for value in sorted(values) if value > 0}


def _label_values(labels: dict[str, Any]) -> dict[int, str]:
    if all(key.isdigit() for key in labels):
        return {int(key): str(name) for key, name in labels.items()}
    if "ignore" in labels or not all(isinstance(value, int) for value in labels.values()):
        raise ValueError("neither regions nor an ignore label are supported")
    return {value: name for name, value in labels.items()}


def _channels(path: Path, table: Any) -> tuple[str, ...]:
    expected = [str(index) for index in range(len(table))] if isinstance(table, dict) else []
    if not expected or sorted(table, key=len) != expected:
        raise UserError(
            path,
            expected="channels numbered '0', '1', ... with their names",
            found=str(table),
            fix="Write them as {'0': 'CT'}.",
        )
    return tuple(str(table[index]) for index in expected)


def _msd_cases(root: Path, content: dict[str, Any], num_channels: int) -> list[Case]:
    cases = []
    entries = content["training"]
    for entry in entries if isinstance(entries, list) else [entries]:
        if not isinstance(entry, dict) or not {"image", "label"} <= set(entry):
            raise UserError(
                root / "dataset.json",
                expected="training entries with image and label",
                found=str(entry),
                fix="Write {'image': './imagesTr/a.nii.gz', 'label': './labelsTr/a.nii.gz'}.",
            )
        label = root / str(entry["label"])
        image = root / str(entry["image"])
        cases.append(_case(stem(label.name), _msd_images(image, num_channels), label))
    return cases


def _msd_images(image: Path, num_channels: int) -> tuple[Path, ...]:
    """Return the listed file, or its channels as nnU-Net's first version stored them."""
    files = _channel_files(image, num_channels)
    return files if files[0].is_file() and not image.is_file() else (image,)


def _nnunet_cases(root: Path, content: dict[str, Any], num_channels: int) -> list[Case]:
    ending = str(content["file_ending"])
    if ending not in SUFFIXES:
        raise UserError(
            root / "dataset.json",
            expected="file_ending .nii.gz or .nii",
            found=f"'{ending}'",
            fix="Convert the files to NIfTI.",
        )
    pattern = re.compile(rf"(.+)_\d{{4}}{re.escape(ending)}")
    matches = (pattern.fullmatch(path.name) for path in _files(root / "imagesTr"))
    names = {match[1] for match in matches if match}
    names |= {stem(path.name) for path in _files(root / "labelsTr") if path.name.endswith(ending)}
    return [
        _case(
            name,
            _channel_files(root / "imagesTr" / f"{name}{ending}", num_channels),
            root / "labelsTr" / f"{name}{ending}",
        )
        for name in sorted(names)
    ]


def _files(folder: Path) -> list[Path]:
    """List a folder's files; those of a Mac's archive (._name) are none of ours."""
    if not folder.is_dir():
        raise UserError(
            folder, expected="a folder", found="nothing there", fix="Check --data.root."
        )
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


def _channel_files(image: Path, num_channels: int) -> tuple[Path, ...]:
    """Return CASE_0000, CASE_0001, ... for an image path without channel suffix."""
    name, ending = stem(image.name), image.name[len(stem(image.name)) :]
    files = [image.with_name(f"{name}_{index:04d}{ending}") for index in range(num_channels)]
    return tuple(files)


def _case(name: str, images: tuple[Path, ...], label: Path) -> Case:
    for path in (*images, label):
        _check_listed(path)
    return Case(name, images, (label,))


def _check_listed(path: Path) -> None:
    if not path.is_file():
        raise UserError(
            path,
            expected="a file of the data set",
            found="nothing there",
            fix="Restore it, or remove its case from the data set.",
        )


def _check_names(path: Path, cases: list[Case]) -> None:
    names = [case.name for case in cases]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise UserError(
            path,
            expected="different names for all cases",
            found=f"{', '.join(repeated)} more than once",
            fix="List every case once.",
        )


def stem(name: str) -> str:
    """Return a file name without .nii or .nii.gz."""
    return re.sub(r"\.nii(\.gz)?$", "", name)


def _name(case: Case) -> str:
    return case.name
