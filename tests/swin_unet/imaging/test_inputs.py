from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from swin_unet.config import UserError
from swin_unet.imaging import read_image
from swin_unet.imaging.formats import split_name
from swin_unet.imaging.inputs import find_cases, find_label
from tests.dicom_files import write_series


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


def test_names_are_split_at_the_suffix_of_a_known_format():
    assert split_name(Path("x/a.b.nii.gz")) == ("a.b", ".nii.gz")
    assert split_name(Path("case0005.npy.h5")) == ("case0005", ".npy.h5")
    assert split_name(Path("a.MHA")) == ("a", ".MHA")
    assert split_name(Path("notes.txt")) == ("notes.txt", "")
    assert split_name(Path(".nii")) == (".nii", "")


@pytest.mark.parametrize(
    ("name", "case_name", "output_name"),
    [
        ("a.nrrd", "a", "a.nrrd"),
        ("a.mhd", "a", "a.mhd"),
        ("a.b.png", "a.b", "a.b.png"),
        ("a.jpg", "a", "a.png"),
        ("a.tiff", "a", "a.tiff"),
        ("case0005.npy.h5", "case0005", "case0005.nii.gz"),
        ("a.npz", "a", "a.nii.gz"),
        ("a.dcm", "a", "a.nii.gz"),
    ],
)
def test_every_format_has_its_output(tmp_path, name, case_name, output_name):
    (case,) = find_cases([make(tmp_path / "in", name) / name])
    assert (case.name, case.output_name) == (case_name, output_name)


@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".png", ".npy.h5", ".tif"])
def test_channels_of_any_format_are_grouped(tmp_path, ending):
    folder = make(tmp_path / "in", *(f"a_000{index}{ending}" for index in (1, 0)), f"b{ending}")
    a, b = find_cases([folder])
    assert [path.name for path in a.paths] == [f"a_0000{ending}", f"a_0001{ending}"]
    assert (a.name, b.name) == ("a", "b")


def test_voxels_of_a_detached_header_are_no_case_of_their_own(tmp_path):
    folder = make(tmp_path / "in", "a.mhd", "a.raw", "b.nhdr", "b.raw.gz")
    assert [case.output_name for case in find_cases([folder])] == ["a.mhd", "b.nhdr"]


VOXELS = np.zeros((2, 3, 4), np.int16)


def test_a_folder_of_dicom_files_is_one_case(tmp_path, monkeypatch):
    folder = write_series(tmp_path / "patient1", VOXELS)
    make(folder, "thumbnail.png", "notes.txt")
    for given in (folder, Path("."), Path("../patient1")):
        monkeypatch.chdir(folder)
        (case,) = find_cases([given])
        assert (case.name, case.output_name) == ("patient1", "patient1.nii.gz")
        assert read_image(case.paths).shape == (4, 3, 2)


def test_a_folder_of_series_and_volumes_is_all_of_them(tmp_path):
    for name in ("b.series", "a"):
        write_series(tmp_path / name, VOXELS)
    make(tmp_path, "c.nii.gz", "notes.txt")
    make(tmp_path / "empty")
    names = [(case.name, case.output_name) for case in find_cases([tmp_path])]
    assert names == [("c", "c.nii.gz"), ("a", "a.nii.gz"), ("b.series", "b.series.nii.gz")]


def test_one_series_of_a_folder_is_a_case(tmp_path):
    write_series(tmp_path / "ct", VOXELS, description="head / neck")
    cases = find_cases([Path(f"{tmp_path}/ct#{name}") for name in ("1", "head / neck")])
    assert [case.name for case in cases] == ["ct_1", "ct_head_neck"]
    assert [case.output_name for case in cases] == ["ct_1.nii.gz", "ct_head_neck.nii.gz"]
    assert read_image(cases[1].paths).shape == (4, 3, 2)


def test_series_may_be_channels(tmp_path):
    for name in ("t_0000", "t_0001"):
        write_series(tmp_path / name, VOXELS)
    (case,) = find_cases([tmp_path])
    assert (case.name, len(case.paths)) == ("t", 2)
    assert read_image(case.paths).num_channels == 2


def test_dicom_files_among_volumes_are_refused(tmp_path):
    write_series(tmp_path, VOXELS)
    make(tmp_path, "a.nii.gz")
    with pytest.raises(UserError, match=r"found both: DICOM files and a\.nii\.gz"):
        find_cases([tmp_path])


def test_patterns_are_expanded(tmp_path):
    make(tmp_path / "x", "a_1.nii.gz", "a_2.nrrd", "b.nii", "notes.txt")
    write_series(tmp_path / "a_3", VOXELS)
    cases = find_cases([tmp_path / "x" / "a_*", tmp_path / "a*"])
    assert [case.name for case in cases] == ["a_1", "a_2", "a_3"]
    assert [case.name for case in find_cases([tmp_path / "*"])] == ["a_3", "a_1", "a_2", "b"]
    with pytest.raises(UserError, match="nothing that this pattern fits"):
        find_cases([tmp_path / "*.txt"])


def test_a_name_with_brackets_is_a_file(tmp_path):
    folder = make(tmp_path / "in", "a[1].nii")
    assert [case.name for case in find_cases([folder / "a[1].nii"])] == ["a[1]"]


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("a.png", "a.jpg"), r"that .*a\.jpg would write a\.png as well"),
        (("a.nii", "a.nii.gz"), r"found .*a\.nii of the same name"),
        (("a.npz", "a.h5"), r"that .*a\.h5 would write a\.nii\.gz as well"),
        (("a.mha", "a.nrrd"), "of the same name"),
    ],
)
def test_two_inputs_of_one_name_are_refused(tmp_path, names, found):
    with pytest.raises(UserError, match=found):
        find_cases([make(tmp_path / "in", *names)])


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd", "a.MHA", "a.png", "a.npy.h5", "a.TIF"])
def test_labels_of_any_format_are_found(tmp_path, name):
    (case,) = find_cases([make(tmp_path / "in", "a.jpg") / "a.jpg"])
    labels = make(tmp_path / "labels", name, "b.nii", "a.raw")
    assert find_label(labels, case) == labels / name


def test_two_labels_of_a_case_are_refused(tmp_path):
    (case,) = find_cases([make(tmp_path / "in", "a.nii") / "a.nii"])
    with pytest.raises(UserError, match=r"found a\.nii\.gz, a\.nrrd\. Keep one"):
        find_label(make(tmp_path / "labels", "a.nrrd", "a.nii.gz"), case)
