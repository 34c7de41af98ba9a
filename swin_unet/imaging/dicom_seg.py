"""Label maps as DICOM segmentation objects, by highdicom, which is an optional package."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from swin_unet import __version__
from swin_unet.config import UserError
from swin_unet.files import atomic_path
from swin_unet.imaging.dicom import is_dicom_input, ordered_files
from swin_unet.imaging.volume import Volume

if TYPE_CHECKING:
    from highdicom.seg import Segmentation

MANUFACTURER = "Swin-UNet"
# What all files of a series must agree in.
_SHARED = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")


def check_dicom_seg(paths: Sequence[Path]) -> None:
    """Refuse to promise segmentation objects that cannot be written.

    Args:
        paths: One input of each case.

    Raises:
        UserError: Without the package, and when an input is no DICOM series.
    """
    if find_spec("highdicom") is None:
        raise UserError(
            "--dicom_seg",
            expected="the package highdicom",
            found="none",
            fix="pip install highdicom, or leave the option out.",
        )
    for path in paths:
        if not is_dicom_input(path):
            raise UserError(
                path,
                expected="a DICOM series, for --dicom_seg",
                found="another format",
                fix="Leave the option out, or segment the DICOM series in a call of their own.",
            )


def write_dicom_seg(path: Path, labels: Volume, source: Path, classes: Sequence[str]) -> None:
    """Write a label map as one DICOM-SEG file with a binary segment for every class.

    Args:
        path: The file.
        labels: (X, Y, Z) on the grid of the source.
        source: The DICOM series that was segmented.
        classes: Names of labels 1, 2, ...

    Raises:
        UserError: When the source lacks what such an object must refer to, or the disk is full.
    """
    images = [_read(file) for file in ordered_files(source)]
    try:
        segmentation = _build(images, np.ascontiguousarray(labels.array.T), classes)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _unfit(source, " ".join(str(error).split()).rstrip(".")) from error
    with atomic_path(path) as temporary:
        segmentation.save_as(temporary)


def check_series(source: Path) -> None:
    """Refuse files that are anonymised beyond what a reference to them needs.

    Raises:
        UserError: For files without the identifiers of study, series, image and coordinates.
    """
    images = [_read(file, headers_only=True) for file in ordered_files(source)]
    for keyword in (*_SHARED, "SOPClassUID", "SOPInstanceUID"):
        values = {str(image.get(keyword) or "") for image in images}
        if "" in values:
            raise _unfit(source, f"files without {keyword}")
        if keyword in _SHARED and len(values) > 1:
            raise _unfit(source, f"{len(values)} different values of {keyword}")


def _unfit(source: Path, found: str) -> UserError:
    return UserError(
        source,
        expected="DICOM files that a segmentation object can refer to",
        found=found,
        fix="Leave out --dicom_seg and use the NIfTI label map.",
    )


def _read(path: Path, *, headers_only: bool = False) -> Any:
    """Read a source file, without what makes others refuse it: anonymised files often have it."""
    import pydicom

    with pydicom.config.disable_value_validation():
        image = pydicom.dcmread(path, stop_before_pixels=headers_only)
        image.decode()
    if "SpecificCharacterSet" in image and not image.SpecificCharacterSet:
        del image.SpecificCharacterSet
    for keyword, kind in (
        ("PatientBirthDate", pydicom.valuerep.DA),
        ("StudyDate", pydicom.valuerep.DA),
        ("StudyTime", pydicom.valuerep.TM),
    ):
        try:
            kind(image.get(keyword) or None)
        except ValueError:
            image[keyword].value = ""
    if image.get("PatientName") and "^" not in str(image.PatientName):
        image.PatientName = f"{image.PatientName}^"  # one component only, and meant so
    return image


def _build(
    images: Sequence[Any], labels: np.ndarray[Any, Any], classes: Sequence[str]
) -> Segmentation:
    """Make the object of the source's files and labels (slices, rows, columns)."""
    import highdicom as hd

    return hd.seg.Segmentation(
        source_images=images,
        pixel_array=labels,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[
            _describe(value, name) for value, name in enumerate(classes, start=1)
        ],
        series_instance_uid=hd.UID(),
        series_number=_series_number(images[0]),
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MANUFACTURER,
        software_versions=__version__,
        device_serial_number="none",
        content_description="Segmentation by a neural network, for research only",
    )


def _describe(value: int, name: str) -> Any:
    """Describe a class: its code says an anatomical structure, its label which."""
    import highdicom as hd

    structure = hd.sr.CodedConcept("91723000", "SCT", "Anatomical Structure")
    return hd.seg.SegmentDescription(
        segment_number=value,
        segment_label=name[:64],
        segmented_property_category=structure,
        segmented_property_type=structure,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=MANUFACTURER,
            version=__version__,
            family=hd.sr.CodedConcept("123110", "DCM", "Artificial Intelligence"),
        ),
    )


def _series_number(image: Any) -> int:
    """Return a number that the source's study hardly has yet."""
    number = getattr(image, "SeriesNumber", None)
    return int(number or 0) + 1000
