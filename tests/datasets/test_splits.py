import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets import (
    Case,
    Dataset,
    Split,
    describe_split,
    load_split,
    make_split,
    save_split,
    split_cases,
)
from datasets.splits import fold_cases
from swin_unet.config import Config, DataConfig, UserError


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


def make_dataset(cases: list[Case], split: Split | None = None) -> Dataset:
    return Dataset(tuple(cases), {1: "one"}, ("MR",), split=split)


def make_config(seed: int = 0, **data: Any) -> Config:
    return Config(seed=seed, data=DataConfig(**data))


def parts_of(split: Split) -> list[set[str]]:
    """Return the parts, checked to be distinct."""
    parts = [set(part) for part in (split.train, split.val, split.test)]
    assert sum(map(len, parts)) == len(set.union(*parts))
    assert sum(map(len, parts)) == len([*split.train, *split.val, *split.test])
    return parts


def numbers(names: set[str], modulus: int) -> set[int]:
    return {int(name[4:]) % modulus for name in names}


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
    parts = parts_of(split)
    assert set.union(*parts) == {case.name for case in cases[1:]}
    assert split == split_cases(cases[::-1], val, test, seed)
    assert [bool(part) for part in parts] == [True, val > 0, test > 0]
    kept = [numbers(part, groups or count) for part in parts]
    assert sum(map(len, kept)) == len(set.union(*kept))


def test_the_seed_changes_the_split() -> None:
    cases = make_cases(30)
    splits = {split_cases(cases, 0.2, 0.2, seed).test for seed in range(5)}
    assert len(splits) == 5


def test_fractions_are_of_the_cases() -> None:
    split = split_cases(make_cases(50), 0.1, 0.2, 0)
    assert [len(part) for part in (split.train, split.val, split.test)] == [35, 5, 10]


def test_too_few_cases_are_refused() -> None:
    with pytest.raises(UserError) as caught:
        split_cases(make_cases(5, unlabelled=3), 0.1, 0.2, 0)
    message = str(caught.value)
    for part in ("data.val_fraction", "at least 3 labelled cases", "found 2", "Add cases"):
        assert part in message


@settings(deadline=None)
@given(
    count=st.integers(14, 60),
    folds=st.integers(2, 5),
    test=st.sampled_from([0.0, 0.1, 0.2]),
    seed=st.integers(0, 99),
    groups=st.sampled_from([None, 7]),
)
def test_over_all_folds_every_case_validates_once(
    count: int, folds: int, test: float, seed: int, groups: int | None
) -> None:
    cases = make_cases(count, groups, unlabelled=1)
    splits = [fold_cases(cases, folds, fold, test, seed) for fold in range(folds)]
    assert len({split.test for split in splits}) == 1
    assert bool(splits[0].test) == (test > 0)
    validated = [name for split in splits for name in split.val]
    everyone = {case.name for case in cases[1:]}
    assert sorted(validated) == sorted(everyone - set(splits[0].test))
    sizes = [len(numbers(set(split.val), groups or count)) for split in splits]
    assert max(sizes) - min(sizes) <= 1
    for split in splits:
        parts = parts_of(split)
        assert set.union(*parts) == everyone
        kept = [numbers(part, groups or count) for part in parts]
        assert sum(map(len, kept)) == len(set.union(*kept))


def test_more_folds_than_patients_are_refused() -> None:
    with pytest.raises(UserError, match=r"data\.folds: .*less 1 for test, found 6 folds of 5"):
        fold_cases(make_cases(20, groups=6), 6, 0, 0.2, 0)


PUBLISHED = Split(
    tuple(f"case{number:03d}" for number in range(10)), (), ("case010", "case011", "case012")
)


def test_a_published_test_part_is_kept_and_val_drawn_from_train() -> None:
    dataset = make_dataset(make_cases(15), PUBLISHED)
    config = make_config(val_fraction=0.2, test_fraction=0.5)
    split = make_split(dataset, config)
    assert split.test == PUBLISHED.test
    assert len(split.val) == 2
    assert sorted(split.train + split.val) == list(PUBLISHED.train)
    assert make_split(dataset, make_config(seed=1, val_fraction=0.2)).val != split.val
    text = describe_split(split, dataset, config)
    assert "drawn by seed 0 from its training part: " + ", ".join(split.val) in text


def test_a_published_split_is_used_as_it_is() -> None:
    split = Split(PUBLISHED.train[:8], PUBLISHED.train[8:], PUBLISHED.test)
    dataset = make_dataset(make_cases(15), split)
    assert make_split(dataset, make_config()) == split
    assert describe_split(split, dataset, make_config()) == "split: the published one"
    bare = make_dataset(make_cases(15), PUBLISHED)
    assert make_split(bare, make_config(val_fraction=0.0)) == PUBLISHED


def test_folds_are_made_of_what_is_published_for_training() -> None:
    split = Split(PUBLISHED.train[:8], PUBLISHED.train[8:], PUBLISHED.test)
    dataset = make_dataset(make_cases(15), split)
    config = make_config(folds=5, fold=4)
    found = make_split(dataset, config)
    assert found.test == PUBLISHED.test
    assert len(found.val) == 2
    assert sorted(found.train + found.val) == list(PUBLISHED.train)
    assert describe_split(found, dataset, config).startswith("split: fold 4 of 5 drawn by seed 0")


