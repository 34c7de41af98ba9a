import re
from pathlib import Path

import pytest

from datasets import Case, Dataset, pairing_table
from datasets.overview import absence_notes


def make_dataset(*cases: Case) -> Dataset:
    return Dataset(cases, {1: "one"}, ("MR",))


def cells(table: str) -> list[list[str]]:
    """Split lines where columns are two or more spaces apart."""
    return [re.split(" {2,}", line) for line in table.splitlines()]


def test_the_table_shows_what_goes_with_what() -> None:
    root = Path("/data/x")
    slices = tuple(root / f"d_{number}.h5" for number in range(3))
    dataset = make_dataset(
        Case("a", (root / "images" / "a.nii",), (root / "labels" / "a_seg.nii",), "p1"),
        Case("b", (root / "images" / "b_0000.nii", root / "images" / "b_0001.nii"), (), "p1"),
        Case("c", (root / "c.h5",), (root / "c.h5",), "p2"),
        Case("d", slices, slices, "p3", stacked=True),
    )
    table = pairing_table(dataset)
    assert cells(table) == [
        ["case", "image", "label", "group"],
        ["a", "images/a.nii", "labels/a_seg.nii", "p1"],
        ["b", "images/b_0000.nii, b_0001.nii", "(none)", "p1"],
        ["c", "c.h5", "(in the same file)", "p2"],
        ["d", "d_0.h5 ... (3 slices)", "(in the same files)", "p3"],
        ["4 cases of 3 patients, 3 with labels, in /data/x"],
    ]
    starts = {
        line.index(word)
        for line, word in zip(table.splitlines()[:2], ("image", "images"), strict=True)
    }
    assert len(starts) == 1, "columns are aligned"


def test_relative_paths_and_no_groups() -> None:
    table = pairing_table(make_dataset(Case("a", (Path("x/a.nii"),), (Path("y/a.nii"),))))
    assert cells(table)[:2] == [["case", "image", "label"], ["a", "x/a.nii", "y/a.nii"]]
    assert table.splitlines()[-1] == f"1 case, 1 with labels, in {Path.cwd()}"


@pytest.mark.parametrize(("limit", "shown"), [(2, 2), (10, 10), (None, 10), (20, 10)])
def test_the_table_is_cut(limit: int | None, shown: int) -> None:
    cases = [Case(f"c{number}", (Path(f"/d/c{number}.nii"),)) for number in range(10)]
    lines = pairing_table(make_dataset(*cases), limit).splitlines()
    assert lines[shown].startswith(f"c{shown - 1} ")
    rest = [f"... and {10 - shown} more"] if shown < 10 else []
    assert lines[shown + 1 :] == [*rest, "10 cases, 0 with labels, in /d"]


def test_notes_say_what_is_not_known() -> None:
    labelled = Case("a", (Path("a.nii"),), (Path("b.nii"),))
    grouped = Case("b", (Path("b.nii"),), (Path("b.nii"),), group="p")
    bare = Case("c", (Path("c.nii"),))
    assert absence_notes(make_dataset(labelled)) == ()
    assert absence_notes(make_dataset(labelled, grouped)) == ()
    (note,) = absence_notes(make_dataset(grouped, bare))
    assert "1 of 2 cases (c)" in note
    (note,) = absence_notes(make_dataset(labelled, labelled))
    assert "data.group_pattern" in note
