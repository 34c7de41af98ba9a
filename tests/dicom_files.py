"""DICOM files for tests, written byte by byte: also such as no library would write."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

CT = "1.2.840.10008.5.1.4.1.1.2"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
REPORT = "1.2.840.10008.5.1.4.1.1.88.11"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
_LONG = ("OB", "OW", "SQ", "UN")
_VALUE_TYPES = {
    (0x0008, 0x0016): "UI", (0x0008, 0x0018): "UI", (0x0008, 0x0060): "CS",
    (0x0008, 0x103E): "LO", (0x0020, 0x000D): "UI", (0x0020, 0x000E): "UI",
    (0x0020, 0x0011): "IS", (0x0020, 0x0013): "IS", (0x0020, 0x0032): "DS",
    (0x0020, 0x0037): "DS", (0x0028, 0x0002): "US", (0x0028, 0x0004): "CS",
    (0x0028, 0x0006): "US", (0x0028, 0x0008): "IS", (0x0028, 0x0010): "US", (0x0028, 0x0011): "US",
    (0x0028, 0x0030): "DS", (0x0028, 0x0100): "US", (0x0028, 0x0101): "US",
    (0x0028, 0x0102): "US", (0x0028, 0x0103): "US", (0x0028, 0x1052): "DS",
    (0x0028, 0x1053): "DS", (0x7FE0, 0x0010): "OW",
}  # fmt: skip
Tags = Mapping[tuple[int, int], str | None]


def write_slice(
    path: Path,
    pixels: np.ndarray,
    position: Sequence[float] = (0, 0, 0),
    *,
    orientation: Sequence[float] = AXIAL,
    spacing: Sequence[float] = (1.0, 1.0),
    series: str = "1.2.3.4",
    number: str = "1",
    description: str = "thorax",
    sop_class: str = CT,
    tags: Tags | None = None,
    preamble: bool = True,
) -> Path:
    """Write pixels (rows, columns), or (rows, columns, 3) in uint8, as one file.

    Args:
        path: The file.
        pixels: int16, uint16 or uint8.
        position: Of the first pixel.
        orientation: Directions of rows and columns.
        spacing: Between rows and between columns.
        series: UID.
        number: Of the series.
        description: Of the series.
        sop_class: What kind of object.
        tags: Text of further elements, or other text; None: without this element.
        preamble: With the 128 bytes, the magic word and the meta header.
    """
    numbers = {"position": position, "orientation": orientation, "spacing": spacing}
    words = {key: "\\".join(f"{value:.10g}" for value in of) for key, of in numbers.items()}
    bits = pixels.dtype.itemsize * 8
    colours = pixels.shape[2] if pixels.ndim == 3 else 1
    elements: dict[tuple[int, int], str | int | bytes | None] = {
        (0x0008, 0x0016): sop_class,
        (0x0008, 0x0018): f"{series}.{abs(hash(str(path))) % 10**9}" if series else "",
        (0x0008, 0x0060): "CT",
        (0x0008, 0x103E): description,
        (0x0020, 0x000D): "1.2.3",
        (0x0020, 0x000E): series,
        (0x0020, 0x0011): number,
        (0x0020, 0x0032): words["position"],
        (0x0020, 0x0037): words["orientation"],
        (0x0028, 0x0002): colours,
        (0x0028, 0x0004): "RGB" if colours == 3 else "MONOCHROME2",
        (0x0028, 0x0006): 0 if colours == 3 else None,
        (0x0028, 0x0010): pixels.shape[0],
        (0x0028, 0x0011): pixels.shape[1],
        (0x0028, 0x0030): words["spacing"],
        (0x0028, 0x0100): bits,
        (0x0028, 0x0101): bits,
        (0x0028, 0x0102): bits - 1,
        (0x0028, 0x0103): int(pixels.dtype.kind == "i"),
        (0x7FE0, 0x0010): pixels.astype(pixels.dtype.newbyteorder("<")).tobytes(),
        **(tags or {}),
    }
    body = b"".join(
        _element(tag, elements[tag]) for tag in sorted(elements) if elements[tag] is not None
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((_start(sop_class) if preamble else b"") + body)
    return path


def write_series(
    folder: Path, voxels: np.ndarray, heights: Sequence[float] | None = None, **options: object
) -> Path:
    """Write voxels (slices, rows, columns) as axial slices at these heights, by default 2 mm."""
    heights = [2.0 * index for index in range(len(voxels))] if heights is None else heights
    for index, (pixels, height) in enumerate(zip(voxels, heights, strict=True)):
        write_slice(folder / f"{index:03d}.dcm", pixels, (0, 0, height), **options)  # type: ignore
    return folder


def _start(sop_class: str) -> bytes:
    meta = _short(0x0002, 0x0002, "UI", _text(sop_class, "UI"))
    meta += _short(0x0002, 0x0003, "UI", _text("1.2.3.9", "UI"))
    meta += _short(0x0002, 0x0010, "UI", _text("1.2.840.10008.1.2.1", "UI"))
    return bytes(128) + b"DICM" + _short(0x0002, 0x0000, "UL", struct.pack("<I", len(meta))) + meta


def _element(tag: tuple[int, int], value: str | int | bytes | None) -> bytes:
    kind = _VALUE_TYPES[tag]
    if isinstance(value, int):
        return _short(*tag, kind, struct.pack("<H", value))
    if isinstance(value, str):
        return _short(*tag, kind, _text(value, kind))
    assert isinstance(value, bytes)
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HH2sHI", *tag, kind.encode(), 0, len(value)) + value


def _short(group: int, element: int, kind: str, value: bytes) -> bytes:
    return struct.pack("<HH2sH", group, element, kind.encode(), len(value)) + value


def _text(text: str, kind: str) -> bytes:
    encoded = text.encode("ascii")
    return encoded + (b"\0" if kind == "UI" else b" ") * (len(encoded) % 2)
