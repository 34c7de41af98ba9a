from __future__ import annotations

from pathlib import Path

import pytest

from swin_unet.config import UserError
from swin_unet.imaging.inputs import find_cases, find_label, split_name


def make(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def test_channels_of_a_case_are_grouped_and_hidden_files_left_out(tmp_path):
    folder = make(
        tmp_path / "in",
        *("b_0001.nii.gz", "b_0000.nii.gz", "a.nii", "c_0000.NII.GZ", "._a.nii", "notes.txt"),
    )
    a, b, c = find_cases([folder])
    assert (a.name, a.paths, a.output_name) == ("a", (folder / "a.nii",), "a.nii")
    assert b.paths == (folder / "b_0000.nii.gz", folder / "b_0001.nii.gz")
    assert (b.name, b.output_name) == ("b", "b.nii.gz")
    assert (c.name, c.output_name) == ("c", "c.NII.GZ")


def test_numbers_without_a_channel_zero_belong_to_the_name(tmp_path):
    folder = make(tmp_path / "in", "PANCREAS_0001.nii.gz", "PANCREAS_0002.nii.gz", "x_2021.nii")
    assert [case.output_name for case in find_cases([folder])] == [
        *("PANCREAS_0001.nii.gz", "PANCREAS_0002.nii.gz", "x_2021.nii")
    ]


def test_a_file_named_twice_is_one_case(tmp_path):
    folder = make(tmp_path / "in", "a.nii", "b.nii")
    again = tmp_path / "other" / ".." / "in" / "a.nii"
    (tmp_path / "other").mkdir()
    assert [case.name for case in find_cases([folder, again])] == ["a", "b"]


def test_a_missing_file_is_a_case_for_the_reader_to_refuse(tmp_path):
    (case,) = find_cases([tmp_path / "missing.nii.gz"])
    assert case.name == "missing"


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("a_0000.nii", "a_0002.nii"), "a_0000.nii, a_0002.nii"),
        (("a_0000.nii", "a.nii"), "a.nii"),
    ],
)
def test_gaps_in_the_channels_are_refused(tmp_path, names, found):
    with pytest.raises(UserError, match=found):
        find_cases([make(tmp_path / "in", *names)])


def test_two_inputs_for_one_output_are_refused(tmp_path):
    folders = [make(tmp_path / name, "a.nii.gz") for name in ("x", "y")]
    with pytest.raises(UserError, match=r"would write a\.nii\.gz as well"):
        find_cases(folders)


def test_a_folder_without_volumes_is_refused(tmp_path):
    with pytest.raises(UserError, match="none in this folder"):
        find_cases([make(tmp_path / "in", "notes.txt")])


def test_labels_are_found_by_case_name_whatever_the_suffix(tmp_path):
    (case,) = find_cases([make(tmp_path / "in", "a_0000.nii")])
    labels = make(tmp_path / "labels", "a.nii.gz")
    assert find_label(labels, case) == labels / "a.nii.gz"
    with pytest.raises(UserError, match="label map a"):
        find_label(tmp_path / "in", case)


def test_names_are_split_at_the_nifti_suffix():
    assert split_name(Path("x/a.b.nii.gz")) == ("a.b", ".nii.gz")
    assert split_name(Path("a.mha")) == ("a.mha", "")
