from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pytest

from datasets import Dataset, build_dataset, load_case, make_split
from swin_unet.config import Config, DataConfig, UserError


def arrays(patient: int, frame: int) -> tuple[np.ndarray, np.ndarray]:
    """Make an image and a label map (slices, rows, columns)."""
    rng = np.random.default_rng([patient, frame])
    return rng.random((3, 6, 5)).astype(np.float32), rng.integers(0, 4, (3, 6, 5), np.uint8)


def make_challenge(root: Path, patients: Iterable[int], part: str, labels: bool = True) -> None:
    """Write patients as the challenge does, two frames and a 4D series each."""
    for patient in patients:
        name = f"patient{patient:03d}"
        folder = root / part / name
        folder.mkdir(parents=True)
        (folder / "Info.cfg").write_text("ED: 1\nES: 12\nGroup: DCM\nNbFrame: 30\n")
        nib.save(nib.Nifti1Image(np.zeros((5, 6, 3, 2)), np.eye(4)), folder / f"{name}_4d.nii.gz")
        for frame in (1, 12):
            for array, suffix in zip(arrays(patient, frame), ("", "_gt"), strict=True):
                if labels or not suffix:
                    image = nib.Nifti1Image(array.transpose(2, 1, 0), np.diag([1.5, 1.5, 10, 1]))
                    nib.save(image, folder / f"{name}_frame{frame:02d}{suffix}.nii.gz")


def make_preprocessed(
    root: Path, patients: Iterable[int], slices: str | None = "slices", first: int = 0
) -> None:
    """Write volumes, and slices with a scribble each, in HDF5."""
    root.mkdir(parents=True, exist_ok=True)
    for patient in patients:
        for frame in (1, 2):
            name = f"patient{patient:03d}_frame{frame:02d}"
            image, label = arrays(patient, frame)
            _write(root / f"{name}.h5", image=image, label=label)
            for index in range(len(image) if slices else 0):
                path = root / str(slices) / f"{name}_slice_{index + first}.h5"
                path.parent.mkdir(exist_ok=True)
                _write(path, image=image[index], label=label[index], scribble=label[index])


def _write(path: Path, **content: np.ndarray) -> None:
    with h5py.File(path, "w") as file:
        for key, array in content.items():
            file[key] = array


def write_list(path: Path, names: Iterable[str]) -> None:
    path.write_text("\n".join(names) + "\n")


def frames(*patients: int) -> list[str]:
    return [f"patient{number:03d}_frame{frame:02d}" for number in patients for frame in (1, 2)]


def config(root: Path, **options: Any) -> DataConfig:
    return DataConfig(**{"name": "acdc", "root": root} | options)


def read(root: Path, **options: Any) -> Dataset:
    return build_dataset(config(root, **options))


@pytest.mark.parametrize("part", ["training", "database/training", "ACDC/database/training", "."])
def test_the_challenges_layout(tmp_path: Path, part: str) -> None:
    make_challenge(tmp_path, (1, 2), part)
    dataset = read(tmp_path)
    assert [case.name for case in dataset.cases] == [
        "patient001_frame01",
        "patient001_frame12",
        "patient002_frame01",
        "patient002_frame12",
    ]
    assert [case.group for case in dataset.cases] == ["patient001"] * 2 + ["patient002"] * 2
    assert list(dataset.classes.values()) == ["right_ventricle", "myocardium", "left_ventricle"]
    assert dataset.split is None
    for case in dataset.cases:
        image, label = load_case(case, dataset)
        expected = arrays(int(case.name[7:10]), int(case.name[-2:]))
        np.testing.assert_array_equal(image.array, expected[0].transpose(2, 1, 0))
        np.testing.assert_array_equal(label.array, expected[1].transpose(2, 1, 0))


def test_the_papers_shares_are_of_the_patients(tmp_path: Path) -> None:
    make_challenge(tmp_path, range(1, 11), "training")
    dataset = read(tmp_path)
    split = make_split(dataset, Config(data=config(tmp_path)))
    parts = [{name[:10] for name in part} for part in (split.train, split.val, split.test)]
    assert [len(part) for part in parts] == [7, 1, 2]
    assert len(set.union(*parts)) == 10
    assert [len(part) for part in (split.train, split.val, split.test)] == [14, 2, 4]
    assert any("does not say which" in note for note in dataset.notes)


def test_a_labelled_test_part_is_the_published_one(tmp_path: Path) -> None:
    make_challenge(tmp_path, (1, 2, 3), "training")
    make_challenge(tmp_path, (101,), "testing")
    dataset = read(tmp_path)
    split = make_split(dataset, Config(data=config(tmp_path)))
    assert split.test == ("patient101_frame01", "patient101_frame12")
    assert len(split.val) == 2
    assert any("as --data.root" in note for note in dataset.notes)
    assert read(tmp_path / "training").split is None


