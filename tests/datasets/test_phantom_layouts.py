"""The phantom in every layout: what is where, and that all layouts hold the same patients."""

from __future__ import annotations

import re
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from PIL import Image

from datasets.phantom import main, write_phantoms
from datasets.phantom_benchmarks import published_split
from datasets.phantom_ct import make_case
from datasets.phantom_layouts import LAYOUTS
from datasets.synapse import main as prepare_synapse
from datasets.synapse import read_synapse
from swin_unet.config import DataConfig, UserError
from swin_unet.imaging.arrays import read as read_array

SIZE = (40, 36, 12)
HEART_SIZE = (48, 48, 6)
# The labels of the BTCV challenge, and those of TransUNet's files by the same organs.
BTCV = {
    1: "spleen", 2: "right kidney", 3: "left kidney", 4: "gallbladder", 5: "esophagus", 6: "liver",
    7: "stomach", 8: "aorta", 9: "inferior vena cava", 10: "portal and splenic veins",
    11: "pancreas", 12: "right adrenal gland", 13: "left adrenal gland",
}  # fmt: skip
TRANSUNET_TO_BTCV = {1: 8, 2: 4, 3: 3, 4: 2, 5: 6, 6: 11, 7: 1, 8: 7}
# What a folder looks like that somebody ran the command on: layout, format.
VARIANTS = [
    *((layout, "nifti") for layout in LAYOUTS),
    *(("folder", name) for name in ("nrrd", "mha", "png", "dicom")),
]


def write(
    out: Path, layout: str, file_format: str = "nifti", cases: int = 3, seed: int = 3
) -> Path:
    size = HEART_SIZE if layout == "acdc" else SIZE
    test_cases = min(1, LAYOUTS[layout].test_cases)
    write_phantoms(out, cases, test_cases, seed, size, layout, file_format)
    return out


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """All variants, by layout and format."""
    root = tmp_path_factory.mktemp("layouts")
    return {variant: write(root / "-".join(variant), *variant) for variant in VARIANTS}


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def oriented(path: Path, codes: str = "LPS") -> SimpleITK.Image:
    return SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(path)), codes)


@pytest.mark.parametrize("variant", VARIANTS, ids="-".join)
def test_same_seed_same_files(made, variant: tuple[str, str], tmp_path: Path) -> None:
    first = contents(made[variant])
    again = contents(write(tmp_path / "again", *variant))
    assert first == again
    assert len(first) > 4
    assert contents(write(tmp_path / "other", *variant, seed=4)) != first


@pytest.mark.parametrize("variant", VARIANTS, ids="-".join)
def test_a_folder_of_any_layout_is_replaced(made, variant: tuple[str, str], tmp_path: Path) -> None:
    out = write(tmp_path / "data", *variant)
    write(out, "acdc" if variant[0] != "acdc" else "btcv")
    assert not contents(out).keys() & contents(made[variant]).keys() - {"phantom.json"}
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize(
    "name", ["notes.txt", "mine/image.nii.gz", "dataset.json", "images/my.png"]
)
@pytest.mark.parametrize("layout", sorted(set(LAYOUTS) - {"msd", "nnunet"}))
def test_what_a_user_added_is_not_replaced(tmp_path: Path, layout: str, name: str) -> None:
    out = write(tmp_path / "data", layout)
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).write_text("mine")
    before = contents(out)
    with pytest.raises(UserError, match="empty or missing folder"):
        write(out, layout)
    assert contents(out) == before


def test_a_folder_whose_marker_is_gone_is_not_replaced(tmp_path: Path) -> None:
    out = write(tmp_path / "data", "acdc")
    (out / "phantom.json").unlink()
    with pytest.raises(UserError, match="another data set"):
        write(out, "acdc")


def test_the_command_says_how_to_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "data"
    size = map(str, HEART_SIZE)
    assert main([str(out), "--layout", "acdc", "--cases", "1", "--size", *size]) == 0
    counted, advice = capsys.readouterr().out.splitlines()
    assert "1 cases, 0 of them without labels" in counted
    assert f"python train.py --config acdc.yaml --data.root {out}" in advice


def test_nnunet_has_the_decathlons_files_under_other_names(made) -> None:
    msd, nnunet = contents(made["msd", "nifti"]), contents(made["nnunet", "nifti"])
    images = {
        re.sub("(imagesT[rs]/.*)_0000", r"\1", name): data
        for name, data in nnunet.items()
        if name != "dataset.json"
    }
    del msd["dataset.json"]
    assert images == msd