def test_without_a_published_split_cases_are_drawn() -> None:
    dataset = make_dataset(make_cases(20, unlabelled=5))
    config = make_config(seed=3, val_fraction=0.2, test_fraction=0.2)
    assert make_split(dataset, config) == split_cases(dataset.cases, 0.2, 0.2, 3)
    folds = make_config(seed=3, folds=3, fold=1, test_fraction=0.2)
    assert make_split(dataset, folds) == fold_cases(dataset.cases, 3, 1, 0.2, 3)


def test_a_published_split_that_tears_a_patient_is_refused() -> None:
    dataset = make_dataset(make_cases(15, groups=5), PUBLISHED)
    with pytest.raises(UserError, match="/data: expected every patient in one part"):
        make_split(dataset, make_config(root=Path("/data")))


def test_fewer_training_cases_are_whole_patients_and_nested() -> None:
    dataset = make_dataset(make_cases(60, groups=20))
    whole = make_split(dataset, make_config(val_fraction=0.2, test_fraction=0.2))
    shares = {}
    for share in (0.01, 0.25, 0.5, 1.0):
        config = make_config(val_fraction=0.2, test_fraction=0.2, train_fraction=share)
        split = make_split(dataset, config)
        assert (split.val, split.test) == (whole.val, whole.test)
        shares[share] = numbers(set(split.train), 20)
        assert len(split.train) == 3 * len(shares[share])
    assert [len(patients) for patients in shares.values()] == [1, 3, 6, 12]
    assert shares[0.01] < shares[0.25] < shares[0.5] < shares[1.0]
    assert "25% of its training part" in describe_split(
        whole, dataset, make_config(train_fraction=0.25)
    )


def test_a_split_file_wins(tmp_path: Path) -> None:
    dataset = make_dataset(make_cases(15), PUBLISHED)
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"train": ["case014"], "val": ["case013"]}))
    config = make_config(split_file=path)
    assert make_split(dataset, config) == Split(("case014",), ("case013",), ())
    assert str(path) in describe_split(make_split(dataset, config), dataset, config)


def test_a_saved_split_is_read_again(tmp_path: Path) -> None:
    cases = make_cases(10)
    split = split_cases(cases, 0.2, 0.2, 3)
    save_split(split, tmp_path / "run" / "split.json", seed=3)
    assert load_split(tmp_path / "run" / "split.json", cases) == split
    content = json.loads((tmp_path / "run" / "split.json").read_text())
    assert content["seed"] == 3
    assert "folds" not in content
    parts = {part: content[part] for part in ("test", "train", "val")}
    canonical = json.dumps(parts, separators=(",", ":"))
    assert content["sha256"] == hashlib.sha256(canonical.encode()).hexdigest()


def test_an_edited_split_is_refused_until_its_hash_is_removed(tmp_path: Path) -> None:
    cases, path = make_cases(10), tmp_path / "split.json"
    split = split_cases(cases, 0.2, 0.2, 3)
    save_split(split, path, seed=3, folds=2, fold=1)
    moved = split.test[0]
    lines = path.read_text().replace(f'"{moved}",\n', "").splitlines(keepends=True)
    path.write_text("".join(lines))
    with pytest.raises(UserError, match="edited by hand") as caught:
        load_split(path, cases)
    assert "Remove the line sha256" in str(caught.value)
    path.write_text("".join(line for line in lines if "sha256" not in line))
    assert load_split(path, cases).test == split.test[1:]


def test_a_split_without_hash_is_read(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"train": ["case001"], "val": ["case002"], "test": ["case003"]}))
    assert load_split(path, make_cases(5)) == Split(("case001",), ("case002",), ("case003",))


def test_names_of_patients_stand_for_their_labelled_cases(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"train": ["patient0", "case004"], "val": ["patient2"]}))
    split = load_split(path, make_cases(9, groups=3, unlabelled=1))
    assert split == Split(("case003", "case006", "case004"), ("case002", "case005", "case008"), ())


@pytest.mark.parametrize(
    ("content", "found", "fix"),
    [
        ("{", "expected valid JSON", "Correct the file."),
        ("[]", "expected a JSON object, found list", "Put braces"),
        ('{"val": []}', "found the keys ['val']", "earlier run"),
        ('{"train": [], "tset": []}', "found the keys ['train', 'tset']", "earlier run"),
        ({"train": "case001"}, "lists of case names", "earlier run"),
        ({"train": ["case001", "other"]}, "unknown names other", "Correct the split file."),
        ({"train": ["case000"]}, "unknown names case000", "Correct the split file."),
        ({"train": ["case001"], "val": ["case001"]}, "case001 more than once", "Correct"),
        ({"train": ["case001", "patient1"]}, "case001 more than once", "Correct"),
        ({"val": ["case001"]}, "expected training cases, found none", "Correct"),
        ({"train": ["case001"], "test": ["case004"]}, "patient1 in two", "Correct"),
        ({"train": ["case001"], "sha256": "0" * 64}, "edited by hand", "Remove the line sha256"),
    ],
)
def test_a_wrong_split_is_refused(
    tmp_path: Path, content: str | dict[str, Any], found: str, fix: str
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
