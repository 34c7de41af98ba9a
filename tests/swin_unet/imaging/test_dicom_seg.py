"""DICOM-SEG objects, read back by pydicom element by element."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from swin_unet.config import UserError
from swin_unet.imaging import Volume, dicom_seg, read_image
from swin_unet.imaging.dicom_seg import check_dicom_seg, check_series, write_dicom_seg
from tests.imaging_checks import assert_error, ramp, save_nifti

pydicom = pytest.importorskip("pydicom", reason="highdicom and pydicom are optional")
pytest.importorskip("highdicom", reason="highdicom is optional")

CLASSES = ("liver", "left kidney", "spleen")
SHAPE = (7, 5, 4)  # columns, rows, slices
# Directions of rows and columns: axial, and one that is tilted about two axes.
ORIENTATIONS = {
    "axial": np.array([[1.0, 0, 0], [0, 1, 0]]),
    "oblique": np.array([[0.8, 0.6, 0], [-0.36, 0.48, 0.8]]),
}


def write_series(folder: Path, orientation: str = "axial", step: float = 2.5, **changes) -> Path:
    """Write a series as a scanner does, file names in no order; None removes an element."""
    folder.mkdir()
    directions = ORIENTATIONS[orientation]
    normal = np.cross(*directions)
    for index in range(SHAPE[2]):
        image = pydicom.Dataset()
        image.file_meta = pydicom.dataset.FileMetaDataset()
        image.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        image.SOPClassUID = pydicom.uid.CTImageStorage
        image.SOPInstanceUID = f"1.2.3.4.{index + 1}"
        image.StudyInstanceUID, image.SeriesInstanceUID = "1.2.3", "1.2.3.4"
        image.FrameOfReferenceUID = "1.2.3.5"
        image.Modality, image.SeriesNumber, image.InstanceNumber = "CT", 3, index + 1
        image.PatientID, image.PatientName = "p1", "ANON"
        image.PatientSex = image.StudyID = image.AccessionNumber = image.StudyTime = ""
        image.SpecificCharacterSet = ""
        image.StudyDate = "20200101"
        image.ReferringPhysicianName = ""
        image.ImagePositionPatient = list(np.round([-10, 20, 30] + step * index * normal, 6))
        image.ImageOrientationPatient = list(directions.ravel())
        image.PixelSpacing, image.SliceThickness = [0.7, 0.9], abs(step)
        image.Rows, image.Columns = SHAPE[1], SHAPE[0]
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
        image.PixelRepresentation = 1
        image.PixelData = np.full((SHAPE[1], SHAPE[0]), index, np.int16).tobytes()
        for keyword, value in changes.items():
            value = value(index) if callable(value) else value
            if value is None:
                delattr(image, keyword)
            else:
                setattr(image, keyword, value)
        image["PatientBirthDate"] = pydicom.DataElement(
            "PatientBirthDate", "DA", "00000000", validation_mode=pydicom.config.IGNORE
        )
        path = folder / f"{(index * 3) % SHAPE[2]}.dcm"
        image.save_as(path, enforce_file_format=True)
    return folder


def labels_on(source: Path) -> Volume:
    image = read_image([source])
    values = np.random.default_rng(0).integers(0, 4, image.shape).astype(np.uint8)
    values[..., 1] = 0  # a slice without anything
    return replace(image, array=values)


def voxels_of(path: Path) -> dict[tuple[int, tuple[float, ...]], str]:
    """Return for each voxel of each segment its place in LPS, by the standard's formula."""
    segmentation = pydicom.dcmread(path)
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    row, column = np.reshape(
        shared.PlaneOrientationSequence[0].ImageOrientationPatient, (2, 3)
    ).astype(float)
    between_rows, between_columns = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    places = {}
    names = {item.SegmentNumber: item.SegmentLabel for item in segmentation.SegmentSequence}
    frames = segmentation.pixel_array.reshape(-1, segmentation.Rows, segmentation.Columns)
    for frame, groups in zip(frames, segmentation.PerFrameFunctionalGroupsSequence, strict=True):
        origin = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        number = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        for y, x in np.argwhere(frame):
            place = origin + row * between_columns * x + column * between_rows * y
            places[number, tuple(np.round(place, 2) + 0.0)] = names[number]
    return places


@pytest.mark.parametrize("step", [2.5, -2.5])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_every_voxel_is_where_it_was(tmp_path: Path, orientation: str, step: float):
    source = write_series(tmp_path / "series", orientation, step)
    labels = labels_on(source)
    check_series(source)
    write_dicom_seg(tmp_path / "a.dcm", labels, source, CLASSES)
    expected = {}
    lps = np.diag([-1.0, -1, 1, 1]) @ labels.affine
    for index in np.argwhere(labels.array):
        value = int(labels.array[tuple(index)])
        place = (lps @ [*index, 1])[:3]
        expected[value, tuple(np.round(place, 2) + 0.0)] = CLASSES[value - 1]
    assert len(expected) > 50
    assert voxels_of(tmp_path / "a.dcm") == expected


def test_it_belongs_to_the_patient_and_refers_to_the_images(tmp_path: Path):
    source = write_series(tmp_path / "series")
    write_dicom_seg(tmp_path / "a.dcm", labels_on(source), source, CLASSES)
    segmentation = pydicom.dcmread(tmp_path / "a.dcm")
    assert segmentation.SOPClassUID == pydicom.uid.SegmentationStorage
    assert (segmentation.PatientID, segmentation.StudyInstanceUID) == ("p1", "1.2.3")
    assert segmentation.SeriesInstanceUID != "1.2.3.4"
    assert segmentation.SegmentationType == "BINARY"
    assert [item.SegmentLabel for item in segmentation.SegmentSequence] == list(CLASSES)
    assert {item.SegmentAlgorithmType for item in segmentation.SegmentSequence} == {"AUTOMATIC"}
    (series,) = segmentation.ReferencedSeriesSequence
    referred = {item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence}
    assert referred == {f"1.2.3.4.{number}" for number in range(1, 5)}


def test_nothing_found_is_written_as_well(tmp_path: Path):
    source = write_series(tmp_path / "series")
    labels = labels_on(source)
    empty = replace(labels, array=np.zeros_like(labels.array))
    write_dicom_seg(tmp_path / "a.dcm", empty, source, CLASSES)
    assert voxels_of(tmp_path / "a.dcm") == {}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"FrameOfReferenceUID": ""}, "files without FrameOfReferenceUID"),
        ({"StudyInstanceUID": None}, "files without StudyInstanceUID"),
        ({"FrameOfReferenceUID": lambda index: f"1.2.{index}"}, "4 different values of Frame"),
    ],
)
def test_what_cannot_be_referred_to_is_refused(tmp_path: Path, changes, words: str):
    source = write_series(tmp_path / "series", **changes)
    with pytest.raises(UserError) as caught:
        check_series(source)
    assert_error(caught.value, source, words, "NIfTI")


def test_other_inputs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = write_series(tmp_path / "series")
    check_dicom_seg([source, source / "0.dcm"])
    nifti = save_nifti(tmp_path / "a.nii.gz", ramp("u1"))
    with pytest.raises(UserError, match=r"a\.nii\.gz: expected a DICOM series"):
        check_dicom_seg([source, nifti])
    monkeypatch.setattr(dicom_seg, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="--dicom_seg: expected the package highdicom"):
        check_dicom_seg([source])