def test_the_published_split_is_complete() -> None:
    test = "0008 0022 0038 0036 0032 0002 0029 0003 0001 0004 0025 0035"
    train_numbers, test_numbers = published_split(30)
    assert sorted(test_numbers) == sorted(map(int, test.split()))
    assert sorted(train_numbers + test_numbers) == [*range(1, 11), *range(21, 41)]
    assert len(train_numbers) == 18


@pytest.mark.parametrize("cases", range(3, 31))
def test_few_cases_lie_on_both_sides_of_the_split(cases: int) -> None:
    train, test = published_split(cases)
    assert len(train) + len(test) == cases
    assert len(train) >= 2
    assert len(test) >= 1
    assert abs(len(test) - 0.4 * cases) <= 0.5


def test_btcv_is_named_and_labelled_as_the_challenge_does(made) -> None:
    training = made["btcv", "nifti"] / "RawData/Training"
    assert sorted(path.name for path in (training / "img").iterdir()) == [
        "img0001.nii.gz", "img0005.nii.gz", "img0006.nii.gz",
    ]  # fmt: skip
    values: set[int] = set()
    for path in (training / "img").iterdir():
        label = nib.load(training / "label" / path.name.replace("img", "label"))
        assert nib.aff2axcodes(label.affine) == ("L", "A", "S")
        np.testing.assert_array_equal(label.affine, nib.load(path).affine)
        array = np.asarray(label.dataobj)
        values |= set(np.unique(array).tolist())
        centre = {
            name: nib.affines.apply_affine(label.affine, np.argwhere(array == value).mean(axis=0))
            for value, name in BTCV.items()
            if (array == value).any()
        }
        assert set(TRANSUNET_TO_BTCV.values()) <= set(np.unique(array).tolist())
        assert centre["spleen"][0] < centre["aorta"][0] < centre["liver"][0]
        assert centre["left kidney"][0] < centre["aorta"][0] < centre["inferior vena cava"][0]
        assert centre["right kidney"][1] < centre["gallbladder"][1]
    assert values == {0, *BTCV}


def test_transunet_holds_the_windowed_slices_of_btcv(made) -> None:
    """Recomputed by SimpleITK: windows, upright slices from the feet up, eight of 13 organs."""
    raw, root = made["btcv", "nifti"] / "RawData/Training", made["transunet", "nifti"]
    with h5py.File(root / "test_vol_h5/case0001.npy.h5") as file:
        prepared = {1: (file["image"][:], file["label"][:])}
    for number in (5, 6):
        paths = sorted((root / "train_npz").glob(f"case{number:04d}_slice*.npz"))
        slices = [np.load(path) for path in paths]
        stacks = (np.stack([item[key] for item in slices]) for key in ("image", "label"))
        prepared[number] = tuple(stacks)
    for number, (image, label) in prepared.items():
        volume = SimpleITK.Cast(
            oriented(raw / f"img/img{number:04d}.nii.gz"), SimpleITK.sitkFloat64
        )
        volume = SimpleITK.IntensityWindowing(volume, -125, 275, 0, 1)
        np.testing.assert_allclose(image, SimpleITK.GetArrayFromImage(volume), atol=1e-6)
        organs = SimpleITK.GetArrayFromImage(oriented(raw / f"label/label{number:04d}.nii.gz"))
        for value, btcv_value in TRANSUNET_TO_BTCV.items():
            np.testing.assert_array_equal(label == value, organs == btcv_value)
        assert label.max() == 8


def test_transunet_is_what_preparing_btcv_gives(made, tmp_path: Path) -> None:
    """Two ways that were written apart from each other meet."""
    command = ["prepare", str(made["btcv", "nifti"]), str(tmp_path / "out")]
    assert prepare_synapse(command) == 0
    root = made["transunet", "nifti"]
    paths = sorted(path for path in root.rglob("case*") if path.is_file())
    assert len(paths) == 2 * SIZE[2] + 1
    for path in paths:
        other = tmp_path / "out" / path.relative_to(root)
        for content in ("image", "label"):
            ours, theirs = (read_array(file, content).array for file in (path, other))
            np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_the_lists_of_transunet_name_its_files(made) -> None:
    root = made["transunet", "nifti"]
    lists = {
        path.name: path.read_text().split() for path in (root / "lists/lists_Synapse").iterdir()
    }
    slices = sorted(path.stem for path in (root / "train_npz").iterdir())
    assert lists["train.txt"] == slices
    assert [f"{name}.npy.h5" for name in lists["test_vol.txt"]] == [
        path.name for path in sorted((root / "test_vol_h5").iterdir())
    ]
    notes = read_synapse(DataConfig(name="synapse", root=root, window=(0, 1))).notes
    assert any("lists_Synapse/train.txt" in note for note in notes), "the reader finds them"
    assert lists["all.lst"] == ["case0001.npy.h5", "case0005.npy.h5", "case0006.npy.h5"]


