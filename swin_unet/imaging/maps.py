"""Maps of numbers in [0, 1], larger than memory should be: filled on disk, then compressed.

They are NIfTI files on the grid of an image: uint16 with a scale of 1 / 65535, so that any reader
shows numbers from 0 to 1, exact to 1e-5.
"""

from __future__ import annotations

import gzip
import mmap
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from nibabel.nifti1 import Nifti1Header

from swin_unet.files import atomic_path, make_folder, writable
from swin_unet.imaging.volume import Volume
from swin_unet.imaging.writers import nifti_header

LARGEST = 65535
_CHUNK_SIZE = 2**24


class MapFile:
    """An array (X, Y, Z) or (X, Y, Z, K) of uint16 in a nameless file, to be written to `path`.

    The file vanishes with this object or the process, however that ends; `path` appears whole by
    `save`.

    Args:
        path: A .nii.gz file, in a folder of its own or not; the folder is made.
        like: Where the geometry comes from.
        num_maps: K; None: a single map of three dimensions.

    Raises:
        UserError: When the disk has no room for it, or cannot be written.
    """

    def __init__(self, path: Path, like: Volume, num_maps: int | None = None) -> None:
        assert path.name.endswith(".nii.gz")
        self.path = path
        self.like = like
        self.shape = like.shape if num_maps is None else (*like.shape, num_maps)
        size = int(np.prod(self.shape)) * 2
        make_folder(path.parent)
        with writable(path), tempfile.TemporaryFile(dir=path.parent, prefix=".") as file:
            _reserve(file, size)
            self._memory = mmap.mmap(file.fileno(), size)  # keeps the file

    @property
    def array(self) -> np.ndarray[Any, Any]:
        """The values, 65535 times as large, in the axis order of the image's file."""
        return np.ndarray(self.shape, np.uint16, self._memory, order="F")

    def release(self) -> None:
        """Let the system take the memory back; what was written stays."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._memory.madvise(mmap.MADV_DONTNEED)

    def save(self) -> None:
        """Write the file.

        Raises:
            UserError: When the disk is full or cannot be written; nothing is left behind.
        """
        with (
            atomic_path(self.path) as temporary,
            temporary.open("wb") as file,
            # No name and no time in the archive: the same values give the same bytes.
            gzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) as archive,
        ):
            header = _header(self.shape, self.like)
            header.write_to(archive)
            archive.write(bytes(header.get_data_offset() - archive.tell()))
            for chunk in self._chunks():
                archive.write(chunk)

    def _chunks(self) -> Iterator[bytes]:
        for start in range(0, len(self._memory), _CHUNK_SIZE):
            yield self._memory[start : start + _CHUNK_SIZE]
            self.release()


def _reserve(file: IO[bytes], size: int) -> None:
    """Take the room on the disk now: later a full disk would end the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
        return
    for start in range(0, size, _CHUNK_SIZE):
        file.write(bytes(min(_CHUNK_SIZE, size - start)))
    file.flush()


def _header(shape: tuple[int, ...], like: Volume) -> Nifti1Header:
    header = nifti_header(shape, np.uint16, like)
    header.set_slope_inter(1 / LARGEST, 0.0)
    header["cal_max"] = 1.0
    return header
