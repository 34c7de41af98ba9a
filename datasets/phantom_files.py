"""What the phantom writes, and how in each format of files."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

if TYPE_CHECKING:
    from SimpleITK import Image

FORMATS = ("nifti", "nrrd", "mha", "png", "dicom")
_WINDOW_HU = (-125, 275)
_DATE = "20000101"
# NIfTI counts millimetres to the right and anterior, ITK and DICOM to the left and posterior.
_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Order:
    """What to write.

    Attributes:
        cases: With labels.
        test_cases: Without labels.
        seed: Of all of them.
        size: As for `make_case` or `make_heart`.
        file_format: One of FORMATS, for the layout `folder`.
    """

    cases: int
    test_cases: int
    seed: int
    size: tuple[int, ...]
    file_format: str = "nifti"


def make_folders(folder: Path, *names: str) -> list[Path]:
    """Make folders below a folder and return them."""
    paths = [folder / name for name in names]
    for path in paths:
        path.mkdir(parents=True)
    return paths


def write_lines(path: Path, lines: list[str]) -> None:
    """Write a text file."""
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf8")


def turned(image: nib.Nifti1Image, axes: str) -> nib.Nifti1Image:
    """Return an image with its axes towards other directions, `LPS` for instance."""
    turn = ornt_transform(io_orientation(image.affine), axcodes2ornt(tuple(axes)))
    return image.as_reoriented(turn)


def as_pictures(image: nib.Nifti1Image) -> np.ndarray:
    """Return upright pictures (D, H, W), feet first, the patient's left on the right."""
    return np.asarray(turned(image, "LPS").dataobj).T


def windowed(hu: np.ndarray) -> np.ndarray:
    """Map HU to [0, 1] as Synapse is prepared, float32."""
    low, high = _WINDOW_HU
    return ((np.clip(hu, low, high) - low) / (high - low)).astype(np.float32)


def save_volume(image: nib.Nifti1Image, path: Path) -> None:
    """Write one file: NIfTI, NRRD or MetaImage, by the ending of its name."""
    if path.name.endswith(".nii.gz"):
        nib.save(image, path)
        return
    import SimpleITK

    SimpleITK.WriteImage(_as_itk(image), str(path), useCompression=True)


def save_pictures(arrays: np.ndarray, folder: Path, name: str) -> None:
    """Write 8-bit pictures (N, H, W) as NAME_s000.png, NAME_s001.png, ..."""
    import SimpleITK

    for index, array in enumerate(arrays.astype(np.uint8)):
        picture = SimpleITK.GetImageFromArray(np.ascontiguousarray(array))
        SimpleITK.WriteImage(picture, str(folder / f"{name}_s{index:03d}.png"))


def save_dicom(image: nib.Nifti1Image, folder: Path, name: str, study: str) -> None:
    """Write a CT series, one file per slice.

    Args:
        image: In HU, int16, with axes to the left, posterior and superior.
        folder: To make; it gets 001.dcm, 002.dcm, ...
        name: Of the patient.
        study: What makes the identifiers: other studies have others.
    """
    import SimpleITK

    folder.mkdir()
    volume = _as_itk(image)
    columns = np.reshape(volume.GetDirection(), (3, 3)).T
    shared = {
        "0008|0012": _DATE,  # of the file and of the study; else now, and no two runs were alike
        "0008|0013": "000000",
        "0008|0020": _DATE,
        "0008|0030": "000000",
        "0008|0060": "CT",
        "0010|0010": name,
        "0010|0020": name,
        "0020|000d": _identifier(f"{study}/{name}"),
        "0020|000e": _identifier(f"{study}/{name}/series"),
        "0020|0052": _identifier(f"{study}/{name}/frame of reference"),
        "0018|0050": _decimals(volume.GetSpacing()[2:]),
        "0020|0037": _decimals(np.concatenate(columns[:2])),
    }
    writer = SimpleITK.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for index in range(volume.GetSize()[2]):
        tags = shared | {
            "0008|0018": _identifier(f"{study}/{name}/{index}"),
            "0020|0013": str(index + 1),
            "0020|0032": _decimals(volume.TransformIndexToPhysicalPoint((0, 0, index))),
        }
        writer.SetFileName(str(folder / f"{index + 1:03d}.dcm"))
        writer.Execute(_slice_with_tags(volume, index, tags))


def _slice_with_tags(volume: Image, index: int, tags: dict[str, str]) -> Image:
    import SimpleITK

    array = SimpleITK.GetArrayViewFromImage(volume)[index]
    picture = SimpleITK.GetImageFromArray(np.ascontiguousarray(array))
    picture.SetSpacing(volume.GetSpacing()[:2])
    for tag, value in tags.items():
        picture.SetMetaData(tag, value)
    return picture


def _as_itk(image: nib.Nifti1Image) -> Image:
    """Return the same voxels on the same grid; ITK numbers array axes the other way round."""
    import SimpleITK

    array = np.asarray(image.dataobj)
    volume = SimpleITK.GetImageFromArray(np.ascontiguousarray(array.T))
    affine = _TO_LPS @ image.affine
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)
    volume.SetSpacing(spacing_mm.tolist())
    volume.SetOrigin(affine[:3, 3].tolist())
    volume.SetDirection((affine[:3, :3] / spacing_mm).ravel().tolist())
    return volume


def _identifier(text: str) -> str:
    """Return a DICOM identifier that is unique to a text."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'swin-unet phantom {text}').int}"


def _decimals(values: Any) -> str:
    """Write DICOM decimal strings, which hold at most 16 characters each."""
    return "\\".join(f"{value:.9g}" for value in values)
