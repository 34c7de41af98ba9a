import json
from pathlib import Path
from typing import Any

import pytest

from datasets.case_list import Row, read_list
from swin_unet.config import UserError

ROWS = [
    Row(("a_0.nii", "a_1.nii"), "a_seg.nii", "a", "p1", "train"),
    Row(("b_0.nii", "b_1.nii"), None, None, None, None),
]


def write(tmp_path: Path, content: Any, name: str = "cases.csv") -> Path:
    path = tmp_path / name
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_text(text, encoding="utf-8-sig")
    return path


@pytest.mark.parametrize(
    "text",
    [
        "image,label,name,group,part\na_0.nii;a_1.nii,a_seg.nii,a,p1,train\nb_0.nii;b_1.nii,,,,\n",
        "part,image,label,name,group\ntrain, a_0.nii | a_1.nii ,a_seg.nii,a,p1\n\n,b_0.nii|b_1.nii",
        "image\tlabel\tname\tgroup\tpart\r\na_0.nii;a_1.nii\ta_seg.nii\ta\tp1\ttrain\r\n"
        "b_0.nii;b_1.nii\t\t\t\t\r\n",
        "image;label;name;group;part\na_0.nii|a_1.nii;a_seg.nii;a;p1;train\nb_0.nii|b_1.nii;;;;",
        '"image","label","name","group","part"\n"a_0.nii;a_1.nii",a_seg.nii,a,p1,train\n'
        "b_0.nii;b_1.nii\n",
    ],
)
def test_csv(tmp_path: Path, text: str) -> None:
    assert read_list(write(tmp_path, text)) == ROWS


@pytest.mark.parametrize("wrap", [list, lambda rows: {"cases": rows, "comment": "mine"}])
def test_json(tmp_path: Path, wrap: Any) -> None:
    first = {
        "image": ["a_0.nii", "a_1.nii"],
        "label": "a_seg.nii",
        "name": "a",
        "group": "p1",
        "part": "train",
    }
    second = {"image": ["b_0.nii", "b_1.nii"], "label": None, "name": ""}
    assert read_list(write(tmp_path, wrap([first, second]), "cases.json")) == ROWS


def test_one_image_and_a_number_as_patient(tmp_path: Path) -> None:
    path = write(tmp_path, [{"image": "a.nii", "group": 7}], "cases.json")
    assert read_list(path) == [Row(("a.nii",), group="7")]


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("x.csv", "", "found no `image`"),
        ("x.csv", "image,label\n", "found none"),
        ("x.csv", "img,label\na,b\n", "found `img`"),
        ("x.csv", "label\na\n", "no `image` in `label`"),
        ("x.csv", "image,image\na,b\n", "found `image, image`"),
        ("x.csv", "image,label\na,b,c\n", "as many cells as columns, found ['c']"),
        ("x.csv", "image,label\n,b\n", "an image in row 1, found none"),
        ("x.csv", 'image,label\na,"b\n', "a CSV table"),
        ("x.csv", "image,part\na,test\nb,training\n", "in row 2, found 'training'"),
        ("x.csv", "image,name\na,x/y\n", "a name that can be a file's in row 1, found 'x/y'"),
        ("x.json", "[", "valid JSON"),
        ("x.json", "3", "a list of objects"),
        ("x.json", {"training": []}, "a list of objects"),
        ("x.json", ["a.nii"], "a list of objects"),
        ("x.json", [], "expected cases, found none"),
        ("x.json", [{"label": "a"}], "no `image` in `label`"),
        ("x.json", [{"image": "a", "labels": "b"}], "found `labels`"),
        ("x.json", [{"image": []}], "an image in row 1"),
        ("x.json", [{"image": "a"}, {"image": ["b", None]}], "an image in row 2"),
        ("x.json", [{"image": "a", "label": ["b"]}], "text in every field of row 1, found ['b']"),
    ],
)
def test_faults_are_named(tmp_path: Path, name: str, content: Any, found: str) -> None:
    path = write(tmp_path, content, name)
    with pytest.raises(UserError) as caught:
        read_list(path)
    assert str(caught.value).startswith(f"{path}: expected ")
    assert found in str(caught.value)


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cases\.csv: .*found No such file"):
        read_list(tmp_path / "cases.csv")


def test_other_encodings_are_named(tmp_path: Path) -> None:
    path = tmp_path / "cases.csv"
    path.write_bytes("image\nMüller.nii\n".encode("latin-1"))
    with pytest.raises(UserError, match="text in UTF-8, found other bytes"):
        read_list(path)
