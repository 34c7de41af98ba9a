"""Label maps on the grid of the volume they belong to."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.nifti2 import Nifti2Header

from swin_unet.files import atomic_path
from swin_unet.imaging.volume import Volume


def write_labels(path: str | Path, labels: np.ndarray[Any, Any], like: Volume) -> None:
    """Write a label map as NIfTI on the grid of `like`, whose header it takes over.

    Args:
        path: A .nii or .nii.gz file; replaced if it exists.
        labels: (X, Y, Z) uint8 or uint16, in the axis order of `like`.
        like: Where affine, sform, qform, their codes and the units come from, byte for byte.

    Raises:
        UserError: The disk is full or the file cannot be written; nothing is left behind.
    """
    assert labels.shape == like.shape
    assert labels.dtype in (np.uint8, np.uint16)
    image = _label_image(labels, like)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        if temporary.suffix.lower() == ".gz":
            # No name and no time in the archive: the same labels give the same bytes.
            with gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as archive:
                image.to_stream(archive)
        else:
            image.to_stream(file)


def _label_image(labels: np.ndarray[Any, Any], like: Volume) -> nib.Nifti1Image:
    if like.header is None:
        return nib.Nifti1Image(labels, like.affine)
    header = like.header.copy()
    header.set_data_dtype(labels.dtype)
    header.set_data_shape(labels.shape)
    header["pixdim"] = like.header["pixdim"]  # set_data_shape changes those beyond the third
    header.set_slope_inter(1.0, 0.0)
    header["cal_min"] = header["cal_max"] = 0.0
    header["descrip"] = b""
    image_class = nib.Nifti2Image if isinstance(header, Nifti2Header) else nib.Nifti1Image
    # With an affine nibabel might set sform and qform anew; without, the header's stay.
    return image_class(labels, None, header)
