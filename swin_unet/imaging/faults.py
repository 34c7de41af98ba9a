"""What can be wrong with a file, as messages; shared by the readers of all formats."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from swin_unet.config import UserError

# Deflate cannot compress further than 1032 to 1.
LARGEST_COMPRESSION = 1040
_ADDRESS = re.compile(r".*\(0x[0-9a-f]+\): ")


def check_file(path: Path) -> None:
    """Raise UserError unless this is a file that may be read."""
    if not path.exists():
        raise UserError(
            path,
            expected="a file",
            found="nothing there",
            fix="Check the path for typing errors, or restore the file.",
        )
    if not path.is_file():
        raise UserError(path, expected="a file", found="a folder", fix="Name one file in it.")
    try:
        path.open("rb").close()
    except OSError as error:
        raise no_permission(path) from error


def no_permission(path: Path) -> UserError:
    """Return the error for a file or folder that may not be read."""
    return UserError(
        path, expected="a readable file", found="no permission", fix="Change its permissions."
    )


@contextmanager
def complete(path: Path, kind: str, errors: tuple[type[Exception], ...]) -> Iterator[None]:
    """Turn what a library raises on a damaged file into one UserError.

    Args:
        path: The file.
        kind: What it should be, with article.
        errors: What the library raises.
    """
    try:
        yield
    except PermissionError as error:
        raise no_permission(path) from error
    except errors as error:
        raise UserError(
            path,
            expected=f"a complete {kind}",
            found=f"a truncated or damaged one ({type(error).__name__}: {_last_line(error)})",
            fix="Copy or convert it again.",
        ) from error


def check_length(path: Path, shape: tuple[int, ...], num_bytes: int, largest: int) -> None:
    """Refuse a header that promises more than a file can hold, before memory is taken for it.

    Args:
        path: The file.
        shape: What the header promises.
        num_bytes: What that takes in memory.
        largest: What the file can hold.
    """
    if num_bytes > largest:
        raise UserError(
            path,
            expected=f"{num_bytes} bytes of voxels for shape {shape}",
            found=f"a truncated or damaged file of {path.stat().st_size} bytes",
            fix="Copy or convert it again.",
        )


def check_dimensions(path: Path, shape: tuple[int, ...]) -> None:
    """Raise UserError unless a shape is that of a volume (X, Y, Z) or (X, Y, Z, C)."""
    if any(size < 1 for size in shape) or not shape:
        raise UserError(
            path, expected="at least one voxel", found=f"shape {shape}", fix="Export it again."
        )
    if not 3 <= len(without_trailing_ones(shape)) <= 4:
        raise UserError(
            path,
            expected="a 3D volume, or 4D with channels last",
            found=f"{len(shape)}D data of shape {shape}",
            fix="Stack 2D slices into one volume, or split time series into volumes.",
        )


def without_trailing_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Drop axes of length 1 after the third."""
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def check_voxel_type(path: Path, dtype: np.dtype[Any]) -> None:
    """Raise UserError unless voxels are integer or real numbers."""
    if dtype.kind not in "iuf":
        raise UserError(
            path,
            expected="integer or real voxels",
            found="colour voxels" if dtype.fields else f"{dtype} voxels",
            fix="Convert it to one grey value per voxel and channel.",
        )


def check_affine(path: Path, affine: np.ndarray[Any, Any], fix: str) -> None:
    """Raise UserError unless the voxel axes of an affine span the space."""
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :3]) < 3:
        raise UserError(
            path,
            expected="an affine with three independent voxel axes",
            found=str(np.asarray(affine).tolist()),
            fix=fix,
        )


def _last_line(error: Exception) -> str:
    """Return the end of a message, where C++ libraries say what it was about, less addresses."""
    lines = str(error).strip().splitlines() or ["no further word"]
    return _ADDRESS.sub("", lines[-1]).strip()
