"""File formats by the ending of a name."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Family = Literal["nifti", "itk", "picture", "array", "dicom"]
# What a file that holds image and label map is asked for; other files hold one of them.
Content = Literal["image", "label"]

NIFTI_SUFFIXES = (".nii.gz", ".nii")
NRRD_SUFFIXES = (".nrrd", ".nhdr")
ITK_SUFFIXES = (*NRRD_SUFFIXES, ".mha", ".mhd")
TIFF_SUFFIXES = (".tif", ".tiff")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", *TIFF_SUFFIXES)
ARRAY_SUFFIXES = (".npz", ".npy.h5", ".h5", ".hdf5")
DICOM_SUFFIXES = (".dcm", ".ima")
_FAMILIES: dict[Family, tuple[str, ...]] = {
    "nifti": NIFTI_SUFFIXES,
    "itk": ITK_SUFFIXES,
    "picture": PICTURE_SUFFIXES,
    "array": ARRAY_SUFFIXES,
    "dicom": DICOM_SUFFIXES,
}
# Files of volumes; a DICOM series is a folder instead.
VOLUME_SUFFIXES = (*NIFTI_SUFFIXES, *ITK_SUFFIXES, *PICTURE_SUFFIXES, *ARRAY_SUFFIXES)
SUPPORTED = (
    "NIfTI (.nii, .nii.gz), NRRD (.nrrd, .nhdr), MetaImage (.mha, .mhd), a picture (.png, .jpg, "
    ".tif), arrays (.npz, .h5) or a folder of DICOM files"
)


def split_name(path: Path) -> tuple[str, str]:
    """Split a file name into stem and suffix; an empty suffix for files of no known format."""
    name = path.name.lower()
    for suffix in (*VOLUME_SUFFIXES, *DICOM_SUFFIXES):  # .npy.h5 comes before .h5
        if name.endswith(suffix) and len(name) > len(suffix):
            return path.name[: -len(suffix)], path.name[-len(suffix) :]
    return path.name, ""


def family_of(path: Path) -> Family | None:
    """Say by its ending what kind of file it is; None: no known one."""
    suffix = split_name(path)[1].lower()
    for family, suffixes in _FAMILIES.items():
        if suffix in suffixes:
            return family
    return None
