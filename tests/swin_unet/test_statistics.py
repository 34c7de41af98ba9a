"""Statistics of label maps against SimpleITK, which measures them in its own way."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st

from swin_unet.statistics import describe_labels, write_statistics

CLASSES = {1: "one", 2: "two", 3: "three"}
SPACING = (0.5, 1.25, 3.0)


def to_itk(array: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    image.SetSpacing(SPACING)
    return image


@given(
    shape=st.tuples(*[st.integers(1, 7)] * 3),
    share=st.floats(0.2, 0.95),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_records_equal_those_of_simpleitk(
    shape: tuple[int, int, int], share: float, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.integers(1, 4, shape).astype(np.uint8)
    labels[generator.random(shape) < share] = 0
    image = generator.normal(40, 300, shape).astype(np.float32)
    records = describe_labels(labels, image, SPACING, CLASSES)
    for value, name in CLASSES.items():
        record, mask = records[name], labels == value
        if not mask.any():
            assert record["num_voxels"] == record["volume_ml"] == record["components"] == 0
            assert {record[key] for key in record if key not in _SIZES} == {None}
            continue
        binary = sitk.GetImageFromArray(np.ascontiguousarray(mask.T).astype(np.uint8))
        binary.CopyInformation(to_itk(image))
        _check_intensity(record, binary, to_itk(image))
        _check_shape(record, binary, shape)


_SIZES = {"num_voxels", "volume_ml", "components"}


def _check_intensity(record: dict, binary: sitk.Image, image: sitk.Image) -> None:
    measured = sitk.LabelStatisticsImageFilter()
    measured.Execute(sitk.Cast(image, sitk.sitkFloat64), binary)
    count = measured.GetCount(1)
    assert record["num_voxels"] == count
    assert record["volume_ml"] == pytest.approx(count * np.prod(SPACING) / 1000)
    assert record["mean_intensity"] == pytest.approx(measured.GetMean(1), rel=1e-5, abs=1e-3)
    variance = measured.GetVariance(1) * (count - 1) / count if count > 1 else 0.0  # it divides
    assert record["std_intensity"] == pytest.approx(variance**0.5, rel=1e-4, abs=1e-2)  # by n - 1


def _check_shape(record: dict, binary: sitk.Image, shape: tuple[int, ...]) -> None:
    parts = sitk.ConnectedComponent(binary, True)
    measured = sitk.LabelShapeStatisticsImageFilter()
    measured.Execute(parts)
    sizes = [measured.GetNumberOfPixels(part) for part in measured.GetLabels()]
    assert record["components"] == len(sizes)
    assert record["largest_component_share"] == pytest.approx(max(sizes) / sum(sizes))
    measured.Execute(binary)
    first, size = np.split(np.array(measured.GetBoundingBox(1)), 2)
    assert [record[f"first_{axis}"] for axis in "xyz"] == first.tolist()
    assert [record[f"last_{axis}"] for axis in "xyz"] == (first + size - 1).tolist()
    sizes_mm = [record[f"size_{axis}_mm"] for axis in "xyz"]
    assert sizes_mm == pytest.approx((size * SPACING).tolist())
    if 1 not in shape:
        on_border = measured.GetNumberOfPixelsOnBorder(1) > 0
        assert record["touches_border"] == on_border


@pytest.mark.parametrize(("voxel", "expected"), [((2, 2, 0), False), ((2, 4, 0), True)])
def test_a_single_slice_has_its_border_around_it(voxel: tuple[int, ...], expected: bool) -> None:
    labels = np.zeros((5, 5, 1), np.uint8)
    labels[voxel] = 1
    record = describe_labels(labels, labels, SPACING, {1: "one"})["one"]
    assert record["touches_border"] is expected


def test_corners_connect_and_gaps_do_not() -> None:
    labels = np.zeros((5, 5, 5), np.uint8)
    labels[2, 2, 2] = labels[3, 3, 3] = labels[4, 4, 4] = 1
    record = describe_labels(labels, labels, SPACING, {1: "one"})["one"]
    assert record["components"] == 1
    labels[3, 3, 3] = 0
    record = describe_labels(labels, labels, SPACING, {1: "one"})["one"]
    assert (record["components"], record["largest_component_share"]) == (2, 0.5)
    assert record["touches_border"] is True


def test_every_channel_is_measured_and_unknown_sizes_stay_empty() -> None:
    labels = np.zeros((3, 3, 3), np.uint8)
    labels[1, 1] = 1
    image = np.stack([labels * 7, np.arange(27).reshape(3, 3, 3)], axis=-1)
    record = describe_labels(labels, image, None, {1: "one"})["one"]
    assert (record["mean_intensity"], record["std_intensity"]) == (7, 0)
    assert record["mean_intensity_1"] == 13
    assert record["std_intensity_1"] == pytest.approx(np.std([12, 13, 14]))
    assert {record[key] for key in record if key.endswith(("_mm", "_ml"))} == {None}
    assert record["num_voxels"] == 3


def test_huge_intensities_keep_their_mean() -> None:
    """The maximum of some hippocampus images is above 1e9; float32 sums would drift."""
    labels = np.ones((64, 64, 64), np.uint16)
    image = np.full(labels.shape, 1_704_295_297, np.int32)
    record = describe_labels(labels, image, SPACING, {1: "one"})["one"]
    assert (record["mean_intensity"], record["std_intensity"]) == (1_704_295_297, 0)


def test_the_table_has_a_line_per_case_and_class(tmp_path: Path) -> None:
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[0, 1:3, 1] = 1
    cases = [
        {"case": name, "statistics": describe_labels(labels, labels, SPACING, {1: "a", 2: "b, c"})}
        for name in ("first", "second")
    ]
    write_statistics(tmp_path / "statistics.csv", cases)
    with (tmp_path / "statistics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["case"], row["class"]) for row in rows] == [
        ("first", "a"), ("first", "b, c"), ("second", "a"), ("second", "b, c"),
    ]  # fmt: skip
    assert rows[0]["volume_ml"] == "0.00375"
    assert rows[0]["touches_border"] == "True"
    assert (rows[1]["components"], rows[1]["mean_intensity"]) == ("0", "")
