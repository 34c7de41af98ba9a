import itertools

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Orientation
from nibabel.orientations import apply_orientation, axcodes2ornt, ornt_transform

from swin_unet.imaging.orientation import WORKING_CODES, axis_order, reorient_array

AXIS_CODES = [
    "".join(codes)
    for order in itertools.permutations(("LR", "PA", "IS"))
    for codes in itertools.product(*order)
]


@pytest.mark.parametrize("source", AXIS_CODES)
def test_reorientation_is_nibabels_and_can_be_undone(source: str) -> None:
    array = np.arange(60, dtype=np.uint16).reshape(3, 4, 5) + 65000
    for target in WORKING_CODES.values():
        oriented = reorient_array(array, source, target)
        change = ornt_transform(axcodes2ornt(tuple(source)), axcodes2ornt(tuple(target)))
        np.testing.assert_array_equal(oriented, apply_orientation(array, change))
        np.testing.assert_array_equal(reorient_array(oriented, target, source), array)
        expected = [array.shape[axis] for axis in axis_order(source, target)]
        assert oriented.shape == tuple(expected)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
def test_every_data_type_stays_exact(dtype: str) -> None:
    kind = np.dtype(dtype)
    largest = np.finfo(kind).max if kind.kind == "f" else np.iinfo(kind).max
    array = np.array([0, 1, largest], kind).reshape(1, 3, 1)
    oriented = reorient_array(array, "RAS", "PLS")
    assert oriented.dtype == kind
    np.testing.assert_array_equal(oriented[:, 0, 0], array[0, ::-1, 0])


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24).reshape(2, 3, 4)[:, ::-1],
        np.arange(24, dtype=">i4").reshape(2, 3, 4),
        np.broadcast_to(np.arange(4), (2, 3, 4)),
        np.asfortranarray(np.arange(24).reshape(2, 3, 4)),
    ],
    ids=["reversed", "big_endian", "read_only", "fortran"],
)
def test_any_memory_layout_is_taken(array: np.ndarray) -> None:
    before = array.copy()
    oriented = reorient_array(array, "LPS", "RAS")
    np.testing.assert_array_equal(oriented, before[::-1, ::-1])
    np.testing.assert_array_equal(array, before)


@pytest.mark.parametrize("source", AXIS_CODES)
def test_monai_turns_an_image_of_these_codes_the_same_way(source: str) -> None:
    """MONAI takes an affine, of unit voxels along the axes that the codes name."""
    affine = np.zeros((4, 4))
    for voxel_axis, (world_axis, sign) in enumerate(axcodes2ornt(tuple(source))):
        affine[int(world_axis), voxel_axis] = sign
    affine[3, 3] = 1
    voxels = torch.arange(120).reshape(2, 3, 4, 5)
    for target in WORKING_CODES.values():
        transform = Orientation(axcodes=target, labels=(("L", "R"), ("P", "A"), ("I", "S")))
        expected = transform(MetaTensor(voxels, affine=torch.from_numpy(affine))).as_tensor()
        oriented = reorient_array(np.moveaxis(voxels.numpy(), 0, -1), source, target)
        np.testing.assert_array_equal(np.moveaxis(oriented, -1, 0), expected)


def test_the_voxels_are_not_copied() -> None:
    array = np.zeros((3, 4, 5))
    for codes in WORKING_CODES.values():
        assert np.shares_memory(reorient_array(array, "RAS", codes), array)
