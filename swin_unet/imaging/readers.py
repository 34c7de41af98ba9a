"""NIfTI files to volumes: every fault of a file becomes one message that says how to mend it."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.imageglobals import logger as nibabel_logger
from nibabel.spatialimages import HeaderDataError, ImageDataError
from nibabel.wrapstruct import WrapStructError

from swin_unet.config import UserError
from swin_unet.imaging.volume import Volume, check_is_3d, check_same_grid

OnMismatch = Literal["error", "copy_geometry", "resample"]
NIFTI_SUFFIXES = (".nii.gz", ".nii")
# Deflate cannot compress further than 1032 to 1.
LARGEST_GZIP_RATIO = 1040
_UNREADABLE = (
    OSError,
    EOFError,
    zlib.error,
    ImageFileError,
    WrapStructError,
    HeaderDataError,
    ImageDataError,
    ValueError,
    MemoryError,
    OverflowError,
)


def read(path: str | Path) -> Volume:
    """Read a NIfTI file in its own axis order and data type.

    Files with a scale factor become float32. Trailing axes of length 1 after the third are dropped.

    Raises:
        UserError: Missing, damaged or unsupported file, or data that are not a volume.
    """
    path = Path(path)
    _check_file(path)
    with _readable(path):
        image = nib.load(path, mmap=False)
    if not isinstance(image, nib.Nifti1Image):
        raise UserError(
            path, expected="a NIfTI volume", found=type(image).__name__, fix="Convert the file."
        )
    _check_shape(path, image.shape)
    _check_dtype(path, image.get_data_dtype())
    _check_affine(path, image.affine)
    _check_length(path, image)
    with _readable(path):
        array = _read_array(image)
    array = array.reshape(_without_trailing_ones(array.shape), order="F")
    return Volume(array, np.asarray(image.affine, dtype=np.float64), path, image.header)


def read_image(paths: Sequence[str | Path], *, stacked: bool = False) -> Volume:
    """Read one case: one file (4D: channels last) or one 3D file per channel, all on one grid.

    Args:
        paths: The files; when `stacked`, single slices from the lowest to the highest.
        stacked: The files are slices of one volume, not channels.

    Raises:
        UserError: As `read`; also for voxels that are not finite and files on different grids.
    """
    volumes = [read(path) for path in paths]
    for volume in volumes:
        _check_finite(volume)
    if len(volumes) == 1:
        return volumes[0]
    for volume in volumes:
        check_is_3d(volume, "one 3D file per channel")
        check_same_grid(volumes[0], volume)
    return replace(volumes[0], array=_stack_channels([volume.array for volume in volumes]))


def read_labels(
    paths: str | Path | Sequence[str | Path],
    num_classes: int | None = None,
    like: Volume | None = None,
    *,
    stacked: bool = False,
    values: Mapping[int, int] | None = None,
    on_mismatch: OnMismatch = "error",
) -> Volume:
    """Read a label map as uint8, or uint16 if it has values above 255.

    Args:
        paths: A 3D file with integer values, of any data type; or the slices of one.
        num_classes: Values must be below this; None: any up to 65535.
        like: The image it belongs to; the grids must agree. Axes that are only stored in another
            order or direction are turned.
        stacked: The files are slices of one volume, from the lowest to the highest.
        values: Value in the file to value in the result; others are faults.
        on_mismatch: What to do about another grid.

    Raises:
        UserError: As `read`; also for other values and for a grid other than the image's.
    """
    volume = read(paths if isinstance(paths, str | Path) else paths[0])
    check_is_3d(volume, "a 3D label map")
    if like is not None:
        check_same_grid(volume, like)
    _check_integers(volume)
    _check_range(volume, num_classes)
    dtype = np.uint8 if volume.array.max() < 256 else np.uint16
    return replace(volume, array=volume.array.astype(dtype, copy=False))


def _check_file(path: Path) -> None:
    if not path.exists():
        raise UserError(
            path, expected="a file", found="nothing there", fix="Check the path for typing errors."
        )
    if not path.is_file():
        raise UserError(path, expected="a file", found="a folder", fix="Name one file in it.")
    if not path.name.lower().endswith(NIFTI_SUFFIXES):
        raise UserError(
            path,
            expected="a NIfTI file (.nii or .nii.gz)",
            found=f"the ending '{path.suffix}'",
            fix="Convert the file to NIfTI, or rename it if it is one.",
        )


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn whatever nibabel and zlib raise on a damaged file into one UserError, logs silenced."""
    level = nibabel_logger.level
    nibabel_logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    except PermissionError as error:
        raise UserError(
            path, expected="a readable file", found="no permission", fix="Change its permissions."
        ) from error
    except _UNREADABLE as error:
        raise UserError(
            path,
            expected="a complete NIfTI file",
            found=f"a truncated or damaged one ({type(error).__name__}: {error})",
            fix="Copy or convert it again.",
        ) from error
    finally:
        nibabel_logger.setLevel(level)


