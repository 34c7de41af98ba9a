"""The slices of a DICOM series in order, or why they do not make a volume."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from swin_unet.config import UserError
from swin_unet.imaging.dicom_files import SliceFile
from swin_unet.imaging.volume import DIRECTION_TOLERANCE, SPACING_TOLERANCE_MM

# Slices nearer than this are at one place.
SAME_PLACE_MM = 1e-3
# Distances between slices may differ by this share or length: positions are written rounded.
DISTANCE_TOLERANCE = 0.02
DISTANCE_TOLERANCE_MM = 0.02
_MOST_NAMES = 5


def in_order(path: Path, files: Sequence[SliceFile]) -> tuple[SliceFile, ...]:
    """Sort the files of a series along the normal of the slices, as ITK does.

    Args:
        path: What to call the series in a message.
        files: In any order.

    Raises:
        UserError: When they do not make a volume.
    """
    if len(files) == 1:
        return tuple(files)
    _check_alike(path, files)
    positions = np.array([file.position for file in files])
    orientation = np.array(files[0].orientation)
    normal = np.cross(orientation[:3], orientation[3:])
    heights = positions @ normal
    order = np.argsort(heights, kind="stable")
    files = [files[index] for index in order]
    _check_places(path, files, heights[order])
    _check_tilt(path, files, positions[order], normal)
    _check_distances(path, files, np.diff(heights[order]))
    return tuple(files)


def _check_alike(path: Path, files: Sequence[SliceFile]) -> None:
    """Check what must be the same in all slices."""
    hint = _uid_hint(files)
    multiframe = [file for file in files if file.size[2] > 1]
    if multiframe:
        raise UserError(
            path,
            expected="one file per slice, or one file with all slices",
            found=f"{len(files)} files, of which {_names(multiframe)} with several frames",
            fix=f"Put each of these files in a folder of its own.{hint}",
        )
    homeless = [file for file in files if file.position is None or file.orientation is None]
    if homeless:
        raise UserError(
            path,
            expected="a position and an orientation in every slice",
            found=f"none in {_names(homeless)}",
            fix=f"Move these files out of the folder, or export the series again.{hint}",
        )
    _check_same(path, files, "size", [(*file.size, file.num_components) for file in files], 0)
    spacings = [file.spacing_mm[:2] for file in files]
    _check_same(path, files, "pixel spacing", spacings, SPACING_TOLERANCE_MM)
    orientations = [file.orientation for file in files]
    _check_same(path, files, "orientation", orientations, DIRECTION_TOLERANCE)


def _check_same(
    path: Path, files: Sequence[SliceFile], what: str, values: Any, tolerance: float
) -> None:
    """Refuse slices whose values, a row each, are not those of most slices."""
    table = np.array(values, dtype=np.float64)
    usual = np.sort(table, axis=0)[len(table) // 2]
    others = [
        file
        for file, row in zip(files, table, strict=True)
        if np.abs(row - usual).max() > tolerance
    ]
    if others:
        raise UserError(
            path,
            expected=f"slices of one {what}",
            found=f"another one in {_names(others)}",
            fix=f"Move these files to a folder of their own.{_uid_hint(files)}",
        )


def _check_places(path: Path, files: Sequence[SliceFile], heights: np.ndarray[Any, Any]) -> None:
    """Refuse several slices at one place."""
    starts = np.flatnonzero(np.diff(heights, prepend=-np.inf) > SAME_PLACE_MM)
    counts = np.diff(starts, append=len(files))
    if counts.max() == 1:
        return
    hint = _uid_hint(files)
    if counts.min() == counts.max():
        raise UserError(
            path,
            expected="one slice at each place",
            found=f"{counts[0]} at each of {len(starts)} places: a time series, or several echoes, "
            "weightings or reconstructions",
            fix=f"Put the files of each volume in a folder of its own.{hint}",
        )
    first = int(starts[counts > 1][0])
    same = files[first : first + int(counts[counts > 1][0])]
    num_others = np.count_nonzero(counts > 1) - 1
    raise UserError(
        path,
        expected="one slice at each place",
        found=f"{_names(same)} at the same one" + (f", so at {num_others} more" * bool(num_others)),
        fix=f"Move the duplicated files out of the folder.{hint}",
    )


def _check_tilt(
    path: Path, files: Sequence[SliceFile], positions: np.ndarray[Any, Any], normal: Any
) -> None:
    """Refuse slices that drift sideways by half a pixel or more from the first to the last."""
    step = positions[-1] - positions[0]
    rise = float(step @ normal)
    drift = float(np.linalg.norm(step - rise * normal))
    if drift < min(files[0].spacing_mm[:2]) / 2:
        return
    angle = np.degrees(np.arctan2(drift, rise))
    raise UserError(
        path,
        expected="slices straight above each other",
        found=f"a gantry tilt of {angle:.1f} degrees",
        fix="Convert it to NIfTI with a program that corrects the tilt, such as dcm2niix.",
    )


def _check_distances(
    path: Path, files: Sequence[SliceFile], distances: np.ndarray[Any, Any]
) -> None:
    """Refuse missing slices and unequal distances."""
    usual = float(np.median(distances))
    tolerance = max(DISTANCE_TOLERANCE_MM, DISTANCE_TOLERANCE * usual)
    odd = np.flatnonzero(np.abs(distances - usual) > tolerance)
    if not odd.size:
        return
    steps = np.rint(distances[odd] / usual)
    are_gaps = (steps >= 2) & (np.abs(distances[odd] - steps * usual) <= steps * tolerance)
    if not are_gaps.all():
        raise UserError(
            path,
            expected="slices at equal distances",
            found=f"distances from {distances.min():.4g} to {distances.max():.4g} mm",
            fix="Resample it to equal distances and save it as NIfTI, for example by 3D Slicer."
            + _uid_hint(files),
        )
    places = [
        f"{files[index].path.name} and {files[index + 1].path.name}" for index in odd.tolist()
    ]
    raise UserError(
        path,
        expected=f"a slice every {usual:.4g} mm",
        found=f"{int((steps - 1).sum())} missing, between {'; '.join(places[:_MOST_NAMES])}",
        fix=f"Copy or export the series again.{_uid_hint(files)}",
    )


def _uid_hint(files: Sequence[SliceFile]) -> str:
    """Say that several series may look like one, where this is so."""
    if files[0].series_uid:
        return ""
    return " The files have empty series UIDs: several series in this folder look like one."


def _names(files: Sequence[SliceFile]) -> str:
    names = [file.path.name for file in files]
    return ", ".join(names[:_MOST_NAMES]) + (", ..." if len(names) > _MOST_NAMES else "")
