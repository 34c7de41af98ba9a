"""One volume in every format: the same labels come out, on the grid of each file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from PIL import Image

from swin_unet.imaging import read, read_image
from tests.dicom_files import write_slice


def as_lps(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return voxels and affine of a NIfTI file with axes that run left, back and up."""
    image = nib.load(path)
    change = nib.orientations.ornt_transform(
        nib.io_orientation(image.affine), nib.orientations.axcodes2ornt("LPS")
    )
    turned = image.as_reoriented(change)
    return np.asarray(turned.dataobj), turned.affine


def write_dicom(folder: Path, nifti: Path, **options: Any) -> None:
    voxels, affine = as_lps(nifti)
    spacing = nib.affines.voxel_sizes(affine)
    lps = np.diag([-1, -1, 1, 1]) @ affine
    geometry = {
        "spacing": (spacing[1], spacing[0]),
        "orientation": (lps[:3, :2] / spacing[:2]).T.ravel(),
    }
    for index in range(voxels.shape[2]):
        pixels = np.rint(voxels[:, :, index].T).astype(np.int16)
        place = (lps @ [0, 0, index, 1])[:3]
        write_slice(folder / f"{index:02d}", pixels, place, **geometry, **options)


@pytest.fixture
def inputs(place, tmp_path: Path) -> Path:
    """The first phantom as NIfTI, NRRD, MHA, MHD, a DICOM series and an array."""
    folder = tmp_path / "inputs"
    folder.mkdir()
    nifti = folder / "nifti.nii.gz"
    source = nib.load(place.image())
    voxels = np.rint(np.asarray(source.dataobj)).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, source.affine), nifti)
    for name in ("nrrd.nrrd", "mha.mha", "mhd.mhd"):
        sitk.WriteImage(sitk.ReadImage(str(nifti)), str(folder / name))
    write_dicom(folder / "dicom", nifti)
    label, _ = as_lps(place.label())
    np.savez(folder / "array.npz", image=as_lps(nifti)[0].T, label=label.T)
    for name in ("nifti", "nrrd", "mha", "mhd", "dicom"):
        (tmp_path / f"labels/{name}.nii.gz").parent.mkdir(exist_ok=True)
        (tmp_path / f"labels/{name}.nii.gz").write_bytes(place.label().read_bytes())
    (tmp_path / "labels" / "array.npz").write_bytes((folder / "array.npz").read_bytes())
    return folder


OUTPUTS = {
    "nifti": "nifti.nii.gz",
    "nrrd": "nrrd.nrrd",
    "mha": "mha.mha",
    "mhd": "mhd.mhd",
    "dicom": "dicom.nii.gz",
    "array": "array.nii.gz",
}


def test_a_folder_of_all_formats_is_segmented_alike(call, place, inputs: Path) -> None:
    labels = inputs.parent / "labels"
    outcome = call("infer", *place.infer(input=inputs, labels=labels))
    assert outcome.code == 0, outcome.stderr
    written = {path.name for path in place.output.iterdir()}
    others = {"mhd.raw", "metrics.json", "metrics.csv", "run.json"}
    assert written == {*OUTPUTS.values(), *others}
    expected, affine = as_lps(place.output / OUTPUTS["nifti"])
    assert len(np.unique(expected)) > 1
    for name, output in OUTPUTS.items():
        volume = read(place.output / output)
        turned = nib.Nifti1Image(volume.array, volume.affine)
        nib.save(turned, inputs.parent / "turned.nii")
        voxels, its_affine = as_lps(inputs.parent / "turned.nii")
        np.testing.assert_array_equal(voxels, expected)
        if name != "array":
            np.testing.assert_allclose(its_affine, affine, atol=1e-3)
    for name in ("nrrd.nrrd", "mha.mha", "mhd.mhd"):
        image, label = (sitk.ReadImage(str(of / name)) for of in (inputs, place.output))
        assert label.GetOrigin() == image.GetOrigin()
        assert label.GetSpacing() == image.GetSpacing()
        assert label.GetDirection() == image.GetDirection()
    cases = json.loads((place.output / "metrics.json").read_text())["cases"]
    scores = {case["case"]: case["metrics"] for case in cases}
    assert set(scores) == set(OUTPUTS)
    for name, metrics in scores.items():
        for class_name, record in metrics.items():
            of_nifti = scores["nifti"][class_name]
            assert record["dice"] == pytest.approx(of_nifti["dice"])
            assert (record["volume_ml"] is None) == (name == "array")
            if name != "array":
                assert record["hd95_mm"] == pytest.approx(of_nifti["hd95_mm"], rel=1e-3)


