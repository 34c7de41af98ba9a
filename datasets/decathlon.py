"""Folders with a dataset.json: Medical Segmentation Decathlon and nnU-Net layouts.

`python -m datasets.decathlon download Task04_Hippocampus DIR` gets one.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets.cases import Case, Dataset, few
from datasets.pairing import check_names
from datasets.sources import check_root, no_data
from swin_unet.config import DataConfig, UserError
from swin_unet.files import read_json
from swin_unet.imaging import split_name
from swin_unet.imaging.formats import PICTURE_SUFFIXES, SUPPORTED, VOLUME_SUFFIXES

MSD_KEYS = ("modality", "labels", "training")
NNUNET_KEYS = ("channel_names", "labels", "file_ending")


def read_decathlon(config: DataConfig) -> Dataset:
    """List the cases of a folder with a dataset.json; those of its test part have no labels.

    Two dialects: MSD has `modality`, `labels` as value to name, `training` as a list of image and
    label paths, and may have `test` as a list of images. nnU-Net has `channel_names`, `labels` as
    name to value, `file_ending`, and the files imagesTr/CASE_0000.nii.gz (one per channel),
    labelsTr/CASE.nii.gz, and perhaps imagesTs.

    Raises:
        UserError: Missing folder or file, invalid dataset.json, or no labelled cases.
    """
    root = check_root(config)
    path = root / "dataset.json"
    if not path.is_file():
        fix = "Give the folder that holds dataset.json as --data.root DIR."
        raise no_data("decathlon", root, "a dataset.json", "none in the folder", fix)
    content = read_json(path)
    is_nnunet = "channel_names" in content
    _check_keys(path, content, NNUNET_KEYS if is_nnunet else MSD_KEYS)
    classes = _classes(path, content["labels"])
    channels = _channels(path, content["channel_names" if is_nnunet else "modality"])
    find = _nnunet_cases if is_nnunet else _msd_cases
    labelled, others = find(root, content, len(channels))
    if not labelled:
        raise UserError(
            root, expected="labelled training cases", found="none", fix="Add images and labels."
        )
    check_names(path, [case.name for case in (*labelled, *others)])
    present = [case for case in others if all(file.is_file() for file in case.images)]
    cases = sorted((*labelled, *present), key=lambda case: case.name)
    absent = [case.name for case in others if case not in present]
    return Dataset(tuple(cases), classes, channels, notes=_absence_notes(absent))


def _absence_notes(names: list[str]) -> tuple[str, ...]:
    text = f"test images that dataset.json lists are not there: {len(names)} ({few(names)})"
    return (text,) if names else ()


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


def _msd_cases(
    root: Path, content: dict[str, Any], num_channels: int
) -> tuple[list[Case], list[Case]]:
    """Return the cases of `training`, whose files must be there, and those of `test`."""
    labelled = []
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
        labelled.append(Case(_stem(label), _msd_images(image, num_channels), (label,)))
    tests = content.get("test", [])
    tests = tests if isinstance(tests, list) else []
    images = [root / path for path in tests if isinstance(path, str)]
    return labelled, [Case(_stem(path), _msd_images(path, num_channels)) for path in images]


def _msd_images(image: Path, num_channels: int) -> tuple[Path, ...]:
    """Return the listed file, or its channels as nnU-Net's first version stored them."""
    files = _channel_files(image, num_channels)
    return files if files[0].is_file() and not image.is_file() else (image,)


def _nnunet_cases(
    root: Path, content: dict[str, Any], num_channels: int
) -> tuple[list[Case], list[Case]]:
    """Return the cases of imagesTr or labelsTr, whose files must be there, and of imagesTs."""
    ending = str(content["file_ending"])
    if ending.lower() not in VOLUME_SUFFIXES:
        raise UserError(
            root / "dataset.json",
            expected=f"the file_ending of {SUPPORTED}",
            found=f"'{ending}'",
            fix="Convert the files.",
        )
    names = _channel_names(root / "imagesTr", ending)
    names |= {_stem(path) for path in _files(root / "labelsTr") if path.name.endswith(ending)}
    labelled = [
        Case(name, images, (root / "labelsTr" / f"{name}{ending}",))
        for name, images in _nnunet_images(root / "imagesTr", names, ending, num_channels)
    ]
    tests = root / "imagesTs"
    names = _channel_names(tests, ending) if tests.is_dir() else set()
    return labelled, [Case(*item) for item in _nnunet_images(tests, names, ending, num_channels)]


def _channel_names(folder: Path, ending: str) -> set[str]:
    pattern = re.compile(rf"(.+)_\d{{4}}{re.escape(ending)}")
    matches = (pattern.fullmatch(path.name) for path in _files(folder))
    return {match[1] for match in matches if match}


def _nnunet_images(
    folder: Path, names: set[str], ending: str, num_channels: int
) -> list[tuple[str, tuple[Path, ...]]]:
    """Return name and channel files of every case; a colour picture has its channels in one."""
    cases = []
    for name in sorted(names):
        files = _channel_files(folder / f"{name}{ending}", num_channels)
        is_picture = ending.lower() in PICTURE_SUFFIXES
        in_one = is_picture and not any(path.is_file() for path in files[1:])
        cases.append((name, files[:1] if in_one else files))
    return cases


def _files(folder: Path) -> list[Path]:
    """List a folder's files; those of a Mac's archive (._name) are none of ours."""
    if not folder.is_dir():
        raise UserError(
            folder, expected="a folder", found="nothing there", fix="Check --data.root."
        )
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


def _channel_files(image: Path, num_channels: int) -> tuple[Path, ...]:
    """Return CASE_0000, CASE_0001, ... for an image path without channel suffix."""
    name, ending = split_name(image)
    files = [image.with_name(f"{name}_{index:04d}{ending}") for index in range(num_channels)]
    return tuple(files)


def _stem(path: Path) -> str:
    return split_name(path)[0]


def main(argv: Sequence[str] | None = None) -> int:
    """Download a data set, see datasets.download."""
    from datasets.download import main as download

    return download(argv)


if __name__ == "__main__":
    from swin_unet.cli import run

    sys.exit(run(main))