def test_an_unlabelled_test_part_is_for_inference(tmp_path: Path) -> None:
    make_challenge(tmp_path, (1, 2), "training")
    make_challenge(tmp_path, (101,), "testing", labels=False)
    dataset = read(tmp_path)
    assert dataset.split is None
    assert [case.name for case in dataset.cases if not case.labels] == [
        "patient101_frame01",
        "patient101_frame12",
    ]


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("data", [".", "data", "ACDC/data"])
def test_preprocessed_files_with_lists(tmp_path: Path, data: str, first: int) -> None:
    make_preprocessed(tmp_path / data, (1, 2, 3, 4), first=first)
    slices = [f"{name}_slice_{n + first}" for name in frames(1, 2) for n in range(3)]
    write_list(tmp_path / "train_slices.list", slices)
    write_list(tmp_path / "val.list", frames(3))
    write_list(tmp_path / "test.list", frames(4))
    dataset = read(tmp_path)
    split = make_split(dataset, Config(data=config(tmp_path)))
    assert [list(part) for part in (split.train, split.val, split.test)] == [
        frames(1, 2),
        frames(3),
        frames(4),
    ]
    by_name = {case.name: case for case in dataset.cases}
    assert (len(by_name[frames(1)[0]].images), by_name[frames(1)[0]].stacked) == (3, True)
    assert (len(by_name[frames(3)[0]].images), by_name[frames(3)[0]].stacked) == (1, False)
    for case in dataset.cases:
        image, label = load_case(case, dataset)
        expected = arrays(int(case.name[7:10]), int(case.name[-2:]))
        np.testing.assert_array_equal(image.array, expected[0].transpose(2, 1, 0))
        np.testing.assert_array_equal(label.array, expected[1].transpose(2, 1, 0))


def test_a_list_of_training_volumes_takes_these(tmp_path: Path) -> None:
    make_preprocessed(tmp_path, (1, 2))
    write_list(tmp_path / "train.list", frames(1))
    write_list(tmp_path / "test.list", frames(2))
    dataset = read(tmp_path)
    assert [case.stacked for case in dataset.cases] == [False] * 4
    assert dataset.split is not None
    assert list(dataset.split.train) == frames(1)


def test_without_lists_every_case_is_there_once(tmp_path: Path) -> None:
    make_preprocessed(tmp_path, (1, 2))
    (tmp_path / "patient002_frame02.h5").unlink()
    dataset = read(tmp_path)
    assert [case.name for case in dataset.cases] == frames(1, 2)
    assert [case.stacked for case in dataset.cases] == [False, False, False, True]
    assert dataset.split is None


def test_what_a_list_names_in_vain_is_noted(tmp_path: Path) -> None:
    make_preprocessed(tmp_path, (1, 2), slices=None)
    write_list(tmp_path / "train.list", [*frames(1), "patient099_frame01"])
    assert any("not there: 1 (patient099_frame01)" in note for note in read(tmp_path).notes)


def test_a_patient_in_two_lists_is_refused(tmp_path: Path) -> None:
    make_preprocessed(tmp_path, (1, 2))
    write_list(tmp_path / "train.list", frames(1, 2)[:3])
    write_list(tmp_path / "test.list", frames(2)[1:])
    with pytest.raises(UserError, match="every patient in one part, found patient002 in two"):
        make_split(read(tmp_path), Config(data=config(tmp_path)))


def test_a_case_in_two_lists_is_refused(tmp_path: Path) -> None:
    make_preprocessed(tmp_path, (1, 2))
    write_list(tmp_path / "train.list", frames(1, 2))
    write_list(tmp_path / "test.list", frames(2))
    with pytest.raises(UserError, match="patient002_frame01, patient002_frame02 more than once"):
        make_split(read(tmp_path), Config(data=config(tmp_path)))


def test_classes_may_have_other_names_but_are_three(tmp_path: Path) -> None:
    make_challenge(tmp_path, (1,), "training")
    assert read(tmp_path, classes=["RV", "MYO", "LV"]).classes == {1: "RV", 2: "MYO", 3: "LV"}
    with pytest.raises(UserError, match=r"data\.classes: .*the three structures.*\['heart'\]"):
        read(tmp_path, classes=["heart"])


def test_a_copy_of_a_patient_is_refused(tmp_path: Path) -> None:
    make_challenge(tmp_path, (1,), "training")
    make_challenge(tmp_path, (1,), "copy")
    with pytest.raises(UserError, match="patient001_frame01, patient001_frame12 more than once"):
        read(tmp_path)


def test_other_files_are_not_acdc(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").touch()
    with pytest.raises(UserError, match=r"patient001_frame01\.nii\.gz, .*found none of them"):
        read(tmp_path)
