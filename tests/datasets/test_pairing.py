from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets.pairing import Entry, group_channels, list_entries, pair_labels
from swin_unet.config import UserError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def dicom(folder: Path) -> None:
    folder.mkdir(parents=True)
    for number in range(2):
        (folder / f"IM{number}").write_bytes(bytes(128) + b"DICM")


def entries(*names: str) -> list[Entry]:
    return [Entry(Path(name), name, name) for name in names]


def pairs(images: list[str], labels: list[str]) -> dict[str, str]:
    found = pair_labels(entries(*images), entries(*labels), "data.labels")
    return {image.name: label.name for image, label in found.items()}


@pytest.mark.parametrize(
    ("files", "place", "names"),
    [
        (["a.nii.gz", "b.nii"], ".", ["a", "b"]),
        (["x/a.nrrd", "x/b.mha", "x/c.mhd", "x/c.raw", "x/d.h5"], "x", ["a", "b", "c", "d"]),
        (["x/a.png", "x/b.JPG", "x/c.tiff", "x/list.csv", "x/.DS_Store"], "x", ["a", "b", "c"]),
        (["x/a.nii.gz", "x/._a.nii.gz", "y/b.nii.gz"], "x", ["a"]),
        (["x/a.b.nii.gz"], "x", ["a.b"]),
        (["x/a.nii.gz", "x/b.nii.gz"], "x/a.nii.gz", ["a"]),
        (["x/a_img.nii.gz", "x/a_seg.nii.gz"], "x/*_img.nii.gz", ["a_img"]),
        (["x/a_img.nii.gz", "x/b_img.png", "x/b.png"], "x/*_img.*", ["a_img", "b_img"]),
        (["p1/t1.nii", "p2/t1.nii.gz", "p2/t2.nii"], "*/t1.*", ["p1", "p2"]),
        (["p1/t1.nii", "p2/t1.nii.gz"], "*/t1.nii*", ["p1", "p2"]),
        (["p1/t1.nii.gz", "p2/t1.nii.gz", "p2/t2.nii.gz"], "*/t1.nii.gz", ["p1", "p2"]),
        (["ct_small/x.nii.gz", "ct_large/x.nii.gz"], "*_small/x.nii.gz", ["ct_small"]),
        (["p1/a.nii.gz", "p1/b.nii.gz", "p2/a.nii.gz"], "*/*.nii.gz", ["p1_a", "p1_b", "p2_a"]),
        (["s/p1/day1/x.nii.gz", "s/p2/x.nii.gz"], "s/**/x.nii.gz", ["p1_day1", "p2"]),
        (["p1/x1.nii.gz", "p1/x2.nii.gz", "p1/y1.nii.gz"], "p1/[!y]?.nii.gz", ["x1", "x2"]),
    ],
)
def test_a_place_is_listed(tmp_path: Path, files: list[str], place: str, names: list[str]) -> None:
    touch(tmp_path, *files)
    for wanted in (place, str(tmp_path / place)):
        found = list_entries(tmp_path, wanted, "data.images")
        assert [entry.name for entry in found] == names
        assert all(entry.path.is_file() for entry in found)


def test_folders_of_dicom_files_are_cases(tmp_path: Path) -> None:
    dicom(tmp_path / "images" / "p1")
    dicom(tmp_path / "images" / "p2.v1")
    touch(tmp_path, "images/other/readme.txt")
    found = list_entries(tmp_path, "images", "data.images")
    assert [entry.name for entry in found] == ["p1", "p2.v1"]
    (one,) = list_entries(tmp_path, "images/p1", "data.images")
    assert (one.name, one.path) == ("p1", tmp_path / "images" / "p1")
    found = list_entries(tmp_path, "*/p1", "data.images")
    assert [entry.path for entry in found] == [tmp_path / "images" / "p1"]


@pytest.mark.parametrize(
    ("files", "place", "found"),
    [
        (["a.nii"], "x", "which is not there"),
        (["x/readme.txt"], "x", "none at"),
        (["x/a.nii"], "x/*.nii.gz", "none at"),
        (["x/a.nii", "x/a.nii.gz", "x/b.nii"], "x", "a more than once"),
    ],
)
def test_a_place_with_nothing_is_refused(
    tmp_path: Path, files: list[str], place: str, found: str
) -> None:
    touch(tmp_path, *files)
    with pytest.raises(UserError) as caught:
        list_entries(tmp_path, place, "data.images")
    assert found in str(caught.value)
    assert str(tmp_path / "x") in str(caught.value)