def test_acdc_names_its_frames_in_info_cfg(made) -> None:
    patients = sorted((made["acdc", "nifti"] / "training").iterdir())
    assert [path.name for path in patients] == ["patient001", "patient002", "patient003"]
    for patient in patients:
        info = dict(line.split(": ") for line in (patient / "Info.cfg").read_text().splitlines())
        assert set(info) == {"ED", "ES", "Group", "Height", "NbFrame", "Weight"}
        names = {"Info.cfg"} | {
            f"{patient.name}_frame{int(info[phase]):02d}{kind}.nii.gz"
            for phase in ("ED", "ES")
            for kind in ("", "_gt")
        }
        assert {path.name for path in patient.iterdir()} == names
        assert 1 == int(info["ED"]) < int(info["ES"]) <= int(info["NbFrame"])


@pytest.mark.parametrize("ending", ["nrrd", "mha"])
def test_other_formats_hold_the_same_voxels_at_the_same_places(made, ending: str) -> None:
    for name in ("images/phantom_001", "labels/phantom_003", "unlabelled/phantom_004"):
        ours = SimpleITK.ReadImage(str(made["folder", ending] / f"{name}.{ending}"))
        nifti = SimpleITK.ReadImage(str(made["folder", "nifti"] / f"{name}.nii.gz"))
        assert ours.GetPixelID() == nifti.GetPixelID()
        arrays = map(SimpleITK.GetArrayFromImage, (ours, nifti))
        np.testing.assert_array_equal(*arrays)
        np.testing.assert_allclose(ours.GetOrigin(), nifti.GetOrigin(), atol=1e-3)
        np.testing.assert_allclose(ours.GetSpacing(), nifti.GetSpacing(), atol=1e-4)
        np.testing.assert_allclose(ours.GetDirection(), nifti.GetDirection(), atol=1e-5)


def test_a_dicom_series_is_the_volume_in_standard_directions(made) -> None:
    folder = made["folder", "dicom"] / "images" / "phantom_002"
    (series,) = SimpleITK.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    files = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series)
    volume = SimpleITK.ReadImage(files)
    nifti = oriented(made["folder", "nifti"] / "images/phantom_002.nii.gz")
    arrays = map(SimpleITK.GetArrayFromImage, (volume, nifti))
    np.testing.assert_array_equal(*arrays)
    np.testing.assert_allclose(volume.GetOrigin(), nifti.GetOrigin(), atol=1e-3)
    np.testing.assert_allclose(volume.GetSpacing(), nifti.GetSpacing(), atol=1e-3)
    np.testing.assert_allclose(volume.GetDirection(), nifti.GetDirection(), atol=1e-5)


def test_dicom_identifiers_are_unique(made) -> None:
    seen: dict[str, list[str]] = {"0008|0018": [], "0020|000e": [], "0020|000d": []}
    files = sorted((made["folder", "dicom"] / "images").rglob("*.dcm"))
    for path in files:
        reader = SimpleITK.ImageFileReader()
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        for tag, values in seen.items():
            values.append(reader.GetMetaData(tag).strip("\0 "))
    instances, series, studies = seen.values()
    assert len(set(instances)) == len(files) == 3 * SIZE[2]
    assert len(set(series)) == len(set(studies)) == 3
    assert all(re.fullmatch(r"[\d.]{1,64}", name) for name in (*instances, *series, *studies))


def test_pictures_are_upright_slices_of_the_window(made) -> None:
    image, label = make_case(3, 2, SIZE)
    nib.save(image, made["folder", "png"].parent / "image.nii.gz")
    nib.save(label, made["folder", "png"].parent / "label.nii.gz")
    hu = SimpleITK.GetArrayFromImage(oriented(made["folder", "png"].parent / "image.nii.gz"))
    organs = SimpleITK.GetArrayFromImage(oriented(made["folder", "png"].parent / "label.nii.gz"))
    for index in range(SIZE[2]):
        name = f"phantom_002_s{index:03d}.png"
        with Image.open(made["folder", "png"] / "images" / name) as picture:
            assert picture.mode == "L"
            grey = np.clip((hu[index] + 125) / 400 * 255, 0, 255)
            np.testing.assert_allclose(np.asarray(picture), grey, atol=1)
        with Image.open(made["folder", "png"] / "labels" / name) as picture:
            np.testing.assert_array_equal(np.asarray(picture), organs[index])
