"""Label maps on the grid of the volume they belong to."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import nibabel as nib
import numpy as np
from nibabel.nifti1 import Nifti1Header

from swin_unet.config import UserError
from swin_unet.files import atomic_path
from swin_unet.imaging.formats import TIFF_SUFFIXES, family_of, split_name
from swin_unet.imaging.text_writers import write_text_header_files
from swin_unet.imaging.volume import Volume

if TYPE_CHECKING:
    from PIL.Image import Image


def output_suffix(path: Path) -> str:
    """Return the ending of the label map that is written for an image.

    Pictures with losses give PNG; DICOM series and arrays, which other programs would not open as
    label maps, give NIfTI.
    """
    suffix, family = split_name(path)[1], family_of(path)
    if family in ("nifti", "itk") or suffix.lower() in TIFF_SUFFIXES:
        return suffix
    return ".png" if family == "picture" else ".nii.gz"


def write_labels(path: str | Path, labels: np.ndarray[Any, Any], like: Volume) -> None:
    """Write a label map on the grid of `like`, in the format that the ending of the path says.

    Args:
        path: A NIfTI, NRRD or MetaImage file, .png or .tif; replaced if it exists.
        labels: (X, Y, Z) uint8 or uint16, in the axis order of `like`.
        like: Where the geometry comes from. A header of the same format is taken over: affine,
            sform, qform, codes and units, or directions and origin, stay as they are written.

    Raises:
        UserError: The disk is full or the file cannot be written, and nothing is left behind; or
            the format cannot hold it.
    """
    path = Path(path)
    assert labels.shape == like.shape
    assert labels.dtype in (np.uint8, np.uint16)
    family = family_of(path)
    if family == "nifti":
        _write_nifti(path, labels, like)
    elif family == "itk":
        write_text_header_files(path, labels, like)
    elif family == "picture":
        _write_picture(path, labels)
    else:
        raise UserError(
            path,
            expected="the ending of a NIfTI, NRRD or MetaImage file, .png or .tif",
            found=f"'{path.suffix}'",
            fix="Choose another name for the label map.",
        )


def _write_nifti(path: Path, labels: np.ndarray[Any, Any], like: Volume) -> None:
    header = nifti_header(labels.shape, labels.dtype, like)
    labels = labels.astype(header.get_data_dtype(), copy=False)  # its byte order
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        if temporary.suffix.lower() == ".gz":
            # No name and no time in the archive: the same labels give the same bytes.
            with gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as archive:
                _stream(archive, header, labels)
        else:
            _stream(file, header, labels)


def _stream(
    file: BinaryIO | gzip.GzipFile, header: Nifti1Header, labels: np.ndarray[Any, Any]
) -> None:
    """Write header and voxels slice by slice: no copy of the volume."""
    header.write_to(file)
    file.write(bytes(header.get_data_offset() - file.tell()))
    for index in range(labels.shape[2]):
        file.write(labels[..., index].tobytes(order="F"))


def nifti_header(
    shape: tuple[int, ...], dtype: np.dtype[Any] | type[np.generic], like: Volume
) -> Nifti1Header:
    """Return the header of a map on the grid of `like`, whose own header is taken over.

    Args:
        shape: (X, Y, Z), or (X, Y, Z, K).
        dtype: Of the voxels.
        like: Where the geometry comes from: sform, qform, codes and units stay as they are.
    """
    if not isinstance(like.header, Nifti1Header):
        header = nib.Nifti1Image(np.broadcast_to(np.uint8(0), like.shape), like.affine).header
    else:
        header = like.header.copy()
    pixdim = header["pixdim"].copy()
    header.set_data_dtype(dtype)
    header.set_data_shape(shape)
    header["pixdim"] = pixdim  # set_data_shape changes those beyond the third
    header.set_slope_inter(1.0, 0.0)
    header["cal_min"] = header["cal_max"] = 0.0
    header["descrip"] = b""
    header.set_data_offset(0)
    header.set_data_offset(_data_offset(header))
    return header


def _data_offset(header: Nifti1Header) -> int:
    """Return where the voxels start, behind the extensions."""
    size = header.single_vox_offset
    return int(size + sum(extension.sizeondisk for extension in header.extensions))


def _write_picture(path: Path, labels: np.ndarray[Any, Any]) -> None:
    from PIL import Image

    pages = [Image.fromarray(np.ascontiguousarray(page.T)) for page in np.moveaxis(labels, 2, 0)]
    is_tiff = path.suffix.lower() in TIFF_SUFFIXES
    if len(pages) > 1 and not is_tiff:
        raise UserError(
            path,
            expected="a single slice",
            found=f"{len(pages)} slices",
            fix="Write a .tif file, which has pages, or NIfTI.",
        )
    content = io.BytesIO()  # Pillow would not say that the disk is full
    if is_tiff:
        _save_tiff(pages, content)
    else:
        pages[0].save(content, "PNG")
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def _save_tiff(pages: list[Image], file: BinaryIO) -> None:
    pages[0].save(
        file, "TIFF", save_all=True, append_images=pages[1:], compression="tiff_adobe_deflate"
    )
