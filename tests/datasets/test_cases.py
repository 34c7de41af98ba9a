import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets import Case, Dataset, Split, load_case, load_split, save_split, split_cases
from swin_unet.config import UserError

CLASSES = {1: "one", 2: "two"}
DATASET = Dataset((), CLASSES, ("MR",))


def make_cases(count: int, groups: int | None = None, unlabelled: int = 0) -> list[Case]:
    return [
        Case(
            name=f"case{index:03d}",
            images=(Path(f"{index}.nii"),),
            labels=() if index < unlabelled else (Path(f"{index}_label.nii"),),
            group=None if groups is None else f"patient{index % groups}",
        )
        for index in range(count)
    ]


def save(path: Path, array: np.ndarray) -> Path:
    nib.save(nib.Nifti1Image(array, np.eye(4)), path)
    return path


def image(shape: tuple[int, ...] = (4, 5, 6)) -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape).astype(np.int16)


def label(shape: tuple[int, ...] = (4, 5, 6)) -> np.ndarray:
    return (np.arange(np.prod(shape)).reshape(shape) % 3).astype(np.uint8)


@settings(deadline=None)
@given(
    count=st.integers(8, 60),
    val=st.floats(0, 0.4),
    test=st.floats(0, 0.4),
    seed=st.integers(0, 99),
    groups=st.sampled_from([None, 7]),
)
def test_a_split_holds_every_labelled_case_once(
    count: int, val: float, test: float, seed: int, groups: int | None
) -> None:
    cases = make_cases(count, groups, unlabelled=1)
    split = split_cases(cases, val, test, seed)
    assert sorted(split.train + split.val + split.test) == [case.name for case in cases[1:]]
    assert split == split_cases(cases[::-1], val, test, seed)
    assert split.train
    assert bool(split.val) == (val > 0)
    assert bool(split.test) == (test > 0)
    parts = [{int(name[4:]) % (groups or count) for name in part} for part in _parts(split)]
    assert sum(map(len, parts)) == len(set.union(*parts))


def _parts(split: Split) -> tuple[tuple[str, ...], ...]:
    return split.train, split.val, split.test


def test_the_seed_changes_the_split() -> None:
    cases = make_cases(30)
    splits = {split_cases(cases, 0.2, 0.2, seed).test for seed in range(5)}
    assert len(splits) == 5


def test_fractions_are_of_the_cases() -> None:
    split = split_cases(make_cases(50), 0.1, 0.2, 0)
    assert [len(part) for part in _parts(split)] == [35, 5, 10]


def test_too_few_cases_are_refused() -> None:
    with pytest.raises(UserError) as caught:
        split_cases(make_cases(5, unlabelled=3), 0.1, 0.2, 0)
    message = str(caught.value)
    for part in ("data.val_fraction", "at least 3 labelled cases", "found 2", "Add cases"):
        assert part in message


def test_a_saved_split_is_read_again(tmp_path: Path) -> None:
    cases = make_cases(10)
    split = split_cases(cases, 0.2, 0.2, 3)
    save_split(split, tmp_path / "run" / "split.json")
    assert load_split(tmp_path / "run" / "split.json", cases) == split


@pytest.mark.parametrize(
    ("content", "found", "fix"),
    [
        ("{", "expected valid JSON", "Correct the file."),
        ("[]", "expected a JSON object, found list", "Put braces"),
        ('{"train": []}', "found the keys ['train']", "earlier run"),
        ({"train": "case001"}, "lists of case names", "earlier run"),
        ({"train": ["case001", "other"]}, "unknown names other", "Correct the split file."),
        ({"train": ["case000"]}, "unknown names case000", "Correct the split file."),
        ({"train": ["case001"], "val": ["case001"]}, "case001 more than once", "Correct"),
        ({"val": ["case001"]}, "expected training cases, found none", "Correct"),
        ({"train": ["case001"], "test": ["case004"]}, "patient1 in two", "Correct"),
    ],
)
def test_a_wrong_split_is_refused(
    tmp_path: Path, content: str | dict, found: str, fix: str
) -> None:
    path = tmp_path / "split.json"
    if isinstance(content, dict):
        content = json.dumps({"train": [], "val": [], "test": []} | content)
    path.write_text(content)
    with pytest.raises(UserError) as caught:
        load_split(path, make_cases(6, groups=3, unlabelled=1))
    assert str(caught.value).startswith(f"{path}: ")
    assert found in str(caught.value)
    assert fix in str(caught.value)


def test_a_missing_split_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected a JSON file, found No such file"):
        load_split(tmp_path / "split.json", [])


@pytest.mark.parametrize("num_files", [0, 1, 2])
def test_a_case_is_loaded(tmp_path: Path, num_files: int) -> None:
    if num_files:
        files = tuple(save(tmp_path / f"{i}.nii", image()) for i in range(num_files))
    else:
        files = (save(tmp_path / "a.nii.gz", image((4, 5, 6, 2))),)
    case = Case("a", files, (save(tmp_path / "label.nii.gz", label()),))
    channels = tuple("ab"[: num_files or 2])
    loaded, reference = load_case(case, Dataset((case,), CLASSES, channels))
    assert loaded.num_channels == (num_files or 2)
    np.testing.assert_array_equal(reference.array, label())


def truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def not_finite(path: Path) -> None:
    array = image().astype(np.float32)
    array[0, 0, 0] = np.nan
    save(path, array)


def two_dimensional(path: Path) -> None:
    save(path, image((4, 5)))


def two_channels(path: Path) -> None:
    save(path, image((4, 5, 6, 2)))


def large_label(path: Path) -> None:
    save(path, label() + np.uint8(1))


def other_grid(path: Path) -> None:
    save(path, label((4, 5, 7)))


@pytest.mark.parametrize(
    ("name", "damage", "expected", "found", "fix"),
    [
        ("image", Path.unlink, "a file", "nothing there", "Check the path"),
        ("label", Path.unlink, "a file", "nothing there", "Check the path"),
        ("image", truncate, "a complete NIfTI file", "a truncated", "Copy or convert it again."),
        ("label", truncate, "a complete NIfTI file", "a truncated", "Copy or convert it again."),
        ("image", two_dimensional, "a 3D volume", "2D data of shape (4, 5)", "Stack 2D slices"),
        ("image", two_channels, "1 channel(s)", "2 (shape (4, 5, 6, 2))", "list of channels"),
        ("image", not_finite, "finite voxels", "1 of 120", "Replace them"),
        ("label", two_channels, "a 3D label map", "4D data", "Split it"),
        ("label", large_label, "label values from 0 to 2", "40 voxels with 3", "list of classes"),
        ("label", other_grid, "the grid of", "(4, 5, 7) instead of (4, 5, 6)", "Resample"),
    ],
)
def test_a_fault_of_a_file_names_it_and_the_way_out(
    tmp_path: Path, name: str, damage: object, expected: str, found: str, fix: str
) -> None:
    files = {
        "image": save(tmp_path / "image.nii.gz", image()),
        "label": save(tmp_path / "label.nii.gz", label()),
    }
    damage(files[name])
    with pytest.raises(UserError) as caught:
        load_case(Case("a", (files["image"],), (files["label"],)), DATASET)
    message = str(caught.value)
    assert message.startswith(f"{files[name]}: expected {expected}")
    assert found in message.partition(", found ")[2]
    assert fix in message


def test_a_case_without_label_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a: expected a label map, found none"):
        load_case(Case("a", (tmp_path / "a.nii",)), DATASET)
