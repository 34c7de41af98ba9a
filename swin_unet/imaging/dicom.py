"""DICOM series, by SimpleITK: the slices in order, and every doubt about them as a message."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from swin_unet.imaging import dicom_order, faults, itk
from swin_unet.imaging.dicom_files import SliceFile, dicom_files, file_reader, is_dicom
from swin_unet.imaging.dicom_series import choose, scan, scan_file
from swin_unet.imaging.volume import Header, Volume

if TYPE_CHECKING:
    import SimpleITK


def split_selector(path: Path) -> tuple[Path, str | None]:
    """Split FOLDER#SERIES; None without a series, and where there is such a file or folder."""
    folder, mark, series = str(path).rpartition("#")
    if not mark or path.exists() or not Path(folder).is_dir():
        return path, None
    return Path(folder), series


def is_series(path: Path) -> bool:
    """Say whether a path is a folder, with or without the name of a series."""
    return split_selector(path)[0].is_dir()


def read(path: Path) -> Volume:
    """Read a DICOM series, rescaled to its units (HU for CT).

    Args:
        path: A folder, FOLDER#SERIES with the number, UID or description of one of several
            series, or a single file.

    Raises:
        UserError: Damaged files, no image, several series and none named, or slices that do not
            make a volume: gaps, unequal distances, tilt, several slices at one place.
    """
    files = _slices(path)
    sitk = itk.simpleitk()
    reader: Any
    if len(files) == 1:
        reader = file_reader(files[0].path)
    else:
        reader = sitk.ImageSeriesReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileNames([str(file.path) for file in files])
    if files[0].num_components == 1:
        reader.SetOutputPixelType(_pixel_id(files))
    with faults.complete(path, "DICOM series", itk.UNREADABLE):
        image: SimpleITK.Image = reader.Execute()
    affine = itk.to_affine(image.GetSpacing(), image.GetDirection(), image.GetOrigin())
    faults.check_affine(path, affine, "Correct the orientation in the files.")
    return Volume(itk.to_array(image), affine, path, has_spacing=files[0].has_spacing)


def read_header(path: Path) -> Header:
    """Read what `read` would return, without the voxels.

    Raises:
        UserError: As `read`.
    """
    files = _slices(path)
    first, last = files[0], files[-1]
    spacing, origin = list(first.spacing_mm), first.position or (0.0, 0.0, 0.0)
    if len(files) > 1 and first.position and last.position:
        step = np.linalg.norm(np.subtract(last.position, first.position))
        spacing[2] = float(step) / (len(files) - 1)
    shape: tuple[int, ...] = (*first.size[:2], len(files) if len(files) > 1 else first.size[2])
    if first.num_components > 1:
        shape = (*shape, first.num_components)
    dtype = itk.dtype_of(path, _pixel_id(files))
    affine = itk.to_affine(spacing, first.direction, origin)
    return Header(shape, affine, dtype, path, has_spacing=first.has_spacing)


def is_dicom_input(path: Path) -> bool:
    """Say whether `read` would be given this path: a folder, one of its series, or a file."""
    return is_series(path) or (path.is_file() and is_dicom(path))


def ordered_files(path: Path) -> list[Path]:
    """List the files of a series from the first slice of the volume to the last.

    Raises:
        UserError: As `read`.
    """
    return [file.path for file in _slices(path)]


def source_files(path: Path) -> list[Path]:
    """List the DICOM files of a folder, of whatever series, or the single file."""
    folder, _ = split_selector(path)
    return dicom_files(folder) if folder.is_dir() else [path]


def _slices(path: Path) -> tuple[SliceFile, ...]:
    """Return the files of a series from the first slice to the last."""
    folder, wanted = split_selector(path)
    if not folder.is_dir():
        return scan_file(path).files
    series = choose(folder, scan(folder), wanted)
    return dicom_order.in_order(path, series.files)


def _pixel_id(files: Sequence[SliceFile]) -> int:
    """Return a pixel type for all slices, each of which ITK gives the smallest that it needs."""
    sitk = itk.simpleitk()
    kinds = {file.pixel_id for file in files}
    if files[0].num_components > 1:
        return files[0].pixel_id
    if kinds & {sitk.sitkFloat32, sitk.sitkFloat64}:
        return int(sitk.sitkFloat32)
    return kinds.pop() if len(kinds) == 1 else int(sitk.sitkInt32)