def test_pictures_get_pictures(call, place, tmp_path: Path) -> None:
    slices = as_lps(place.image())[0][:, :, 3:6]
    pixels = np.clip((slices + 125) / 400 * 255, 0, 255).astype(np.uint8)
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.fromarray(pixels[:, :30, 0]).save(folder / "a.png")
    Image.fromarray(pixels[:, :30, 0]).save(folder / "b.jpg")
    pages = [Image.fromarray(pixels[:, :, index]) for index in range(3)]
    pages[0].save(folder / "c.tif", save_all=True, append_images=pages[1:])
    outcome = call("infer", *place.infer(input=folder))
    assert outcome.code == 0, outcome.stderr
    written = {path.name for path in place.output.iterdir()}
    assert written == {"a.png", "b.png", "c.tif", "run.json"}
    for name in ("a.png", "b.png"):
        picture = Image.open(place.output / name)
        assert (picture.size, picture.mode) == ((30, 32), "L")
        assert set(np.unique(np.asarray(picture))) <= {0, 1, 2}
    assert read_image([place.output / "c.tif"]).shape == (32, 32, 3)


def test_one_of_several_series_is_chosen(call, place, inputs: Path) -> None:
    both = inputs / "dicom"
    for path in sorted(both.iterdir()):
        path.rename(path.with_name(f"first_{path.name}"))
    write_dicom(both, inputs / "nifti.nii.gz", series="1.2.5", number="7", description="thin")
    outcome = call("infer", *place.infer(input=both))
    outcome.assert_refused(str(both), "one DICOM series", "'1': number 1, thorax, 32 x 32 x 12")
    assert not list(place.output.glob("*.nii.gz"))
    outcome = call("infer", *place.infer(input=Path(f"{both}#7")))
    assert outcome.code == 0, outcome.stderr
    assert {path.name for path in place.output.iterdir()} == {"dicom_7.nii.gz", "run.json"}


def test_a_pattern_takes_what_fits(call, place, inputs: Path) -> None:
    outcome = call("infer", *place.infer(input=inputs / "m*"))
    assert outcome.code == 0, outcome.stderr
    assert {path.name for path in place.output.glob("m*")} == {"mha.mha", "mhd.mhd", "mhd.raw"}


def test_one_bad_series_does_not_stop_the_others(call, place, inputs: Path) -> None:
    (inputs / "dicom" / "05").unlink()
    outcome = call("infer", *place.infer(input=inputs))
    assert outcome.code == 3
    assert "1 missing, between 04 and 06" in outcome.stderr
    assert "1 of 6 cases failed: dicom" in outcome.stderr
    assert not (place.output / "dicom.nii.gz").exists()
    assert (place.output / "array.nii.gz").exists()


@pytest.mark.parametrize("as_folder", ["the series", "its parent"])
def test_the_output_is_no_folder_of_the_input(call, place, inputs: Path, as_folder: str) -> None:
    output = inputs / "dicom" if as_folder == "the series" else inputs
    before = place.files()
    outcome = call("infer", *place.infer(input=inputs / "dicom", output=output))
    outcome.assert_refused(str(output), "the folder of the input")
    assert place.files() == before
