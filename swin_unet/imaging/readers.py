"""Files of any format to images and label maps: every fault becomes one message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from swin_unet.config import UserError
from swin_unet.imaging import arrays, dicom, faults, itk, nifti, pictures
from swin_unet.imaging.alignment import OnMismatch, align
from swin_unet.imaging.formats import SUPPORTED, Content, Family, family_of
from swin_unet.imaging.labels import to_class_values
from swin_unet.imaging.volume import Header, Volume, check_is_3d, check_same_grid

Paths = str | Path | Sequence[str | Path]


def read(path: str | Path, content: Content = "image") -> Volume:
    """Read a file in its own axis order and data type.

    Args:
        path: A file of any supported format, or a folder with a DICOM series; `FOLDER#SERIES`
            takes one of several by number or UID.
        content: Which of the two to take from a file that holds an image and its label map.

    Raises:
        UserError: Missing, damaged or unsupported file, or data that are not a volume.
    """
    path = Path(path)
    match _family(path):
        case "nifti":
            return nifti.read(path)
        case "itk":
            return itk.read(path)
        case "dicom":
            return dicom.read(path)
        case "picture":
            return pictures.read(path, content)
        case "array":
            return arrays.read(path, content)


def read_header(path: str | Path, content: Content = "image") -> Header:
    """Read what is known about a volume before its voxels are read.

    Args:
        path: As `read` takes it.
        content: As `read` takes it.

    Raises:
        UserError: As `read`, as far as the header tells.
    """
    path = Path(path)
    match _family(path):
        case "nifti":
            return nifti.read_header(path)
        case "itk":
            return itk.read_header(path)
        case "dicom":
            return dicom.read_header(path)
        case "picture":
            return pictures.read_header(path, content)
        case "array":
            return arrays.read_header(path, content)


def source_files(path: str | Path) -> list[Path]:
    """List the files that a volume is read from: several for DICOM and for detached voxels.

    Args:
        path: As `read` takes it.

    Raises:
        UserError: Missing or unsupported file, or a damaged header.
    """
    path = Path(path)
    match _family(path):
        case "dicom":
            return dicom.source_files(path)
        case "itk":
            return itk.source_files(path)
        case _:
            return [path]


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
    if stacked:
        return _stack_slices(volumes)
    if len(volumes) == 1:
        return volumes[0]
    for volume in volumes:
        check_is_3d(volume, "one 3D file per channel")
        check_same_grid(volumes[0], volume)
    return replace(volumes[0], array=_join([volume.array for volume in volumes], axis=3))


def read_labels(
    paths: Paths,
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
        values: Value in the file to value in the result; others are faults, but 0 stays 0.
        on_mismatch: What to do about another grid.

    Raises:
        UserError: As `read`; also for other values and for a grid other than the image's.
    """
    files = [paths] if isinstance(paths, str | Path) else paths
    # Each file by itself, so that a message names the slice at fault.
    volumes = [to_class_values(_read_label(path), num_classes, values) for path in files]
    assert stacked or len(volumes) == 1, "a label map has no channels"
    volume = _stack_slices(volumes) if stacked else volumes[0]
    return volume if like is None else align(volume, like, on_mismatch)


def _read_label(path: str | Path) -> Volume:
    volume = read(path, "label")
    check_is_3d(volume, "a 3D label map")
    return volume


def _family(path: Path) -> Family:
    """Say how a path is to be read.

    Raises:
        UserError: When there is nothing there, or of no known format.
    """
    if dicom.is_series(path):
        return "dicom"
    faults.check_file(path)
    family = family_of(path)
    if family is None:
        raise UserError(
            path,
            expected=SUPPORTED,
            found=f"the ending '{path.suffix}'",
            fix="Convert the file, for example to NIfTI, or rename it if it is one of these.",
        )
    return family


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


def _stack_slices(volumes: Sequence[Volume]) -> Volume:
    """Join single slices (X, Y, 1) along the third axis, in the order given."""
    first = volumes[0]
    expected = (*first.array.shape[:2], 1, *first.array.shape[3:])
    for volume in volumes:
        if volume.array.shape != expected:
            raise UserError(
                volume.label,
                expected=f"a single slice of shape {expected}, as the first one",
                found=f"shape {volume.array.shape}",
                fix="Bring the slices of a volume to one size, or leave this one out.",
            )
    array = _join([volume.array[:, :, 0] for volume in volumes], axis=2)
    return replace(first, array=array, affine=_stack_affine(volumes), header=None)


def _stack_affine(volumes: Sequence[Volume]) -> np.ndarray[Any, Any]:
    """Return the first slice's affine, the step between slices from where first and last lie."""
    affine = volumes[0].affine.copy()
    if len(volumes) > 1 and volumes[0].has_spacing:
        step = (volumes[-1].affine[:3, 3] - affine[:3, 3]) / (len(volumes) - 1)
        normal = np.cross(affine[:3, 0], affine[:3, 1])
        if abs(step @ normal) > 1e-6 * np.linalg.norm(normal):  # not all written at one place
            affine[:3, 2] = step
    return affine


def _join(arrays: Sequence[np.ndarray[Any, Any]], axis: int) -> np.ndarray[Any, Any]:
    """Put arrays side by side along a new axis, in the memory order of NIfTI voxels."""
    dtypes = {array.dtype for array in arrays}
    common = np.result_type(*dtypes)
    dtype = common if len(dtypes) == 1 or common.itemsize <= 4 else np.dtype(np.float32)
    shape = list(arrays[0].shape)
    shape.insert(axis, len(arrays))
    joined = np.empty(shape, dtype=dtype, order="F")
    for index, array in enumerate(arrays):
        joined[(slice(None),) * axis + (index,)] = array
    return joined
