"""Real CT, MR, NRRD and DICOM through infer.py: the geometry by SimpleITK and nibabel."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from tests.inference_checks import random_checkpoint

pytestmark = pytest.mark.skipif("SWIN_UNET_DATA" not in os.environ, reason="no real data here")
ROOT = Path(os.environ.get("SWIN_UNET_DATA", "."))
TOTAL = "totalsegmentator_examples"
CASES = {
    "ct": f"{TOTAL}/ct_small/image.nii.gz",
    "mr": f"{TOTAL}/mr_small/image.nii.gz",
    "oblique mr": "sunnybrook_cardiac/volumes/ed/images/SC-HF-I-01.nii.gz",
    "spine": "sct_spinal_cord_mr/t2.nii.gz",
    "nrrd": "pyradiomics_nrrd/breast1_image.nrrd",
    "ct series": "dcmqi_ct_3slice/series",
    "ct series, anonymised": f"{TOTAL}/ct_dicom/series",
    "mr series": "sunnybrook_cardiac/dicom_ed/SC-HF-I-04",
}


def by_simpleitk(path: Path) -> sitk.Image:
    if path.is_dir():
        return sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(path)))
    return sitk.ReadImage(str(path))


@pytest.mark.parametrize("case", CASES)
def test_labels_lie_on_the_grid_of_their_image(call, tmp_path: Path, case: str) -> None:
    checkpoint = random_checkpoint(tmp_path / "run" / "best.pt", plane="axial")
    source, output = ROOT / CASES[case], tmp_path / "out"
    arguments = ("--checkpoint", checkpoint, "--input", source, "--output", output)
    outcome = call("infer", *arguments)
    assert outcome.code == 0, outcome.stderr
    (written,) = (path for path in output.iterdir() if path.name != "run.json")
    image, labels = by_simpleitk(source), sitk.ReadImage(str(written))
    assert labels.GetSize() == image.GetSize()
    assert labels.GetSpacing() == pytest.approx(image.GetSpacing(), rel=1e-6)
    assert labels.GetOrigin() == pytest.approx(image.GetOrigin(), abs=1e-4)
    assert labels.GetDirection() == pytest.approx(image.GetDirection(), abs=1e-5)
    assert labels.GetPixelID() == sitk.sitkUInt8
    assert len(np.unique(sitk.GetArrayFromImage(labels))) > 1
    if source.name.endswith(".nii.gz"):
        assert written.name == source.name
        headers = [nib.load(path).header for path in (source, written)]
        for field in ("srow_x", "srow_y", "srow_z", "qform_code", "sform_code", "quatern_b"):
            np.testing.assert_array_equal(headers[1][field], headers[0][field])


def test_a_series_gives_a_segmentation_object(call, tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom", reason="highdicom and pydicom are optional")
    pytest.importorskip("highdicom", reason="highdicom is optional")
    checkpoint = random_checkpoint(tmp_path / "run" / "best.pt")
    source = shutil.copytree(ROOT / CASES["ct series"], tmp_path / "series")
    arguments = ("--checkpoint", checkpoint, "--input", source, "--output", tmp_path / "out")
    outcome = call("infer", *arguments, "--dicom_seg")
    assert outcome.code == 0, outcome.stderr
    segmentation = pydicom.dcmread(tmp_path / "out" / "series.dcm")
    labels = np.asarray(nib.load(tmp_path / "out" / "series.nii.gz").dataobj)
    assert segmentation.pixel_array.sum() == np.count_nonzero(labels)
    again = call("infer", *arguments, "--dicom_seg", "--skip-existing")
    assert "there already" in again.stdout
