from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from datasets import Dataset, build_dataset, load_case, make_split
from datasets.btcv import ORGANS, TEST_NUMBERS, TRAIN_NUMBERS, label_values
from swin_unet.config import Config, DataConfig, UserError

EIGHT = (
    "aorta", "gallbladder", "left_kidney", "right_kidney", "liver", "pancreas", "spleen", "stomach",
)  # fmt: skip
# The challenge's label description, which comes with its data.
CHALLENGE = {
    1: "spleen",
    2: "right kidney",
    3: "left kidney",
    4: "gallbladder",
    5: "esophagus",
    6: "liver",
    7: "stomach",
    8: "aorta",
    9: "inferior vena cava",
    10: "portal vein and splenic vein",
    11: "pancreas",
    12: "right adrenal gland",
    13: "left adrenal gland",
}


def make_raw(
    root: Path,
    numbers: tuple[int, ...],
    images: str = "RawData/Training/img",
    labels: str | None = "RawData/Training/label",
) -> None:
    """Write small volumes that hold every label value."""
    for number in numbers:
        rng = np.random.default_rng(number)
        hu = rng.integers(-1024, 1500, (6, 5, 4)).astype(np.int16)
        label = rng.permutation(np.arange(120) % 14).reshape(6, 5, 4).astype(np.uint8)
        for folder, name, array in ((images, "img", hu), (labels, "label", label)):
            if folder is not None:
                path = root / folder / f"{name}{number:04d}.nii.gz"
                path.parent.mkdir(parents=True, exist_ok=True)
                nib.save(nib.Nifti1Image(array, np.diag([-0.8, 0.7, 3.0, 1.0])), path)


def config(root: Path, *classes: str) -> DataConfig:
    return DataConfig(name="synapse", root=root, classes=list(classes) or None)


def read(root: Path, *classes: str) -> Dataset:
    return build_dataset(config(root, *classes))


def test_the_organs_are_the_challenges() -> None:
    for value, name in CHALLENGE.items():
        words = name.replace("vein and splenic vein", "and splenic veins").replace(" ", "_")
        assert ORGANS[value - 1] == words


def test_the_split_is_the_published_one() -> None:
    labelled = {*range(1, 11), *range(21, 41)}  # of the challenge's training part
    assert (len(TRAIN_NUMBERS), len(TEST_NUMBERS)) == (18, 12)
    assert {*TRAIN_NUMBERS, *TEST_NUMBERS} == labelled
    published = (8, 22, 38, 36, 32, 2, 29, 3, 1, 4, 25, 35)  # TransUNet's test_vol.txt
    assert tuple(sorted(published)) == TEST_NUMBERS


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("RawData/Training/img", "RawData/Training/label"),
        ("averaged-training-images", "averaged-training-labels"),
        ("imagesTr", "labelsTr"),
        ("Abdomen/RawData/Training/img", "Abdomen/RawData/Training/label"),
        (".", "."),
    ],
)
def test_the_usual_trees_are_read(tmp_path: Path, images: str, labels: str) -> None:
    make_raw(tmp_path, (5, 6, 8), images, labels)
    dataset = read(tmp_path)
    assert [case.name for case in dataset.cases] == ["img0005", "img0006", "img0008"]
    assert [case.group for case in dataset.cases] == ["0005", "0006", "0008"]
    assert dataset.cases[0].labels == (tmp_path / labels / "label0005.nii.gz",)
    assert dataset.split is not None
    assert (dataset.split.train, dataset.split.test) == (("img0005", "img0006"), ("img0008",))
    assert tuple(dataset.classes.values()) == EIGHT
    assert any("labelled cases of it are not there: 27 (0007, " in note for note in dataset.notes)


@pytest.mark.parametrize("classes", [EIGHT, ("liver", "spleen"), ORGANS, ("Left Kidney", "IVC")])
def test_named_organs_get_the_position_of_their_name(
    tmp_path: Path, classes: tuple[str, ...]
) -> None:
    make_raw(tmp_path, (5, 8))
    if "IVC" in classes:
        with pytest.raises(UserError, match=r"data\.classes: expected organs of BTCV.*`ivc`"):
            read(tmp_path, *classes)
        return
    dataset = read(tmp_path, *classes)
    _, label = load_case(dataset.cases[0], dataset)
    raw = np.asarray(nib.load(dataset.cases[0].labels[0]).dataobj)
    expected = np.zeros_like(raw)
    for value, name in CHALLENGE.items():
        key = ORGANS[value - 1]
        assert key.split("_")[0] == name.split()[0]
        if key in classes:
            expected[raw == value] = classes.index(key) + 1
    np.testing.assert_array_equal(label.array, expected)


def test_spelling_of_names_does_not_matter() -> None:
    assert label_values(["Left Kidney", "LIVER"]) == label_values(["left_kidney", "liver"])


@pytest.mark.parametrize(
    ("classes", "words"),
    [(("livr",), "Did you mean `liver`?"), (("liver", "Liver"), "each once")],
)
def test_wrong_organs_are_named(tmp_path: Path, classes: tuple[str, ...], words: str) -> None:
    make_raw(tmp_path, (5, 8))
    with pytest.raises(UserError) as caught:
        read(tmp_path, *classes)
    assert words in str(caught.value)


def test_cases_of_the_challenges_test_part_are_unlabelled(tmp_path: Path) -> None:
    make_raw(tmp_path, (5, 6, 8))
    make_raw(tmp_path, (61, 62), "RawData/Testing/img", None)
    dataset = read(tmp_path)
    assert [case.name for case in dataset.cases if not case.labels] == ["img0061", "img0062"]
    split = make_split(dataset, Config(data=config(tmp_path)))
    assert sorted([*split.train, *split.val]) == ["img0005", "img0006"]
    assert split.test == ("img0008",)


def test_other_labelled_cases_are_left_out_with_a_note(tmp_path: Path) -> None:
    make_raw(tmp_path, (5, 8, 70))
    dataset = read(tmp_path)
    assert dataset.split is not None
    assert "img0070" not in (*dataset.split.train, *dataset.split.test)
    assert any("not in it are left out: 0070" in note for note in dataset.notes)


def test_cases_of_one_side_only_are_split_by_fractions(tmp_path: Path) -> None:
    make_raw(tmp_path, (1, 2, 3, 4))
    dataset = read(tmp_path)
    assert dataset.split is None
    assert any("does not apply" in note for note in dataset.notes)


def test_a_label_map_without_image_is_named(tmp_path: Path) -> None:
    make_raw(tmp_path, (5, 8))
    (tmp_path / "RawData/Training/img/img0008.nii.gz").unlink()
    with pytest.raises(UserError, match=r"found none for label0008\.nii\.gz"):
        read(tmp_path)


def test_two_files_of_one_number_are_refused(tmp_path: Path) -> None:
    make_raw(tmp_path, (5, 8))
    make_raw(tmp_path, (5,), "copy", None)
    with pytest.raises(UserError, match=r"img0005\.nii\.gz as well"):
        read(tmp_path)
