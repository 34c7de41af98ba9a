"""One case looked at completely: every fault of its files, and the numbers of a fingerprint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from datasets.cases import Case, Dataset, check_files, load_image, load_label, missing_files
from datasets.facts import ImageFacts, LabelFacts, measure_image, measure_label
from datasets.problems import Problem
from swin_unet.config import UserError
from swin_unet.imaging import OnMismatch, Volume, align, read, read_header, read_image, read_labels
from swin_unet.imaging.volume import axis_codes, check_is_3d

T = TypeVar("T")

MISSING = "missing file"


@dataclass(frozen=True, eq=False)
class Examination:
    """What is known of one case after its files were read.

    Attributes:
        case: The case.
        image: None when it cannot be read.
        label: None when there is none, or none that fits.
        problems: Found in this case alone.
    """

    case: Case
    image: ImageFacts | None
    label: LabelFacts | None
    problems: tuple[Problem, ...]


def examine(case: Case, dataset: Dataset) -> Examination:
    """Read a case as training does, but go on after a fault as far as possible."""
    problems: list[Problem] = []
    missing = set(missing_files([case]))
    for path in sorted(missing):
        _attempt(partial(check_files, [Case(case.name, (path,))]), MISSING, case, problems)
    image, label = None, None
    if not missing.intersection(case.images):
        image = _examine_image(case, dataset, problems)
    if case.labels and not missing.intersection(case.labels):
        label = _examine_label(case, dataset, image, problems)
    facts = None if image is None else measure_image(image, label)
    counts = None if label is None else measure_label(label, dataset.num_classes)
    return Examination(case, facts, counts, tuple(problems))


def examine_file(path: Path) -> tuple[Problem, ...]:
    """Try to read a file of which nothing is known but its name."""
    problems: list[Problem] = []
    _attempt(lambda: read_image([path]), "file", Case(path.name, (path,)), problems)
    return tuple(replace(problem, severity="warning") for problem in problems)


def _attempt(function: Callable[[], T], kind: str, case: Case, problems: list[Problem]) -> T | None:
    """Return what the function returns, or note what it refuses."""
    try:
        return function()
    except UserError as error:
        problems.append(Problem.from_error(error, kind, case.name))
        return None


def _salvage(case: Case) -> Volume | None:
    """Read an image that training refuses: other channels, or voxels that are not finite."""
    readers: list[Callable[[], Volume]] = [lambda: read_image(case.images, stacked=case.stacked)]
    if len(case.images) == 1:
        readers.append(lambda: read(case.images[0]))
    for reader in readers:
        with suppress(UserError):
            return reader()
    return None


def _examine_image(case: Case, dataset: Dataset, problems: list[Problem]) -> Volume | None:
    """Read the image, and after a fault what may still be compared."""
    image = _attempt(lambda: load_image(case, dataset), "image", case, problems)
    return _salvage(case) if image is None else image


def _examine_label(
    case: Case, dataset: Dataset, image: Volume | None, problems: list[Problem]
) -> Volume | None:
    """Read the label map as it is meant to lie on the image, or say what is wrong with it."""
    faults: list[Problem] = []
    label = _attempt(lambda: _read_label(case, dataset, image, "error"), "label map", case, faults)
    if label is None and dataset.on_mismatch != "error":
        mode = dataset.on_mismatch
        label = _attempt(lambda: _read_label(case, dataset, image, mode), "label map", case, [])
    if label is None:
        problems.extend(_label_faults(case, dataset, image))
        return None
    problems.extend(_mended(fault, dataset.on_mismatch) for fault in faults)
    problems.extend(_peculiarities(case, image))
    return label if image is not None else None


def _label_faults(case: Case, dataset: Dataset, image: Volume | None) -> Iterator[Problem]:
    """Yield what training would say, then what is wrong with the values, then with the grid."""
    faults: list[Problem] = []
    mode = dataset.on_mismatch
    readers = [
        lambda: _read_label(case, dataset, image, mode),
        lambda: load_label(case, dataset),
    ]
    if image is not None and not case.stacked:
        readers.append(lambda: _align_any(case.labels[0], image, mode))
    for reader in readers:
        _attempt(reader, "label map", case, faults)
    yield from dict.fromkeys(faults)


def _align_any(path: Path, image: Volume, on_mismatch: OnMismatch) -> Volume:
    """Put a label map on the image's grid, whatever its values."""
    label = read(path, "label")
    check_is_3d(label, "a 3D label map")
    return align(label, image, on_mismatch)


def _mended(fault: Problem, on_mismatch: OnMismatch) -> Problem:
    fix = f"data.on_mismatch {on_mismatch} deals with it; look at the result in datasets.preview."
    return replace(fault, severity="warning", kind="label map on another grid", fix=fix)


def _peculiarities(case: Case, image: Volume | None) -> Iterator[Problem]:
    """Yield what is unusual about a label map's file but read rightly."""
    header = read_header(case.labels[0], "label")
    file = str(case.labels[0])
    if header.dtype.kind == "f":
        message = f"whole numbers stored as {header.dtype}"
        fix = "Nothing: they are read as integers."
        yield Problem("label map of real numbers", "info", case.name, file, message, fix)
    if image is None or not (image.has_spacing and header.has_spacing):
        return
    codes = [axis_codes(grid.affine) for grid in (header, image)]
    if codes[0] != codes[1]:
        message = f"its axes are stored as {codes[0]}, those of the image as {codes[1]}"
        fix = "Nothing: it is turned, exactly."
        yield Problem("label map stored with other axes", "info", case.name, file, message, fix)


def _read_label(
    case: Case, dataset: Dataset, image: Volume | None, on_mismatch: OnMismatch
) -> Volume:
    return read_labels(
        case.labels,
        dataset.num_classes,
        like=image,
        stacked=case.stacked,
        values=dataset.label_values,
        on_mismatch=on_mismatch,
    )
