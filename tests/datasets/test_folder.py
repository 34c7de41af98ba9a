from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from datasets import build_dataset, load_case, make_split
from datasets.cases import Dataset
from datasets.phantom_files import save_dicom
from swin_unet.config import Config, DataConfig, UserError

AFFINE = np.diag([1.5, 2.0, 3.0, 1.0])
FORMATS = [".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".png", ".tif", ".jpg", "dicom"]


def image_array(seed: int, shape: tuple[int, ...] = (6, 5, 4)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, shape).astype(np.uint8)


def label_array(seed: int, shape: tuple[int, ...] = (6, 5, 4)) -> np.ndarray:
    return (image_array(seed, shape) % 3).astype(np.uint8)


def save(path: Path, array: np.ndarray) -> Path:
    """Write (X, Y, Z) in the format that the ending says; of a picture its first slice."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith((".nii", ".nii.gz")):
        nib.save(nib.Nifti1Image(array, AFFINE), path)
    elif path.suffix in (".nrrd", ".mha", ".mhd"):
        import SimpleITK

        image = SimpleITK.GetImageFromArray(array.T)
        image.SetSpacing((1.5, 2.0, 3.0))
        image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))  # RAS, as AFFINE
        SimpleITK.WriteImage(image, str(path))
    else:
        from PIL import Image

        Image.fromarray(array[..., 0].T).save(path)
    return path


def save_series(folder: Path, array: np.ndarray) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array.astype(np.int16), AFFINE @ np.diag([-1, -1, 1, 1]))
    save_dicom(image, folder, folder.name, study="1")


def make_pairs(root: Path, ending: str, names: tuple[str, ...] = ("a", "b")) -> None:
    """Write images and labels of the same names."""
    for seed, name in enumerate(names):
        shape = (6, 5, 1) if ending in (".png", ".tif", ".jpg") else (6, 5, 4)
        if ending == "dicom":
            save_series(root / "images" / name, image_array(seed, shape))
            label = nib.Nifti1Image(label_array(seed, shape), AFFINE @ np.diag([-1, -1, 1, 1]))
            (root / "labels").mkdir(exist_ok=True)
            nib.save(label, root / "labels" / f"{name}.nii.gz")
        else:
            save(root / "images" / f"{name}{ending}", image_array(seed, shape))
            label_ending = ".png" if ending == ".jpg" else ending  # JPEG would blur the labels
            save(root / "labels" / f"{name}{label_ending}", label_array(seed, shape))


def read(root: Path, **options: Any) -> Dataset:
    return build_dataset(config(root, **options).data)


def config(root: Path, **options: Any) -> Config:
    return Config(
        data=DataConfig(**{"name": "folder", "root": root, "classes": ["x", "y"]} | options)
    )


def listed(root: Path, text: str) -> Path:
    path = root / "cases.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize("ending", FORMATS)
def test_formats(tmp_path: Path, ending: str) -> None:
    make_pairs(tmp_path, ending)
    dataset = read(tmp_path)
    assert [case.name for case in dataset.cases] == ["a", "b"]
    assert dataset.num_channels == 1
    assert dataset.classes == {1: "x", 2: "y"}
    for seed, case in enumerate(dataset.cases):
        image, label = load_case(case, dataset)
        if ending != ".jpg":
            np.testing.assert_array_equal(image.array, image_array(seed, image.shape))
        np.testing.assert_array_equal(label.array, label_array(seed, image.shape))


def test_channel_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for channel in range(3):
            save(tmp_path / "images" / f"{name}_{channel:04d}.nii.gz", image_array(channel))
        save(tmp_path / "labels" / f"{name}.nii.gz", label_array(0))
    dataset = read(tmp_path)
    assert (dataset.num_channels, len(dataset.cases)) == (3, 2)
    image, _ = load_case(dataset.cases[0], dataset)
    np.testing.assert_array_equal(image.array[..., 2], image_array(2))


def test_channels_in_one_file(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.nii.gz", image_array(0, (6, 5, 4, 2)))
    save(tmp_path / "labels" / "a.nii.gz", label_array(0))
    assert read(tmp_path).num_channels == 2


def test_other_numbers_of_channels_are_named(tmp_path: Path) -> None:
    make_pairs(tmp_path, ".nii.gz", ("a", "b_0000"))
    (tmp_path / "labels" / "b_0000.nii.gz").rename(tmp_path / "labels" / "b.nii.gz")
    save(tmp_path / "images" / "b_0001.nii.gz", image_array(0))
    with pytest.raises(UserError, match=r"2 channel files for every case.*found fewer for a"):
        read(tmp_path)


def test_two_patterns(tmp_path: Path) -> None:
    for patient in ("p1", "p2"):
        save(tmp_path / patient / "t1.nii.gz", image_array(0))
        save(tmp_path / patient / "t2.nii.gz", image_array(1))
        save(tmp_path / patient / "lesion.nii.gz", label_array(1))
    dataset = read(tmp_path, images="*/t2.nii.gz", labels="*/lesion.nii.gz")
    assert [case.name for case in dataset.cases] == ["p1", "p2"]
    assert dataset.cases[0].images == (tmp_path / "p1" / "t2.nii.gz",)


def test_images_and_labels_in_one_folder(tmp_path: Path) -> None:
    save(tmp_path / "t2.nii.gz", image_array(0))
    save(tmp_path / "t1.nii.gz", image_array(0))
    save(tmp_path / "t2_seg.nii.gz", label_array(0))
    dataset = read(tmp_path, images="*.nii.gz", labels="*_seg.nii.gz")
    assert [(case.name, len(case.labels)) for case in dataset.cases] == [("t1", 0), ("t2", 1)]


def test_images_alone_need_no_classes(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.nii.gz", image_array(0))
    dataset = read(tmp_path, classes=None)
    assert dataset.classes == {}
    assert "1 of 1 cases (a)" in dataset.notes[0]
    with pytest.raises(UserError, match="at least 3 labelled cases"):
        make_split(dataset, config(tmp_path))


def test_classes_are_told_apart_by_their_names(tmp_path: Path) -> None:
    make_pairs(tmp_path, ".nii.gz")
    with pytest.raises(UserError, match=r"data.classes: .*found a\. "):
        read(tmp_path, classes=["a", "b", "a"])


def test_labels_need_classes(tmp_path: Path) -> None:
    make_pairs(tmp_path, ".nii.gz")
    with pytest.raises(UserError) as caught:
        read(tmp_path, classes=None)
    assert "data.classes: expected the names of the label values 1, 2, ..." in str(caught.value)
    assert "a.nii.gz" in str(caught.value)
    assert "--data.classes" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "subject", "found"),
    [
        ({"images": "nowhere"}, "data.images", "which is not there"),
        ({"labels": "*/nothing*"}, "data.labels", "none at"),
        ({"images": "*/*.nii.gz", "labels": "*/*.nii.gz"}, "data.images", "the same files"),
        ({"list_file": Path("none.csv")}, "none.csv", "No such file"),
    ],
)
def test_wrong_places_are_named(
    tmp_path: Path, options: dict[str, Any], subject: str, found: str
) -> None:
    make_pairs(tmp_path, ".nii.gz")
    with pytest.raises(UserError) as caught:
        read(tmp_path, **options)
    message = str(caught.value)
    assert subject in message.partition(":")[0]
    assert found in message


def test_a_folder_of_other_things_says_what_is_expected(tmp_path: Path) -> None:
    save(tmp_path / "scans" / "a.nii.gz", image_array(0))
    with pytest.raises(UserError, match=r"data\.images, or data\.list_file, found none") as caught:
        read(tmp_path)
    assert len(str(caught.value).splitlines()) == 4


def test_a_list(tmp_path: Path) -> None:
    for name in ("i1", "i2", "j1", "j2", "s1"):
        save(tmp_path / "x" / f"{name}.nii.gz", image_array(0))
    outside = save(tmp_path.parent / f"{tmp_path.name}_s2.nii.gz", label_array(0))
    path = listed(
        tmp_path,
        "image,label,name,group,part\n"
        "x/i1.nii.gz;x/i2.nii.gz,x/s1.nii.gz,one,p1,train\n"
        f"x/j1.nii.gz;x/j2.nii.gz,{outside},,p2,test\n",
    )
    dataset = read(tmp_path, list_file=path)
    assert [(case.name, case.group) for case in dataset.cases] == [("j1", "p2"), ("one", "p1")]
    assert dataset.cases[1].images == tuple(tmp_path / "x" / f"{n}.nii.gz" for n in ("i1", "i2"))
    assert dataset.cases[0].labels == (outside,)
    assert dataset.num_channels == 2
    assert make_split(dataset, config(tmp_path, val_fraction=0.0)).test == ("j1",)


def test_a_list_with_channel_numbers_names_the_case_without(tmp_path: Path) -> None:
    for channel in range(2):
        save(tmp_path / f"a_000{channel}.nii", image_array(0))
    path = listed(tmp_path, "image\na_0000.nii;a_0001.nii\n")
    (case,) = read(tmp_path, list_file=path).cases
    assert case.name == "a"


def test_parts_of_a_list_are_the_split(tmp_path: Path) -> None:
    make_pairs(tmp_path, ".nii.gz", ("a", "b", "c", "d", "e"))
    parts = {"a": "train", "b": "train", "c": "val", "d": "test", "e": ""}
    rows = [f"images/{n}.nii.gz,labels/{n}.nii.gz,{part}" for n, part in parts.items()]
    path = listed(tmp_path, "\n".join(["image,label,part", *rows]))
    dataset = read(tmp_path, list_file=path)
    split = make_split(dataset, config(tmp_path, list_file=path))
    assert (split.train, split.val, split.test) == (("a", "b"), ("c",), ("d",))


def test_a_patient_in_two_parts_of_a_list_is_refused(tmp_path: Path) -> None:
    make_pairs(tmp_path, ".nii.gz")
    rows = "images/a.nii.gz,labels/a.nii.gz,p,train\nimages/b.nii.gz,labels/b.nii.gz,p,test\n"
    path = listed(tmp_path, f"image,label,group,part\n{rows}")
    with pytest.raises(UserError, match=r"cases\.csv: expected every patient in one part, found p"):
        make_split(read(tmp_path, list_file=path), config(tmp_path, list_file=path))


def test_missing_files_of_a_list_are_named(tmp_path: Path) -> None:
    path = listed(tmp_path, "image,label\nx/a.nii,\ny/b.nii,y/c.nii\n")
    with pytest.raises(UserError) as caught:
        read(tmp_path, list_file=path)
    assert str(caught.value).startswith(f"{tmp_path}/x/a.nii: ")
    assert "nothing there, and 2 other files are missing" in str(caught.value)


def test_two_cases_of_one_name_are_refused(tmp_path: Path) -> None:
    for patient in ("p1", "p2"):
        save(tmp_path / patient / "image.nii.gz", image_array(0))
    path = listed(tmp_path, "image\np1/image.nii.gz\np2/image.nii.gz\n")
    with pytest.raises(UserError, match=r"image more than once.*under a name of its own"):
        read(tmp_path, list_file=path)


@pytest.mark.parametrize("pattern", [r"^(p\d)_", r"p\d", r"p\d|q(\d)"])
def test_a_pattern_finds_the_patients(tmp_path: Path, pattern: str) -> None:
    make_pairs(tmp_path, ".nii.gz", ("p1_a", "p1_b", "p2_a"))
    dataset = read(tmp_path, group_pattern=pattern)
    assert [case.group for case in dataset.cases] == ["p1", "p1", "p2"]
    assert dataset.notes == ()


def test_a_pattern_must_find_every_patient(tmp_path: Path) -> None:
    make_pairs(tmp_path, ".nii.gz", ("p1_a", "other"))
    with pytest.raises(UserError, match=r"data\.group_pattern: .*found none in other"):
        read(tmp_path, group_pattern=r"p\d")


def test_without_patients_a_note_says_so(tmp_path: Path) -> None:
    make_pairs(tmp_path, ".nii.gz")
    assert "nothing says which cases are of one patient" in read(tmp_path).notes[0]


def test_on_mismatch_is_handed_on(tmp_path: Path) -> None:
    make_pairs(tmp_path, ".nii.gz")
    assert read(tmp_path, on_mismatch="resample").on_mismatch == "resample"
