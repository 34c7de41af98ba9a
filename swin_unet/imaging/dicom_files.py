"""DICOM files: which ones they are, and what their headers say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from swin_unet.imaging import faults, itk
from swin_unet.imaging.formats import family_of

if TYPE_CHECKING:
    import SimpleITK

_MAGIC = b"DICM"
_MAGIC_OFFSET = 128
# Files without the magic word start with a tag of group 0002 or 0008.
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00")
_INDEX_FILE = "DICOMDIR"
# Kinds of objects without an image, by the start of their SOP class: media index, presentation
# states, waveforms, raw data with registrations and segmentations, structured reports, documents,
# radiotherapy.
_NO_IMAGES = (
    "1.2.840.10008.1.3.10",
    "1.2.840.10008.5.1.4.1.1.11.",
    "1.2.840.10008.5.1.4.1.1.9.",
    "1.2.840.10008.5.1.4.1.1.66",
    "1.2.840.10008.5.1.4.1.1.88.",
    "1.2.840.10008.5.1.4.1.1.104.",
    "1.2.840.10008.5.1.4.1.1.481.3",
    "1.2.840.10008.5.1.4.1.1.481.5",
)
# The element (0002,0002), UI, which says what kind of object follows.
_MEDIA_CLASS = b"\x02\x00\x02\x00UI"
_START_BYTES = 2048
# Directions are written with two or three digits by some.
_ORTHONORMAL_TOLERANCE = 0.01


@dataclass(frozen=True)
class SliceFile:
    """What the header of a file says.

    Attributes:
        path: The file.
        series_uid: Which series it belongs to; may be empty.
        number: Number of the series; may be empty.
        description: Of the series; may be empty.
        size: Columns, rows and frames.
        position: Of the first pixel in LPS, in mm; None where the file has none.
        orientation: Directions of rows and columns, six numbers; None where the file has none.
        spacing_mm: Between columns and between rows, and frames.
        direction: As ITK has it, nine numbers.
        pixel_id: SimpleITK's type of the pixels, scaled.
        num_components: Per pixel.
        has_spacing: Whether the file holds a pixel size.
    """

    path: Path
    series_uid: str
    number: str
    description: str
    size: tuple[int, int, int]
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing_mm: tuple[float, float, float]
    direction: tuple[float, ...]
    pixel_id: int
    num_components: int
    has_spacing: bool


def is_dicom(path: Path) -> bool:
    """Say whether a file is DICOM by its ending or its first bytes."""
    family = family_of(path)
    if family is not None:
        return family == "dicom"
    start = _start(path)
    if start[_MAGIC_OFFSET : _MAGIC_OFFSET + 4] == _MAGIC:
        return True
    has_uid_for_a_name = not path.suffix or path.suffix[1:].isdigit()
    return has_uid_for_a_name and start[:2] in _FIRST_GROUPS and start[3:4] == b"\0"


def holds_dicom(folder: Path) -> bool:
    """Say whether there are DICOM files directly in a folder."""
    return any(is_dicom(path) for path in _candidates(folder))


def dicom_files(folder: Path) -> list[Path]:
    """List the DICOM files directly in a folder, in order of their names."""
    return [path for path in _candidates(folder) if is_dicom(path)]


def read_slice_header(path: Path) -> SliceFile | None:
    """Return what the header of a file says; None for an object that is not an image.

    Raises:
        UserError: Damaged file.
    """
    if _media_class(path).startswith(_NO_IMAGES):
        return None
    reader = file_reader(path)
    with faults.complete(path, "DICOM image", itk.UNREADABLE):
        reader.ReadImageInformation()
    if _tag(reader, "0008|0016").startswith(_NO_IMAGES):
        return None
    spacing, size = reader.GetSpacing(), reader.GetSize()
    return SliceFile(
        path=path,
        series_uid=_tag(reader, "0020|000e"),
        number=_tag(reader, "0020|0011"),
        description=_tag(reader, "0008|103e"),
        size=(size[0], size[1], size[2] if len(size) > 2 else 1),
        position=_numbers(_tag(reader, "0020|0032"), 3),
        orientation=_orientation(_tag(reader, "0020|0037")),
        spacing_mm=(spacing[0], spacing[1], spacing[2] if len(spacing) > 2 else 1.0),
        direction=reader.GetDirection(),
        pixel_id=reader.GetPixelID(),
        num_components=reader.GetNumberOfComponents(),
        has_spacing=_has_spacing(reader),
    )


def file_reader(path: Path) -> SimpleITK.ImageFileReader:
    """Return a reader of one file, nothing read yet."""
    reader = itk.simpleitk().ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    return reader


def _candidates(folder: Path) -> list[Path]:
    try:
        paths = sorted(folder.iterdir())
    except PermissionError as error:
        raise faults.no_permission(folder) from error
    return [
        path
        for path in paths
        if path.is_file() and not path.name.startswith(".") and path.name != _INDEX_FILE
    ]


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_START_BYTES)
    except OSError as error:
        raise faults.no_permission(path) from error


def _media_class(path: Path) -> str:
    """Return the SOP class that the start of a file names, empty if there is none."""
    start = _start(path)
    place = start.find(_MEDIA_CLASS)
    if place < 0:
        return ""
    begin = place + len(_MEDIA_CLASS) + 2
    length = int.from_bytes(start[begin - 2 : begin], "little")
    return start[begin : begin + length].decode("ascii", "replace").strip(" \0")


def _tag(reader: Any, key: str) -> str:
    """Return the text of an element, in UTF-8 or Latin 1; empty if there is none."""
    if not reader.HasMetaDataKey(key):
        return ""
    raw: bytes = reader.GetMetaData(key).encode("utf-8", "surrogateescape")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    return text.strip(" \0")


def _has_spacing(reader: Any) -> bool:
    """Say whether the file holds a pixel size; a file of many frames keeps it with the frames."""
    if reader.GetSize()[2:] not in ((), (1,)):
        return True
    sizes = (_numbers(_tag(reader, tag), 2) for tag in ("0028|0030", "0018|1164"))
    return any(size is not None and min(size) > 0 for size in sizes)


def _orientation(text: str) -> tuple[float, ...] | None:
    """Return the directions of rows and columns, None unless they are of length 1 and square."""
    numbers = _numbers(text, 6)
    if numbers is None:
        return None
    rows, columns = np.reshape(numbers, (2, 3))
    products = np.array([rows @ rows - 1, columns @ columns - 1, rows @ columns])
    return numbers if np.abs(products).max() < _ORTHONORMAL_TOLERANCE else None


def _numbers(text: str, count: int) -> tuple[float, ...] | None:
    """Return the numbers between backslashes, None unless there are so many."""
    try:
        values = tuple(float(value) for value in text.split("\\"))
    except ValueError:
        return None
    return values if len(values) == count else None
