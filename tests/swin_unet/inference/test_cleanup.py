"""Clean-up of label maps, by SimpleITK's components as oracle."""

from __future__ import annotations

import math

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st

from swin_unet.config import UserError
from swin_unet.imaging import Volume
from swin_unet.inference import Cleanup, Segmenter
from tests.inference_checks import noise, random_checkpoint

CLASSES = ("liver", "left kidney", "spleen")
AFFINE = np.diag([0.5, -2.0, 3.0, 1.0])  # 3 mm3 per voxel


def labels(seed: int) -> np.ndarray:
    """Make many parts of three classes."""
    random = np.random.default_rng(seed)
    values = random.integers(1, 4, (9, 10, 8), np.uint8)
    return np.where(random.random(values.shape) < 0.25, values, 0).astype(np.uint8)


def parts_by_size(mask: np.ndarray, min_voxels: int = 0) -> np.ndarray:
    """Number the parts of a mask, the largest first, leaving smaller ones out."""
    parts = sitk.ConnectedComponent(sitk.GetImageFromArray(mask.astype(np.uint8)), True)
    return sitk.GetArrayFromImage(sitk.RelabelComponent(parts, min_voxels))


def apply(cleanup: Cleanup, array: np.ndarray) -> np.ndarray:
    array = array.copy()
    cleanup.apply(array, Volume(array, AFFINE))
    return array


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sets(st.integers(1, 3), min_size=1))
def test_the_largest_part_is_simpleitks(seed: int, chosen: set[int]):
    """By size: where two parts are the largest, either may stay."""
    array = labels(seed)
    found = apply(Cleanup(largest=frozenset(chosen)), array)
    for value in (1, 2, 3):
        mask = array == value
        if value not in chosen:
            np.testing.assert_array_equal(found == value, mask)
            continue
        expected = parts_by_size(mask) == 1
        assert np.count_nonzero(found == value) == expected.sum()
        assert not (found == value)[~mask].any()
        assert apply(Cleanup(largest=frozenset({value})), found).tolist() == found.tolist()
    assert not found[array == 0].any()


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.5, 3.0, 6.0, 14.0, 15.0, 1000.0]))
def test_small_parts_are_simpleitks(seed: int, volume_mm3: float):
    array = labels(seed)
    found = apply(Cleanup(min_volume_mm3={1: volume_mm3, 3: volume_mm3}), array)
    min_voxels = math.ceil(volume_mm3 / 3)
    for value in (1, 2, 3):
        mask = array == value
        expected = mask if value == 2 else parts_by_size(mask, min_voxels) > 0
        np.testing.assert_array_equal(found == value, expected)


def test_both_rules_together():
    array = np.zeros((12, 4, 4), np.uint8)
    array[0:3], array[5:6], array[8:9, :1, :1] = 1, 1, 2
    cleanup = Cleanup.of_classes(CLASSES, largest=["liver"], min_volume_mm3=["100", "liver=145"])
    expected = np.zeros_like(array)
    assert apply(cleanup, array).tolist() == expected.tolist()  # 48 voxels are 144 mm3
    kept = Cleanup.of_classes(CLASSES, largest=["liver"], min_volume_mm3=["liver=144"])
    expected[0:3], expected[8:9, :1, :1] = 1, 2
    assert apply(kept, array).tolist() == expected.tolist()


def test_rules_as_the_command_line_has_them():
    read = Cleanup.of_classes
    assert read(CLASSES) == Cleanup()
    assert not read(CLASSES).is_needed
    assert read(CLASSES, largest=[]).largest == {1, 2, 3}
    assert read(CLASSES, largest=["left kidney"]).largest == {2}
    volumes = read(CLASSES, min_volume_mm3=["10", "left kidney=2.5"])
    assert volumes.min_volume_mm3 == {1: 10, 2: 2.5, 3: 10}
    assert volumes.describe_volumes(CLASSES)["left kidney"] == 2.5
    assert read(CLASSES, largest=["spleen", "liver"]).describe_largest(CLASSES) == [
        *("liver", "spleen"),
    ]


@pytest.mark.parametrize(
    ("largest", "volumes", "message"),
    [
        (["livr"], [], "--largest_component: expected classes .* liver, left kidney, spleen"),
        (None, ["livr=5"], "--min_volume_mm3: expected classes of the checkpoint: .*found livr"),
        *((None, [text], f"found {text}") for text in ("0", "-1", "x", "inf", "liver=", "nan")),
    ],
)
def test_wrong_rules_are_refused(largest, volumes, message):
    with pytest.raises(UserError, match=message):
        Cleanup.of_classes(CLASSES, largest, volumes)


def test_a_volume_in_mm3_needs_a_voxel_size():
    array = labels(0)
    image = Volume(array, np.eye(4), has_spacing=False)
    with pytest.raises(UserError, match="a voxel size"):
        Cleanup(min_volume_mm3={1: 2.0}).apply(array, image)
    Cleanup(largest=frozenset({1})).apply(array, image)


def test_the_segmenter_cleans_up(tmp_path):
    path = random_checkpoint(tmp_path / "a.pt", CLASSES)
    volume = noise((40, 40, 8))
    raw = Segmenter(path, device="cpu").segment(volume).array
    rules = {"largest_component": ["spleen"], "min_volume_mm3": ["200"]}
    found = Segmenter(path, device="cpu", **rules).segment(volume)
    expected = raw.copy()
    Cleanup.of_classes(CLASSES, ["spleen"], ["200"]).apply(expected, volume)
    np.testing.assert_array_equal(found.array, expected)
    assert 0 < (found.array != raw).sum() < raw.size / 2
