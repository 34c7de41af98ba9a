import numpy as np
import pytest

from swin_unet.config import UserError
from swin_unet.imaging import Volume, check_same_grid


def test_spacing_is_the_length_of_the_affines_columns() -> None:
    affine = np.eye(4)
    affine[:3, :3] = [[0, 0, 3], [0.8, 0.6, 0], [-0.6, 0.8, 0]]
    affine[:3, 0] *= 2
    assert Volume(np.zeros((1, 2, 3)), affine).spacing_mm == pytest.approx((2, 1, 3))


def test_channels_come_last() -> None:
    assert Volume(np.zeros((2, 3, 4, 5)), np.eye(4)).num_channels == 5
    assert Volume(np.zeros((2, 3, 4, 5)), np.eye(4)).shape == (2, 3, 4)
    assert Volume(np.zeros((2, 3, 4)), np.eye(4)).num_channels == 1


def test_same_grid_accepts_rounding() -> None:
    affine = np.diag([0.7, 0.7, 2.5, 1.0])
    a = Volume(np.zeros((4, 4, 4)), affine)
    check_same_grid(a, Volume(np.zeros((4, 4, 4, 2)), affine + 1e-5 * np.eye(4)))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"shape": (4, 4, 5)}, "shape (4, 4, 5) instead of (4, 4, 4)"),
        ({"scale": 1.01}, "spacing (1.01, 2.02, 3.03) instead of (1, 2, 3) mm"),
        ({"origin": 0.1}, "origin (0.1, 0, 0) instead of (0, 0, 0) mm"),
        ({"flip": True}, "axes in other directions (LAS instead of RAS)"),
    ],
)
def test_same_grid_says_what_differs(change: dict, found: str) -> None:
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    other = affine.copy()
    other[:3] *= change.get("scale", 1)
    other[0, 3] += change.get("origin", 0)
    other[0, 0] *= -1 if change.get("flip") else 1
    a = Volume(np.zeros(change.get("shape", (4, 4, 4))), other)
    with pytest.raises(UserError) as caught:
        check_same_grid(a, Volume(np.zeros((4, 4, 4)), affine))
    assert found in str(caught.value)
