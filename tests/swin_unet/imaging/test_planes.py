from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swin_unet.imaging import Header, Volume, thick_plane
from swin_unet.imaging.orientation import WORKING_CODES, axis_order
from swin_unet.imaging.volume import axis_codes
from tests.imaging_checks import AXIS_CODES


def grid(codes: str, spacing_mm: tuple[float, float, float], *, has_spacing: bool = True) -> Header:
    """Make a header of 10 x 10 x 10 voxels; the spacing is along left-right, back-front, up."""
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for column, (axis, sign) in enumerate(nib.orientations.axcodes2ornt(tuple(codes))):
        affine[int(axis), column] = sign * spacing_mm[int(axis)]
    return Header((10, 10, 10), affine, np.dtype("u1"), Path("a"), has_spacing=has_spacing)


@given(codes=st.sampled_from(AXIS_CODES), thick=st.integers(0, 2), ratio=st.floats(1.02, 9))
def test_the_plane_lies_across_the_thick_axis(codes: str, thick: int, ratio: float) -> None:
    spacing = [0.7, 0.7, 0.7]
    spacing[thick] *= ratio
    header = grid(codes, (spacing[0], spacing[1], spacing[2]))
    plane = thick_plane([header])
    assert plane == ("sagittal", "coronal", "axial")[thick]
    slice_axis = axis_order(axis_codes(header.affine), WORKING_CODES[plane])[2]
    assert header.spacing_mm[slice_axis] == max(header.spacing_mm)


@pytest.mark.parametrize("spacing", [(1, 1, 1), (1.0, 1.001, 1), (3, 3, 1), (1.004, 1, 1)])
def test_without_a_thick_axis_it_is_axial(spacing: tuple[float, float, float]) -> None:
    assert thick_plane([grid("RAS", spacing)]) == "axial"


def test_most_cases_decide() -> None:
    grids = [grid("PIR", (4, 1, 1)), grid("RAS", (5, 1, 1)), grid("RAS", (1, 1, 9))]
    assert thick_plane(grids) == "sagittal"


def test_what_has_no_voxel_size_does_not_vote() -> None:
    grids = [grid("LPS", (1, 1, 1), has_spacing=False)] * 3 + [grid("RAS", (1, 4, 1))]
    assert thick_plane(grids) == "coronal"
    assert thick_plane(grids[:3]) == "axial"
    assert thick_plane([]) == "axial"


@pytest.mark.parametrize(
    ("shape", "plane"), [((1, 9, 9), "sagittal"), ((9, 1, 9), "coronal"), ((9, 9, 1), "axial")]
)
def test_a_single_slice_is_the_plane(shape: tuple[int, ...], plane: str) -> None:
    assert thick_plane([Volume(np.zeros(shape), np.eye(4))]) == plane