def test_channels_are_grouped() -> None:
    names = ("a_0000", "a_0001", "b_0000", "b_0001", "2021_0007")
    groups = {entry.name: paths for entry, paths in group_channels(entries(*names)).items()}
    assert groups == {
        "a": (Path("a_0000"), Path("a_0001")),
        "b": (Path("b_0000"), Path("b_0001")),
        "2021_0007": (Path("2021_0007"),),
    }


def test_a_missing_channel_in_between_is_named() -> None:
    with pytest.raises(UserError) as caught:
        group_channels(entries("a_0000", "a_0002"))
    assert "expected a_0000, a_0001 as the channels of a, found a_0000, a_0002" in str(caught.value)


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("p1", "p1"),
        ("p1", "p1_seg"),
        ("p1", "p1-label"),
        ("p1", "p1.mask"),
        ("p1", "p1_gt"),
        ("p1", "seg_p1"),
        ("p1", "p1_Segmentation"),
        ("p1", "p1_seg-manual"),
        ("p1_img", "p1"),
        ("image_p1", "label_p1"),
        ("img0001", "label0001"),
        ("p1_image", "p1_mask"),
        ("p1_IMG", "P1_SEG".replace("P1", "p1")),
    ],
)
def test_words_for_images_and_labels_do_not_count(image: str, label: str) -> None:
    assert pairs([image, "q"], [label, "q"]) == {image: label, "q": "q"}


@given(st.sets(st.from_regex(r"[a-z]{1,3}[0-9]{1,3}", fullmatch=True), min_size=2, max_size=9))
def test_equal_names_are_pairs_and_the_others_unlabelled(names: set[str]) -> None:
    labelled = sorted(names)[1:]
    assert pairs(sorted(names), labelled) == {name: name for name in labelled}


def test_equal_names_come_before_similar_ones() -> None:
    assert pairs(["a", "a_img"], ["a", "a_img"]) == {"a": "a", "a_img": "a_img"}


def test_what_wildcards_stand_for_pairs_files(tmp_path: Path) -> None:
    touch(tmp_path, *(f"p{n}/{name}" for n in (1, 2) for name in ("flair.nii", "truth.nii")))
    images = list_entries(tmp_path, "*/flair.nii", "data.images")
    found = pair_labels(images, list_entries(tmp_path, "p*/truth.nii", "data.labels"), "x")
    assert {image.name: label.path.parent.name for image, label in found.items()} == {
        "p1": "p1",
        "p2": "p2",
    }


def test_channels_of_a_pattern_are_paired(tmp_path: Path) -> None:
    touch(tmp_path, "i/a_0000.nii", "i/a_0001.nii", "i/b_0000.nii", "i/b_0001.nii")
    touch(tmp_path, "l/a_x.nii", "l/b_x.nii")
    images = group_channels(list_entries(tmp_path, "i/*.nii", "data.images"))
    found = pair_labels(list(images), list_entries(tmp_path, "l/*_x.nii", "data.labels"), "x")
    assert {image.name: label.path.name for image, label in found.items()} == {
        "a": "a_x.nii",
        "b": "b_x.nii",
    }


def test_a_single_image_and_a_single_label_map_belong_together() -> None:
    assert pairs(["series"], ["liver"]) == {"series": "liver"}


@pytest.mark.parametrize(
    ("images", "labels", "found"),
    [
        (["a", "b"], ["a", "c"], "no image for c (images: a, b)"),
        (["a", "b"], ["a_seg", "a_mask"], "several candidates for a (a_seg, a_mask)"),
        (["a", "b"], ["a", "a_seg"], "several candidates for a (a, a_seg)"),
        (["a_img", "img_a"], ["a_seg"], "several candidates for a_seg (a_img, img_a)"),
        (["a", "b"], ["x", "y"], "no image for x, y (images: a, b)"),
    ],
)
def test_doubts_are_named(images: list[str], labels: list[str], found: str) -> None:
    with pytest.raises(UserError) as caught:
        pairs(images, labels)
    assert str(caught.value).startswith("data.labels: expected one image for every label map")
    assert found in str(caught.value)
    assert "data.list_file" in str(caught.value)
