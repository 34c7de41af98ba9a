"""Cached slices of a case, in two .npy files that are read slice by slice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

HEADER_SIZE = 128  # bytes before the first pixel, as NumPy writes them


@dataclass(frozen=True)
class CachedCase:
    """The slices of one case.

    Attributes:
        name: Of the case.
        folder: Holds image.npy (S, C, h, w) float16 and label.npy (S, h, w).
        num_slices: S.
        num_channels: C.
        size: (h, w) in pixels.
        label_dtype: `uint8` or `uint16`.
        slice_classes: Which classes occur in each slice, ascending, without the background.
    """

    name: str
    folder: Path
    num_slices: int
    num_channels: int
    size: tuple[int, int]
    label_dtype: str
    slice_classes: tuple[tuple[int, ...], ...]

    @property
    def image_path(self) -> Path:
        """The image slices."""
        return self.folder / "image.npy"

    @property
    def label_path(self) -> Path:
        """The label slices."""
        return self.folder / "label.npy"

    def read_images(self, start: int, stop: int, rows: slice) -> np.ndarray[Any, Any]:
        """Read rows of slices [start, stop) (stop - start, C, rows, w)."""
        planes = start * self.num_channels, stop * self.num_channels
        pixels = _read_planes(self.image_path, np.dtype(np.float16), self.size, planes, rows)
        return pixels.reshape(stop - start, self.num_channels, *pixels.shape[1:])

    def read_label(self, index: int, rows: slice) -> np.ndarray[Any, Any]:
        """Read rows of a label slice (rows, w)."""
        dtype = np.dtype(self.label_dtype)
        return _read_planes(self.label_path, dtype, self.size, (index, index + 1), rows)[0]

    @property
    def num_bytes(self) -> int:
        """Size on disk."""
        return self.image_path.stat().st_size + self.label_path.stat().st_size


def _read_planes(
    path: Path,
    dtype: np.dtype[Any],
    size: tuple[int, int],
    planes: tuple[int, int],
    rows: slice,
) -> np.ndarray[Any, Any]:
    """Read the same rows of planes [first, last) of (n, h, w) pixels.

    Reading is several times as fast as mapping the file for a moment, and nothing stays open:
    thousands of cases do not exhaust the file descriptors.
    """
    (height, width), (first, last) = size, planes
    spans = [(plane * height + rows.start, rows.stop - rows.start) for plane in range(first, last)]
    if rows == slice(0, height):
        spans = [(first * height, (last - first) * height)]
    pixels = [
        np.fromfile(path, dtype, count * width, offset=HEADER_SIZE + start * width * dtype.itemsize)
        for start, count in spans
    ]
    return np.concatenate(pixels).reshape(last - first, -1, width)


def write_header(file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Start a .npy file to be written in pieces; a memory map would crash on a full disk."""
    descr = np.lib.format.dtype_to_descr(dtype)
    header = {"shape": shape, "fortran_order": False, "descr": descr}
    np.lib.format.write_array_header_1_0(file, header)
    assert file.tell() == HEADER_SIZE
