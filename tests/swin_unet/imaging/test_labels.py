"""Label values: whole numbers of known classes, or a message that lists the others."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swin_unet.config import UserError
from swin_unet.imaging import Volume, read_labels
from swin_unet.imaging.labels import to_class_values
from tests.imaging_checks import assert_error, ramp, save_nifti


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "f4", "f8"])
def test_label_maps_become_the_smallest_type(tmp_path: Path, dtype: str) -> None:
    small = read_labels(save_nifti(tmp_path / "a.nii.gz", ramp(dtype)), 60)
    assert small.array.dtype == np.uint8
    np.testing.assert_array_equal(small.array, ramp("u1"))


def test_label_values_above_255_become_uint16(tmp_path: Path) -> None:
    large = read_labels(save_nifti(tmp_path / "a.nii", ramp("f4", (7, 8, 9))))
    assert large.array.dtype == np.uint16
    np.testing.assert_array_equal(large.array, ramp("u2", (7, 8, 9)))


@pytest.mark.parametrize(
    ("dtype", "value", "parts"),
    [
        ("f4", 0.5, ("integer label values", "such as 0.5", "not probabilities")),
        ("f4", np.nan, ("integer label values", "such as nan", "not probabilities")),
        ("f4", np.inf, ("integer label values", "such as inf", "not probabilities")),
        ("i2", -1, ("values from 0 to 2", "1 voxels with -1", "Correct the label map")),
        ("u1", 3, ("values from 0 to 2", "1 voxels with 3", "list of classes")),
    ],
)
def test_wrong_label_values_are_listed(
    tmp_path: Path, dtype: str, value: float, parts: tuple[str, ...]
) -> None:
    array = np.zeros((3, 4, 5), dtype)
    array[1, 2, 3] = value
    path = save_nifti(tmp_path / "a.nii.gz", array)
    with pytest.raises(UserError) as caught:
        read_labels(path, 3)
    assert_error(caught.value, path, *parts)


def test_label_values_beyond_uint16_are_refused_without_classes(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii", np.full((2, 2, 2), 70000, np.int32))
    with pytest.raises(UserError, match="from 0 to 65535, found 8 voxels with 70000"):
        read_labels(path)


# 13 organs of BTCV to the 8 of Synapse: the others become background.
BTCV = {8: 1, 4: 2, 3: 3, 2: 4, 6: 5, 11: 6, 1: 7, 7: 8, 5: 0, 9: 0, 10: 0, 12: 0, 13: 0}


@pytest.mark.parametrize("dtype", ["u1", "i2", "f4"])
def test_values_of_the_file_become_class_values(dtype: str) -> None:
    array = np.random.default_rng(0).integers(0, 14, (6, 7, 8)).astype(dtype)
    mapped = to_class_values(Volume(array, np.eye(4)), 9, BTCV).array
    assert mapped.dtype == np.uint8
    for place in np.ndindex(array.shape):
        assert mapped[place] == ({0: 0} | BTCV)[int(array[place])]


@given(
    values=st.dictionaries(st.integers(1, 65535), st.integers(0, 65535), min_size=1, max_size=20),
    seed=st.integers(0, 99),
)
def test_any_table_is_followed(values: dict[int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    array = rng.choice([0, *values], size=(3, 4, 5)).astype(np.int32)
    mapped = to_class_values(Volume(array, np.eye(4)), None, values).array
    np.testing.assert_array_equal(mapped, np.vectorize({0: 0, **values}.__getitem__)(array))


def test_the_background_may_be_another_value() -> None:
    array = np.array([[[0, 255, 9]]])
    mapped = to_class_values(Volume(array, np.eye(4)), 2, {0: 1, 255: 0, 9: 0}).array
    np.testing.assert_array_equal(mapped, [[[1, 0, 0]]])


def test_values_that_the_table_does_not_name_are_faults() -> None:
    array = np.array([[[0, 1, 14, 15, 15]]])
    with pytest.raises(UserError) as caught:
        to_class_values(Volume(array, np.eye(4), Path("a.nii")), 9, BTCV)
    assert_error(caught.value, Path("a.nii"), "label values 0, 1, 2, 3", "3 voxels with 14, 15")


def test_no_value_beyond_the_classes_comes_out_of_a_table() -> None:
    with pytest.raises(UserError, match="from 0 to 1, found 1 voxels with 2"):
        to_class_values(Volume(np.array([[[0, 7]]]), np.eye(4)), 2, {7: 2})
