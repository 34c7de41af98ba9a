from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from datasets import contents
from datasets.cases import Case, Dataset, files_of
from datasets.contents import RECORD, hash_contents
from swin_unet.config import UserError
from tests.dicom_files import write_series


@pytest.fixture
def case(tmp_path: Path) -> Case:
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("image.nii", "label.nii"):
        (folder / name).write_bytes(name.encode() * 100)
    return Case("a", (folder / "image.nii",), (folder / "label.nii",))


def hash_cases(cases: list[Case], cache_dir: Path) -> dict[str, str]:
    files = files_of(Dataset(tuple(cases), {1: "organ"}, ("CT",)), cases)
    return hash_contents(files, cache_dir, progress=False)


def hashed(case: Case, cache_dir: Path) -> str:
    found = hash_cases([case], cache_dir)
    assert list(found) == [case.name]
    return found[case.name]


def edit(path: Path) -> None:
    """Change a byte; neither size nor, where clocks are coarse, the time tells."""
    data = bytearray(path.read_bytes())
    data[7] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["image.nii", "label.nii"])
def test_an_edit_that_keeps_the_size_is_seen(case: Case, tmp_path: Path, name: str) -> None:
    before = hashed(case, tmp_path / "cache")
    path = case.images[0].parent / name
    edit(path)
    os.utime(path, ns=(1, 1))
    after = hashed(case, tmp_path / "cache")
    assert after != before
    edit(path)
    os.utime(path, ns=(2, 2))
    assert hashed(case, tmp_path / "cache") == before


def test_neither_a_copy_nor_a_new_time_is_an_edit(case: Case, tmp_path: Path) -> None:
    before = hashed(case, tmp_path / "cache")
    os.utime(case.images[0], ns=(1, 1))
    assert hashed(case, tmp_path / "cache") == before
    folder = shutil.copytree(case.images[0].parent, tmp_path / "elsewhere")
    copy = Case("a", (folder / "image.nii",), (folder / "label.nii",))
    assert hashed(copy, tmp_path / "cache") == before
    assert hashed(copy, tmp_path / "another cache") == before


def test_image_and_label_may_not_change_places(case: Case, tmp_path: Path) -> None:
    changed = Case("a", case.labels, case.images)
    assert hashed(changed, tmp_path / "cache") != hashed(case, tmp_path / "cache")


def test_files_are_read_once(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []

    def digest(file, name):
        read.append(Path(file.name).name)
        return hashlib.new(name, file.read())

    monkeypatch.setattr(contents.hashlib, "file_digest", digest)
    before = hashed(case, tmp_path / "cache")
    assert sorted(read) == ["image.nii", "label.nii"]
    assert hashed(case, tmp_path / "cache") == before
    assert len(read) == 2
    other = Case("b", case.images)
    both = hash_cases([case, other], tmp_path / "cache")
    assert read[2:] == ["image.nii"]
    assert both == {"a": before, "b": hashed(other, tmp_path / "cache")}


@pytest.mark.parametrize("damage", ["{", "[1]"])
def test_a_damaged_record_is_made_anew(case: Case, tmp_path: Path, damage: str) -> None:
    before = hashed(case, tmp_path / "cache")
    (tmp_path / "cache" / RECORD).write_text(damage)
    assert hashed(case, tmp_path / "cache") == before
    assert (tmp_path / "cache" / RECORD).read_text() != damage


def test_a_cache_that_cannot_be_written_costs_time_only(case: Case, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    assert hashed(case, tmp_path / "cache") == hashed(case, tmp_path / "another")


def test_every_file_of_a_series_counts(tmp_path: Path) -> None:
    write_series(tmp_path / "series", np.zeros((3, 4, 5), np.int16))
    case = Case("a", (tmp_path / "series",))
    before = hashed(case, tmp_path / "cache")
    path = sorted((tmp_path / "series").iterdir())[-1]
    path.write_bytes(path.read_bytes() + b"\0\0")
    assert hashed(case, tmp_path / "cache") != before


def test_a_file_that_is_gone_is_named(case: Case, tmp_path: Path) -> None:
    case.images[0].unlink()
    with pytest.raises(UserError, match=r"image\.nii: expected a file of the data set"):
        hashed(case, tmp_path / "cache")
