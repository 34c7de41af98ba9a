"""The series among the DICOM files of a folder, and which one is meant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from swin_unet.config import UserError
from swin_unet.imaging.dicom_files import SliceFile, dicom_files, read_slice_header


@dataclass(frozen=True)
class Series:
    """The files of one series, in order of their names."""

    files: tuple[SliceFile, ...]

    @property
    def names(self) -> tuple[str, str, str]:
        """What it can be chosen by: number, UID, description; any may be empty."""
        first = self.files[0]
        return first.number, first.series_uid, first.description

    @property
    def title(self) -> str:
        """Number, description and size in words."""
        number, _, description = self.names
        columns, rows, frames = self.files[0].size
        num_slices = len(self.files) if frames == 1 else frames
        words = [f"number {number}" if number else "no number", description or "no description"]
        return f"{', '.join(words)}, {columns} x {rows} x {num_slices}"


def scan(folder: Path) -> list[Series]:
    """Read the headers of all images in a folder and group them by series.

    Files without a series UID belong together by number and description. Objects without an
    image and segmentations are left out.

    Raises:
        UserError: A damaged file, or no image.
    """
    groups: dict[tuple[str, ...], list[SliceFile]] = {}
    paths = dicom_files(folder)
    for path in paths:
        file = read_slice_header(path)
        if file is not None:
            key = (file.series_uid,) if file.series_uid else ("", file.number, file.description)
            groups.setdefault(key, []).append(file)
    if not groups:
        raise UserError(
            folder,
            expected="a folder with the DICOM files of an image",
            found="DICOM files without an image" if paths else "no DICOM file",
            fix="Name the folder that holds the images.",
        )
    series = [Series(tuple(files)) for files in groups.values()]
    return sorted(series, key=lambda one: (_as_number(one.names[0]), one.names))


def scan_file(path: Path) -> Series:
    """Read the header of a single file.

    Raises:
        UserError: Damaged file, or no image.
    """
    file = read_slice_header(path)
    if file is None:
        raise UserError(
            path,
            expected="a DICOM file with an image",
            found="another kind of object",
            fix="Give an image; convert a DICOM segmentation to NIfTI to use it as a label map.",
        )
    return Series((file,))


def choose(folder: Path, series: Sequence[Series], wanted: str | None) -> Series:
    """Return the series of a number, UID or description, or the only one there is.

    Raises:
        UserError: When it is not clear which one; it lists them.
    """
    found = [one for one in series if wanted is None or _answers_to(one, wanted)]
    if len(found) == 1:
        return found[0]
    listed = "; ".join(f"'{_selector(one, series)}': {one.title}" for one in series)
    if wanted is None:
        expected, what = "one DICOM series", f"{len(series)}"
    else:
        expected = f"a series that '{wanted}' is number, UID or description of"
        what = f"{len(found) or 'none'} of {len(series)}"
    example = _selector(series[0], series)
    raise UserError(
        folder,
        expected=expected,
        found=f"{what} ({listed})",
        fix=f"Name one behind '#', such as '{folder}#{example}', or give each a folder of its own.",
    )


def _answers_to(series: Series, wanted: str) -> bool:
    number, *others = series.names
    is_number = number.isdigit() and wanted.isdigit() and int(number) == int(wanted)
    return bool(wanted) and (is_number or wanted in (number, *others))


def _selector(series: Series, all_series: Sequence[Series]) -> str:
    """Return the shortest name that no other series answers to."""
    for name in series.names:
        if name and sum(_answers_to(one, name) for one in all_series) == 1:
            return name
    return "no name of its own"


def _as_number(text: str) -> int:
    return int(text) if text.isdigit() else -1