def _check_shape(path: Path, shape: tuple[int, ...]) -> None:
    if any(size < 1 for size in shape) or not shape:
        raise UserError(
            path, expected="at least one voxel", found=f"shape {shape}", fix="Export it again."
        )
    if not 3 <= len(_without_trailing_ones(shape)) <= 4:
        raise UserError(
            path,
            expected="a 3D volume, or 4D with channels last",
            found=f"{len(shape)}D data of shape {shape}",
            fix="Stack 2D slices into one volume, or split time series into volumes.",
        )


def _without_trailing_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _check_dtype(path: Path, dtype: np.dtype[Any]) -> None:
    if dtype.kind not in "iuf":
        raise UserError(
            path,
            expected="integer or real voxels",
            found="colour voxels" if dtype.fields else f"{dtype} voxels",
            fix="Convert it to one grey value per voxel and channel.",
        )


def _check_affine(path: Path, affine: np.ndarray[Any, Any]) -> None:
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :3]) < 3:
        raise UserError(
            path,
            expected="an affine with three independent voxel axes",
            found=str(np.asarray(affine).tolist()),
            fix="Correct the header's sform, qform and pixdim.",
        )


def _check_length(path: Path, image: nib.Nifti1Image) -> None:
    """Refuse a header that promises more than the file can hold, before memory is taken for it."""
    num_bytes = image.get_data_dtype().itemsize
    for size in image.shape:
        num_bytes *= int(size)
    file_size = path.stat().st_size
    compressed = path.name.lower().endswith(".gz")
    if num_bytes > (file_size * LARGEST_GZIP_RATIO if compressed else file_size):
        raise UserError(
            path,
            expected=f"{num_bytes} bytes of voxels for shape {image.shape}",
            found=f"a truncated or damaged file of {file_size} bytes",
            fix="Copy or convert it again.",
        )


def _read_array(image: nib.Nifti1Image) -> np.ndarray[Any, Any]:
    """Return the voxels in native byte order; scaled in float32, nibabel would take float64."""
    proxy: Any = image.dataobj
    raw = np.asarray(proxy.get_unscaled())
    slope, inter = float(proxy.slope), float(proxy.inter)
    if (slope, inter) == (1.0, 0.0) and raw.dtype.itemsize <= 8:
        return raw.astype(raw.dtype.newbyteorder("="), copy=False)
    with np.errstate(over="ignore", invalid="ignore"):  # the result is checked for finite values
        scaled = raw.astype(np.float32)
        scaled *= np.float32(slope)
        scaled += np.float32(inter)
    return scaled


def _check_finite(volume: Volume) -> None:
    if volume.array.dtype.kind != "f":
        return
    num_bad = volume.array.size - int(np.count_nonzero(np.isfinite(volume.array)))
    if num_bad:
        raise UserError(
            volume.label,
            expected="finite voxels",
            found=f"{num_bad} of {volume.array.size} that are NaN or infinite",
            fix="Replace them, for example by the background value, or leave the case out.",
        )


def _stack_channels(arrays: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """Join (X, Y, Z) arrays as (X, Y, Z, C), slices contiguous as nibabel reads them."""
    dtypes = {array.dtype for array in arrays}
    dtype = dtypes.pop() if len(dtypes) == 1 else np.dtype(np.float32)
    stacked = np.empty((*arrays[0].shape, len(arrays)), dtype=dtype, order="F")
    for channel, array in enumerate(arrays):
        stacked[..., channel] = array
    return stacked


def _check_integers(volume: Volume) -> None:
    array = volume.array
    if array.dtype.kind != "f":
        return
    with np.errstate(invalid="ignore"):
        broken = ~(np.rint(array) == array) | np.isinf(array)
    if broken.any():
        raise UserError(
            volume.label,
            expected="integer label values",
            found=f"values such as {_some(array[broken])}",
            fix="Give a label map, not probabilities or a resampled image.",
        )


def _check_range(volume: Volume, num_classes: int | None) -> None:
    array, limit = volume.array, 65536 if num_classes is None else num_classes
    if array.min() < 0 or array.max() >= limit:
        wrong = array[(array < 0) | (array >= limit)]
        raise UserError(
            volume.label,
            expected=f"label values from 0 to {limit - 1}",
            found=f"{wrong.size} voxels with {_some(wrong)}",
            fix="Correct the label map or the list of classes.",
        )


def _some(values: np.ndarray[Any, Any]) -> str:
    """List the first few distinct values."""
    distinct = [f"{value:g}" for value in np.unique(values)[:6].tolist()]
    return ", ".join(distinct[:5]) + (", ..." if len(distinct) > 5 else "")
