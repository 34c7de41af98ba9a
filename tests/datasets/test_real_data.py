"""Every real set is read by a right configuration; skipped where they are not."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets import (
    Dataset,
    build_dataset,
    check_label_order,
    choose_plane,
    load_case,
    load_split,
    make_split,
)
from swin_unet.config import Config, DataConfig, UserError

pytestmark = pytest.mark.skipif("SWIN_UNET_DATA" not in os.environ, reason="no real data here")

ORGANS = [
    "aorta", "gallbladder", "left_kidney", "right_kidney", "liver", "pancreas", "spleen", "stomach",
]  # fmt: skip
HEART = ["cavity", "myocardium"]
PATIENT = r"^SC-[A-Z]+(?:-[A-Z]+)?-\d+"


@dataclass(frozen=True)
class Row:
    """A data set, how to read it, and what its README says of it.

    Attributes:
        folder: Below SWIN_UNET_DATA.
        options: Of the data section.
        cases: Number of cases.
        labels: Values in the first label maps.
        shape: Of the first case.
        plane: What `auto` is.
        patients: Number of groups.
    """

    folder: str
    options: dict[str, Any]
    cases: int
    labels: set[int]
    shape: tuple[int, int, int]
    plane: str = "axial"
    patients: int = 0
    spacing_mm: tuple[float, float, float] = field(default=(1.0, 1.0, 1.0))


ROWS = {
    "hippocampus": Row(
        "msd_hippocampus", {"name": "decathlon"}, 208, {0, 1, 2}, (35, 51, 35)
    ),
    "sunnybrook pictures": Row(
        "sunnybrook_cardiac/slices_ed",
        {"classes": HEART, "group_pattern": PATIENT},
        273, {0, 1, 2}, (256, 256, 1), patients=30,
    ),
    "sunnybrook volumes": Row(
        "sunnybrook_cardiac/volumes/ed", {"classes": HEART, "plane": "auto"},
        5, {0, 1, 2}, (256, 256, 9), "coronal", spacing_mm=(1.367, 1.367, 10.0),
    ),
    "sunnybrook DICOM": Row(
        "sunnybrook_cardiac",
        {
            "classes": HEART,
            "images": "dicom_ed",
            "labels": "volumes/ed/labels/SC-HF-I-04.nii.gz",
        },
        1, {0, 1, 2}, (256, 256, 10), "coronal", spacing_mm=(1.289, 1.289, 8.0),
    ),
    "TotalSegmentator NIfTI": Row(
        "totalsegmentator_examples",
        {"classes": ORGANS, "images": "*_small/image.nii.gz", "labels": "*_small/seg_synapse8.*"},
        2, set(range(9)), (122, 101, 30), spacing_mm=(3.0, 3.0, 3.0),
    ),
    "TotalSegmentator DICOM": Row(
        "totalsegmentator_examples",
        {"classes": ORGANS, "images": "*/series", "labels": "*_dicom/seg_synapse8.nii.gz"},
        1, {0, 1, 5, 6, 7, 8}, (512, 512, 20), spacing_mm=(0.977, 0.977, 2.0),
    ),
    "pyradiomics NRRD": Row(
        "pyradiomics_nrrd",
        {"classes": ["lesion"], "images": "*_image.nrrd", "labels": "*_label.nrrd"},
        1, {0, 1}, (45, 120, 21), spacing_mm=(0.664, 0.664, 2.1),
    ),
    "spinal cord": Row(
        "sct_spinal_cord_mr",
        {"classes": ["cord"], "images": "*.nii.gz", "labels": "*_seg.nii.gz"},
        2, {0, 1}, (42, 76, 77),
    ),
    "dcmqi DICOM": Row(
        "dcmqi_ct_3slice",
        {"classes": ["liver", "spine"], "images": "series", "labels": "liver_spine_seg.nrrd"},
        1, {0, 1, 2}, (512, 512, 3), spacing_mm=(0.811, 0.811, 1.0),
    ),
}  # fmt: skip


def root() -> Path:
    return Path(os.environ["SWIN_UNET_DATA"])


def config(row: Row, **more: Any) -> Config:
    data = {"name": "folder", "root": root() / row.folder} | row.options | more
    return Config(data=DataConfig(**data))


def first_cases(dataset: Dataset, count: int = 3) -> Dataset:
    return replace(dataset, cases=dataset.cases[:count])


@pytest.mark.parametrize("name", ROWS)
def test_a_set_is_read(name: str) -> None:
    row = ROWS[name]
    dataset = build_dataset(config(row).data)
    assert len(dataset.cases) == row.cases
    assert all(case.labels for case in dataset.cases)
    groups = {case.group for case in dataset.cases} - {None}
    assert len(groups) == row.patients
    for case in first_cases(dataset).cases:
        image, label = load_case(case, dataset)
        assert set(np.unique(label.array).tolist()) == row.labels
        assert label.array.shape == image.shape
    image, _ = load_case(dataset.cases[0], dataset)
    assert image.shape == row.shape
    np.testing.assert_allclose(image.spacing_mm, row.spacing_mm, atol=5e-3)
    assert choose_plane(first_cases(dataset).cases)[0] == row.plane


@pytest.mark.parametrize("name", ["TotalSegmentator NIfTI", "TotalSegmentator DICOM"])
def test_organs_are_where_they_should_be(name: str) -> None:
    dataset = build_dataset(config(ROWS[name]).data)
    assert check_label_order(dataset, dataset.cases) is None
    exchanged = {**dataset.classes, 5: "spleen", 7: "liver"}
    warning = check_label_order(replace(dataset, classes=exchanged), dataset.cases)
    assert warning is not None
    assert "larger than liver" in warning


def test_sunnybrooks_own_split_of_patients() -> None:
    row = ROWS["sunnybrook pictures"]
    path = root() / row.folder / "splits.json"
    settings = config(row, split_file=path)
    dataset = build_dataset(settings.data)
    split = make_split(dataset, settings)
    listed = json.loads(path.read_text())
    groups = {case.name: case.group for case in dataset.cases}
    assert {groups[name] for name in split.train} == set(listed["train"])
    assert {groups[name] for name in split.val} == set(listed["val"])
    assert len(split.train) + len(split.val) == len(dataset.cases)


def test_the_shipped_split_of_sunnybrook_fits() -> None:
    row = ROWS["sunnybrook pictures"]
    dataset = build_dataset(config(row).data)
    path = Path(__file__).parents[2] / "configs" / "splits" / "sunnybrook.json"
    split = load_split(path, dataset.cases)
    names = [*split.train, *split.val, *split.test]
    assert len(names) == len(set(names)) == len(dataset.cases)
    assert min(len(split.train), len(split.val), len(split.test)) > 0
    own = json.loads((root() / row.folder / "splits.json").read_text())
    groups = {case.name: case.group for case in dataset.cases}
    assert {groups[name] for name in split.test} == set(own["val"])


def test_the_short_axis_is_not_the_same_plane_in_every_patient() -> None:
    dataset = build_dataset(config(ROWS["sunnybrook volumes"]).data)
    assert choose_plane(dataset.cases) == ("coronal", ["SC-HF-I-05"])


def test_systole_holds_one_class_only() -> None:
    row = ROWS["sunnybrook volumes"]
    row = replace(row, folder="sunnybrook_cardiac/volumes/es")
    dataset = build_dataset(config(row).data)
    _, label = load_case(dataset.cases[0], dataset)
    assert set(np.unique(label.array).tolist()) == {0, 1}


def test_a_list_of_several_sets(tmp_path: Path) -> None:
    rows = [
        ("sct_spinal_cord_mr/t2.nii.gz", "sct_spinal_cord_mr/t2_seg.nii.gz", "t2", "train"),
        ("sct_spinal_cord_mr/t1w.nii.gz", "sct_spinal_cord_mr/t1w_seg.nii.gz", "t1", "test"),
        ("totalsegmentator_examples/ct_dicom/series", "", "series", ""),
    ]
    path = tmp_path / "cases.csv"
    path.write_text("\n".join(["image,label,name,part", *map(",".join, rows)]))
    data = DataConfig(name="folder", root=root(), list_file=path, classes=["cord"], val_fraction=0)
    dataset = build_dataset(data)
    assert [(case.name, len(case.labels)) for case in dataset.cases] == [
        ("series", 0), ("t1", 1), ("t2", 1),
    ]  # fmt: skip
    split = make_split(dataset, Config(data=data))
    assert (split.train, split.test) == (("t2",), ("t1",))
    image, _ = load_case(dataset.cases[2], dataset)
    assert image.shape == (60, 55, 52)


def test_the_full_label_map_does_not_pass_for_eight_organs() -> None:
    options = {"classes": ORGANS, "images": "*_small/image.nii.gz", "labels": "*_small/seg_total.*"}
    dataset = build_dataset(
        config(Row("totalsegmentator_examples", options, 2, set(), (1, 1, 1))).data
    )
    with pytest.raises(UserError, match="label values from 0 to 8"):
        load_case(dataset.cases[0], dataset)
