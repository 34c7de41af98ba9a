import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from datasets import Dataset, build_dataset, load_case, make_split
from swin_unet.config import Config, DataConfig, UserError

CLASSES = [
    "aorta", "gallbladder", "left_kidney", "right_kidney", "liver", "pancreas", "spleen", "stomach",
]  # fmt: skip


def volume(number: int, slices: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Make an image and a label map (slices, rows, columns)."""
    rng = np.random.default_rng(number)
    image = rng.random((slices, 6, 5)).astype(np.float32)
    return image, rng.integers(0, 9, image.shape).astype(np.float32)


def write_slices(folder: Path, number: int, keep: Any = range(12)) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    image, label = volume(number)
    names = [f"case{number:04d}_slice{index:03d}" for index in keep]
    for index, name in zip(keep, names, strict=True):
        np.savez(folder / f"{name}.npz", image=image[index], label=label[index])
    return names


def write_volume(folder: Path, number: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    image, label = volume(number)
    with h5py.File(folder / f"case{number:04d}.npy.h5", "w") as file:
        file["image"], file["label"] = image, label


def make(root: Path, train: str = "train_npz", test: str = "test_vol_h5") -> list[str]:
    """Write two training and two test cases; return the names of the slices."""
    names = [name for number in (5, 10) for name in write_slices(root / train, number)]
    for number in (1, 8):
        write_volume(root / test, number)
    return names


def write_lists(folder: Path, train: list[str], test: list[str] | None = None, **more: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lists = {"train.txt": train, "test_vol.txt": test, **more}
    for name, lines in lists.items():
        if lines is not None:
            (folder / name).write_text("\n".join(lines) + "\n")


def config(root: Path, **options: Any) -> DataConfig:
    return DataConfig(**{"name": "synapse", "root": root, "classes": CLASSES} | options)


def read(root: Path, **options: Any) -> Dataset:
    return build_dataset(config(root, **options))


def names(dataset: Dataset, part: str) -> tuple[str, ...]:
    assert dataset.split is not None
    found: tuple[str, ...] = getattr(dataset.split, part)
    return found


@pytest.mark.parametrize("below", [".", "Synapse", "data/Synapse"])
@pytest.mark.parametrize("lists", [None, "lists/lists_Synapse", "lists", "."])
def test_the_distribution_is_read(tmp_path: Path, below: str, lists: str | None) -> None:
    slices = make(tmp_path / below)
    if lists is not None:
        write_lists(tmp_path / lists, slices, ["case0008", "case0001"])
    dataset = read(tmp_path)
    assert [case.name for case in dataset.cases] == ["case0001", "case0005", "case0008", "case0010"]
    assert [case.group for case in dataset.cases] == ["0001", "0005", "0008", "0010"]
    assert names(dataset, "train") == ("case0005", "case0010")
    assert names(dataset, "test") == ("case0001", "case0008")
    assert list(dataset.classes.values()) == CLASSES
    for case in dataset.cases:
        image, label = load_case(case, dataset)
        expected, expected_label = volume(int(case.group or 0))
        np.testing.assert_array_equal(image.array, expected.transpose(2, 1, 0))
        np.testing.assert_array_equal(label.array, expected_label.transpose(2, 1, 0))


def test_lists_beside_the_data_are_found(tmp_path: Path) -> None:
    """TransUNet's own tree: data/Synapse beside the code with its lists."""
    slices = make(tmp_path / "data" / "Synapse")
    write_lists(tmp_path / "lists" / "lists_Synapse", slices[:12], ["case0001"])
    dataset = read(tmp_path / "data" / "Synapse")
    assert names(dataset, "train") == ("case0005",)
    assert names(dataset, "test") == ("case0001",)


def test_folders_of_forks_are_read(tmp_path: Path) -> None:
    make(tmp_path, "train_npz_new", "test_vol_h5_new")
    assert len(read(tmp_path).cases) == 4


def test_slices_are_stacked_by_number(tmp_path: Path) -> None:
    folder = tmp_path / "train_npz"
    folder.mkdir()
    image, label = volume(3)
    for index in range(12):
        np.savez(folder / f"case3_slice{index}.npz", image=image[index], label=label[index])
    (case,) = read(tmp_path).cases
    found, _ = load_case(case, read(tmp_path))
    np.testing.assert_array_equal(found.array, image.transpose(2, 1, 0))


def test_gaps_are_stacked_with_a_note(tmp_path: Path) -> None:
    make(tmp_path)
    write_slices(tmp_path / "train_npz", 9, [3, 4, 7])
    dataset = read(tmp_path)
    (case,) = (case for case in dataset.cases if case.name == "case0009")
    image, _ = load_case(case, dataset)
    np.testing.assert_array_equal(image.array, volume(9)[0][[3, 4, 7]].transpose(2, 1, 0))
    assert any("case0009 (slices 3 to 7, 2 gone)" in note for note in dataset.notes)


def test_lists_choose_and_notes_say_what_is_left(tmp_path: Path) -> None:
    slices = make(tmp_path)
    write_lists(tmp_path / "lists", [*slices[:6], "case0099_slice000"], ["case0001", "case0077"])
    dataset = read(tmp_path)
    by_name = {case.name: case for case in dataset.cases}
    assert sorted(by_name) == ["case0001", "case0005"]
    assert len(by_name["case0005"].images) == 6
    text = "\n".join(dataset.notes)
    for part in (
        "are not there: 1 (case0099_slice000)",
        "are not there: 1 (case0077)",
        "left out: 18",
        "left out: case0008",
    ):
        assert part in text


def test_a_list_of_validation_slices_is_used(tmp_path: Path) -> None:
    slices = make(tmp_path)
    write_lists(tmp_path, slices[:12], ["case0001"], **{"val.txt": slices[12:]})
    assert names(read(tmp_path), "val") == ("case0010",)
    (tmp_path / "train.txt").unlink()
    assert names(read(tmp_path), "train") == ("case0005",)


def test_validation_cases_are_drawn_from_the_training_part(tmp_path: Path) -> None:
    make(tmp_path)
    dataset = read(tmp_path)
    split = make_split(dataset, Config(data=config(tmp_path)))
    assert sorted(split.train + split.val) == ["case0005", "case0010"]
    assert len(split.val) == 1
    assert split.test == ("case0001", "case0008")


def test_a_case_on_both_sides_is_refused(tmp_path: Path) -> None:
    make(tmp_path)
    write_slices(tmp_path / "train_npz", 8)
    with pytest.raises(UserError, match="found case0008 in train and test"):
        read(tmp_path)


def test_a_case_that_trains_and_validates_is_refused(tmp_path: Path) -> None:
    slices = make(tmp_path)
    write_lists(tmp_path, slices[:13], None, **{"val.txt": slices[13:]})
    with pytest.raises(UserError, match="found case0010 in"):
        read(tmp_path)


def test_a_window_in_hu_is_refused(tmp_path: Path) -> None:
    make(tmp_path)
    with pytest.raises(UserError) as caught:
        read(tmp_path, intensity="window", window=(-125.0, 275.0))
    assert str(caught.value).startswith("data.window: expected [0, 1]")
    assert "--data.window '[0, 1]'" in str(caught.value)
    assert read(tmp_path, intensity="window", window=(0.0, 1.0)).num_channels == 1


def test_classes_of_prepared_files_are_known(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "prepared.json").write_text(json.dumps({"classes": ["liver", "spleen"]}))
    assert read(tmp_path, classes=None).classes == {1: "liver", 2: "spleen"}
    with pytest.raises(UserError, match=r"data\.classes: .*was prepared with, \['liver'"):
        read(tmp_path)


def test_the_order_of_the_labels_is_said(tmp_path: Path) -> None:
    make(tmp_path)
    assert read(tmp_path).notes[0] == "label values are taken for " + ", ".join(
        f"{value} {name}" for value, name in enumerate(CLASSES, 1)
    )


@pytest.mark.parametrize(
    ("folders", "found"),
    [
        (("train_npz", "a/train_npz"), "another one"),
        (("train_npz",), "files named caseXXXX_sliceYYY.npz, found none"),
        (("test_vol_h5",), "files named caseXXXX.npy.h5, found none"),
    ],
)
def test_wrong_folders_are_named(tmp_path: Path, folders: tuple[str, ...], found: str) -> None:
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(UserError) as caught:
        read(tmp_path)
    assert found in str(caught.value)


def test_an_empty_list_is_named(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "train.txt").write_text("\n")
    with pytest.raises(UserError, match=r"train\.txt: .*found an empty file"):
        read(tmp_path)


def test_test_volumes_alone_do_not_train(tmp_path: Path) -> None:
    write_volume(tmp_path / "test_vol_h5", 1)
    dataset = read(tmp_path)
    with pytest.raises(UserError, match="expected training cases, found none"):
        make_split(dataset, Config(data=config(tmp_path)))
