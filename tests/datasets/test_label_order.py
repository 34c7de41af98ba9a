from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets import Case, Dataset, check_label_order
from datasets.label_order import KNOWN_ORDERS, label_order_warning, measure_organs
from datasets.phantom_ct import make_case
from swin_unet.imaging import Volume

TRANSUNET, BTCV8, CASCADE = KNOWN_ORDERS[:3]


@pytest.fixture(scope="module")
def abdomens() -> list[Volume]:
    """Label maps of three patients in TransUNet's order, stored along various axes."""
    images = [make_case(7, number, (64, 64, 24))[1] for number in range(3)]
    return [Volume(np.asarray(image.dataobj), image.affine) for image in images]


def classes_of(order: Sequence[str]) -> dict[int, str]:
    return dict(enumerate(order, start=1))


def reordered(volume: Volume, order: Sequence[str], has_spacing: bool = True) -> Volume:
    """Store the same organs by values in another order."""
    table = np.zeros(len(TRANSUNET) + 1, np.uint8)
    for value, name in enumerate(TRANSUNET, start=1):
        table[value] = order.index(name) + 1
    return Volume(table[volume.array], volume.affine, has_spacing=has_spacing)


@pytest.mark.parametrize("order", [TRANSUNET, BTCV8, CASCADE])
def test_the_right_order_is_not_warned_of(abdomens: list[Volume], order: Sequence[str]) -> None:
    stored = [reordered(volume, order) for volume in abdomens]
    assert label_order_warning(stored, classes_of(order)) is None


@pytest.mark.parametrize("has_spacing", [True, False])
@pytest.mark.parametrize("stored", [TRANSUNET, BTCV8, CASCADE])
@pytest.mark.parametrize("named", [TRANSUNET, BTCV8, CASCADE])
def test_another_order_is_warned_of_and_named(
    abdomens: list[Volume], stored: Sequence[str], named: Sequence[str], has_spacing: bool
) -> None:
    if stored == named:
        return
    volumes = [reordered(volume, stored, has_spacing) for volume in abdomens]
    warning = label_order_warning(volumes, classes_of(named))
    assert warning is not None
    assert ", ".join(named) in warning
    assert f"fit the order {', '.join(stored)}." in warning


@pytest.mark.parametrize("has_spacing", [True, False])
def test_swapped_kidneys_are_noticed(abdomens: list[Volume], has_spacing: bool) -> None:
    swapped = list(TRANSUNET)
    swapped[2:4] = swapped[3], swapped[2]
    volumes = [reordered(volume, swapped, has_spacing) for volume in abdomens]
    warning = label_order_warning(volumes, classes_of(TRANSUNET))
    assert warning is not None
    assert "right_kidney is on the spleen's side" in warning
    assert ("patient's right" in warning) == has_spacing


def test_mirrored_patients_are_noticed_where_the_file_knows_its_sides(
    abdomens: list[Volume],
) -> None:
    mirror = np.diag([-1.0, 1, 1, 1])
    for has_spacing in (True, False):
        volumes = [
            Volume(volume.array, mirror @ volume.affine, has_spacing=has_spacing)
            for volume in abdomens
        ]
        warning = label_order_warning(volumes, classes_of(TRANSUNET))
        assert (warning is not None) == has_spacing


def test_slices_may_be_turned_where_nothing_is_known_of_them(abdomens: list[Volume]) -> None:
    """The distributed arrays have no orientation, and may lie on their side."""
    quarter = np.array([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    volumes = [
        Volume(volume.array, quarter @ volume.affine, has_spacing=False) for volume in abdomens
    ]
    assert label_order_warning(volumes, classes_of(TRANSUNET)) is None


def test_one_odd_patient_is_no_reason_to_warn(abdomens: list[Volume]) -> None:
    volumes = [reordered(abdomens[0], BTCV8), *abdomens[1:]]
    assert label_order_warning(volumes, classes_of(TRANSUNET)) is None


@pytest.mark.parametrize(
    "classes", [{1: "liver", 2: "tumour"}, {1: "left ventricle"}, {}, {1: "kidney"}]
)
def test_other_classes_are_not_judged(abdomens: list[Volume], classes: dict[int, str]) -> None:
    single = [Volume((volume.array == 5).astype(np.uint8), volume.affine) for volume in abdomens]
    assert label_order_warning(single, classes) is None
    assert label_order_warning([], classes) is None


def test_spelling_does_not_matter(abdomens: list[Volume]) -> None:
    classes = classes_of([name.replace("_", " ").title() for name in TRANSUNET])
    assert label_order_warning(abdomens, classes) is None
    volumes = [reordered(volume, BTCV8) for volume in abdomens]
    assert label_order_warning(volumes, classes) is not None


def test_files_are_read_by_the_data_sets_label_values(
    abdomens: list[Volume], tmp_path: Path
) -> None:
    """Raw values in one order, which the data set turns into another."""
    path = tmp_path / "label.nii.gz"
    nib.save(nib.Nifti1Image(reordered(abdomens[0], BTCV8).array, abdomens[0].affine), path)
    case = Case("a", (path,), (path,))
    values = {value: TRANSUNET.index(name) + 1 for value, name in enumerate(BTCV8, start=1)}
    dataset = Dataset((case,), classes_of(TRANSUNET), ("CT",), label_values={0: 0, **values})
    assert check_label_order(dataset, [case]) is None
    dataset = Dataset((case,), classes_of(TRANSUNET), ("CT",))
    assert "fit the order spleen, right_kidney" in str(check_label_order(dataset, [case]))


def test_files_are_not_read_where_nothing_is_known_of_the_classes(tmp_path: Path) -> None:
    case = Case("a", (tmp_path / "nothing.nii",), (tmp_path / "nothing.nii",))
    assert check_label_order(Dataset((case,), {1: "tumour"}, ("CT",)), [case]) is None


@settings(deadline=None, max_examples=20)
@given(st.sampled_from([1, 2, 3]), st.integers(0, 10**6))
def test_organs_are_measured(axis: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    array = np.zeros((9, 8, 7), np.uint8)
    corner, size = rng.integers(0, 3, 3), rng.integers(1, 4, 3)
    box = tuple(slice(a, a + b) for a, b in zip(corner, size, strict=True))
    array[box] = 3
    affine = nib.affines.from_matvec(np.roll(np.diag([2.0, 3.0, 5.0]), axis, axis=1), [1, 2, 3])
    organs = measure_organs(Volume(array, affine))
    assert list(organs) == [3]
    organ = organs[3]
    points = np.argwhere(array == 3)
    world = nib.affines.apply_affine(affine, points)
    assert organ.volume == len(points)
    np.testing.assert_allclose(organ.centre, world.mean(axis=0)[:2], atol=1e-9)
    _, counts = np.unique(world[:, 2], return_counts=True)
    assert organ.section == counts.max()
