"""Cases of a data set, and how one is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from swin_unet.config import UserError
from swin_unet.imaging import (
    OnMismatch,
    Plane,
    Volume,
    read_header,
    read_image,
    read_labels,
    source_files,
    thick_plane,
)
from swin_unet.imaging.dicom import is_series

PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Case:
    """One examination.

    Attributes:
        name: Unique in its data set; also the stem of what is written for it.
        images: One file with all channels, or one file per channel in order; when `stacked`, one
            file per slice from the lowest to the highest.
        labels: The reference label map; when `stacked`, one per slice; empty: unlabelled. May be
            the files of the images, where those hold both (.npz and .h5), and where an image has
            a class as a whole.
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
        targets: Where every image has one class as a whole: the class value of every case, by
            name. None: there are label maps.
        images_only: Labels are not read, whether or not there are any; see datasets.pretraining.
        read: Reads the image of a case; None: swin_unet.imaging does.
    """

    cases: tuple[Case, ...]
    classes: dict[int, str]
    channels: tuple[str, ...]
    split: Split | None = None
    label_values: dict[int, int] | None = None
    on_mismatch: OnMismatch = "error"
    notes: tuple[str, ...] = ()
    targets: Mapping[str, int] | None = None
    images_only: bool = False
    read: Callable[[Case], Volume] | None = None

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


def load_case(case: Case, dataset: Dataset) -> tuple[Volume, Volume]:
    """Read a case's image and its label map, and check them against the data set and each other.

    Args:
        case: One of the data set's.
        dataset: Says how many channels and which label values to expect.

    Returns:
        The image, and its label map of class values on the same grid; of a data set without
        labels, an empty one.

    Raises:
        UserError: Any fault of the files, see swin_unet.imaging.readers; no label map; another
            number of channels than the data set's.
    """
    if not case.labels:
        raise UserError(
            case.name, expected="a label map", found="none", fix="Add one or leave the case out."
        )
    image = load_image(case, dataset)
    if dataset.images_only:
        return image, replace(image, array=np.zeros(image.shape, np.uint8))
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
    read = dataset.read
    image = read_image(case.images, stacked=case.stacked) if read is None else read(case)
    if image.num_channels != dataset.num_channels:
        raise UserError(
            image.label,
            expected=f"{dataset.num_channels} channel(s), as the data set says",
            found=f"{image.num_channels} (shape {image.array.shape})",
            fix="Correct the data set's list of channels, or the image.",
        )
    return image


def load_label(case: Case, dataset: Dataset) -> Volume:
    """Read a case's label map alone, on its own grid.

    Raises:
        UserError: As `load_case`.
    """
    assert case.labels
    return read_labels(
        case.labels, dataset.num_classes, stacked=case.stacked, values=dataset.label_values
    )


def files_of(dataset: Dataset, cases: Iterable[Case]) -> dict[str, list[Path]]:
    """List the files of every case, by its name; pictures are taken together.

    Raises:
        UserError: Missing or unsupported file, or a damaged header.
    """
    if dataset.targets is not None:  # there may be many thousands
        return {"pictures": sorted({path for case in cases for path in case.images})}
    return {
        case.name: [
            file
            for path in dict.fromkeys((*case.images, *case.labels))
            for file in present_files(path)
        ]
        for case in cases
    }


def present_files(path: Path) -> list[Path]:
    """List the files behind a path of a case; the path itself where nothing is there."""
    return source_files(path) if path.is_file() or is_series(path) else [path]


def check_files(cases: Iterable[Case]) -> None:
    """Raise UserError when files or folders are not there."""
    missing = missing_files(cases)
    if missing:
        others = f", and {len(missing) - 1} other files are missing" if len(missing) > 1 else ""
        raise UserError(
            missing[0],
            expected="a file of the data set",
            found=f"nothing there{others}",
            fix="Restore it, or remove its case from the data set.",
        )


def missing_files(cases: Iterable[Case]) -> list[Path]:
    """List the files and folders of cases that are not there."""
    files = (path for case in cases for path in (*case.images, *case.labels))
    return [path for path in dict.fromkeys(files) if not (path.exists() or is_series(path))]


def choose_plane(cases: Sequence[Case]) -> tuple[Plane, list[str]]:
    """Find out what `data.plane: auto` stands for: the plane across the cases' thick axis.

    Returns:
        The plane, and the names of the cases whose own thick axis is another.

    Raises:
        UserError: A file without a readable header.
    """
    headers = [read_header(case.images[0]) for case in cases]
    plane = thick_plane(headers)
    planes = [thick_plane([header]) for header in headers]
    odd = [case.name for case, own in zip(cases, planes, strict=True) if own != plane]
    return plane, odd


def few(names: Sequence[str], limit: int = 5) -> str:
    """List the first names."""
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")
