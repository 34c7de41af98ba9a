"""The heart phantom: anatomy that a cardiologist would expect, at two times of the beat."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_dilation

from datasets import acdc
from datasets.heart import CLASSES, GROUPS, MIN_SIZE, HeartScan, make_heart

RIGHT, WALL, LEFT = (CLASSES.index(name) + 1 for name in CLASSES)
SIZE = (96, 96, 10)


def labels(scan: HeartScan) -> list[np.ndarray]:
    """Return the label maps (X, Y, Z) at end-diastole and end-systole."""
    return [np.asarray(label.dataobj) for _, label in scan.frames.values()]


def volume_ml(scan: HeartScan, value: int) -> list[float]:
    _, reference = scan.frames[1]
    voxel_ml = abs(np.linalg.det(reference.affine[:3, :3])) / 1000
    return [float((label == value).sum() * voxel_ml) for label in labels(scan)]


def test_class_names_are_in_the_order_of_acdc() -> None:
    assert CLASSES == acdc.CLASSES == ("right_ventricle", "myocardium", "left_ventricle")


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), number=st.integers(1, 100))
def test_every_frame_has_all_classes_in_their_places(seed: int, number: int) -> None:
    scan = make_heart(seed, number, MIN_SIZE)
    for image, label in scan.frames.values():
        array = np.asarray(label.dataobj)
        assert set(np.unique(array)) == {0, RIGHT, WALL, LEFT}
        assert nib.aff2axcodes(image.affine) == ("L", "P", "S")
        centre = {value: np.argwhere(array == value).mean(axis=0) for value in (RIGHT, WALL, LEFT)}
        assert centre[RIGHT][0] < centre[LEFT][0], "the right ventricle is on the picture's left"
        assert centre[RIGHT][2] < centre[WALL][2], "the right ventricle ends before the apex"


@pytest.mark.parametrize("number", range(5))
def test_myocardium_encloses_the_cavity(number: int) -> None:
    in_plane = np.zeros((3, 3, 3), bool)
    in_plane[:, :, 1] = True
    for label in labels(make_heart(1, number, SIZE)):
        around = binary_dilation(label == LEFT, in_plane) & (label != LEFT)
        assert around.any()
        assert (label[around] == WALL).all()


@pytest.mark.parametrize("number", range(10))
def test_the_heart_contracts(number: int) -> None:
    scan = make_heart(2, number, SIZE)
    diastole, systole = volume_ml(scan, LEFT)
    assert 0.1 < 1 - systole / diastole < 0.9
    diastole, systole = volume_ml(scan, RIGHT)
    assert systole < diastole
    diastole, systole = volume_ml(scan, WALL)
    assert 0.7 < systole / diastole < 1.15, "muscle hardly changes its volume"
    assert all(label[..., -1].max() == 0 for label in labels(scan)), "the last slice is below it"


def test_diseases_show() -> None:
    scans: dict[str, list[HeartScan]] = {name: [] for name in GROUPS}
    for number in range(15):
        scan = make_heart(5, number, SIZE)
        scans[scan.group].append(scan)
    assert {len(group) for group in scans.values()} == {3}

    def mean(group: str, value: int) -> np.ndarray:
        return np.mean([volume_ml(scan, value) for scan in scans[group]], axis=0)

    def ejection(group: str) -> float:
        diastole, systole = mean(group, LEFT)
        return 1 - systole / diastole

    assert mean("DCM", LEFT)[0] > 1.4 * mean("NOR", LEFT)[0]
    assert mean("HCM", WALL)[0] > 1.2 * mean("NOR", WALL)[0]
    assert mean("RV", RIGHT)[0] > 1.3 * mean("NOR", RIGHT)[0]
    assert ejection("DCM") < 0.45 < ejection("NOR")
    assert ejection("MINF") < ejection("NOR") < ejection("HCM")


def test_the_image_looks_like_cine_mri() -> None:
    scan = make_heart(0, 3, SIZE)
    for image, label in scan.frames.values():
        assert image.get_data_dtype() == np.int16
        grey, classes = np.asarray(image.dataobj), np.asarray(label.dataobj)
        assert grey.min() >= 0
        blood, wall = (np.median(grey[classes == value]) for value in (LEFT, WALL))
        assert blood > 1.7 * wall
        assert 8 < image.header.get_zooms()[2] < 13, "thick slices"
        assert image.header.get_zooms()[0] < 4


def test_intensity_scales_differ_between_patients() -> None:
    brightest = [
        np.asarray(make_heart(0, n, MIN_SIZE).frames[1][0].dataobj).max() for n in range(8)
    ]
    assert max(brightest) > 3 * min(brightest)
