"""Image files of every format for the tests of imaging, and what their messages must have."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813
from hypothesis import strategies as st
from PIL import Image
from scipy.spatial.transform import Rotation

from swin_unet.config import UserError
from tests.dicom_files import write_series

AFFINE = np.diag([-0.5, 0.5, 2.0, 1.0])
AXIS_CODES = [
    "".join(codes)
    for order in itertools.permutations(("LR", "PA", "IS"))
    for codes in itertools.product(*order)
]


def ramp(dtype: str, shape: tuple[int, ...] = (3, 4, 5)) -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def assert_error(error: UserError, path: Path, *parts: str) -> None:
    """One message that starts with the file, says what to do, and has these words."""
    message = str(error)
    assert message.startswith(f"{path}: expected ")
    assert ", found " in message
    assert message.endswith(".")
    for part in parts:
        assert part in message


def save_nifti(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    nib.save(nib.Nifti1Image(array, affine, dtype=array.dtype), path)
    return path


def save_itk(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    """Write (X, Y, Z) by SimpleITK, compressed; the affine must not be sheared."""
    image = sitk.GetImageFromArray(array.T)
    lps = np.diag([-1.0, -1, 1, 1]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    sitk.WriteImage(image, str(path), useCompression=True)
    return path


def save_picture(path: Path, array: np.ndarray) -> Path:
    """Write (X, Y, 1) as a picture, or (X, Y, Z) as the pages of a TIFF file."""
    pages = [Image.fromarray(np.ascontiguousarray(page.T)) for page in np.moveaxis(array, 2, 0)]
    options = {"save_all": True, "append_images": pages[1:]} if len(pages) > 1 else {}
    pages[0].save(path, **options)
    return path


def save_arrays(path: Path, array: np.ndarray, label: np.ndarray | None = None) -> Path:
    """Write (X, Y, Z) with slices first, as preprocessed data sets go round."""
    content = {"image": array.T} | ({} if label is None else {"label": label.T})
    if path.suffix == ".npz":
        np.savez_compressed(path, **content)
        return path
    with h5py.File(path, "w") as file:
        for name, values in content.items():
            file.create_dataset(name, data=values, compression="gzip")
    return path


def save_dicom(path: Path, array: np.ndarray) -> Path:
    return write_series(path, array.T, spacing=(0.5, 0.5))


@dataclass(frozen=True)
class Format:
    """A format and how the tests write it.

    Attributes:
        name: Of a file.
        save: Writes an array (X, Y, Z) to a path and returns it.
        dtypes: That it can hold.
        num_slices: That a file can hold; None: any.
        exact: Whether the voxels come back as they were.
        affine: By which `save` places the voxels.
    """

    name: str
    save: Callable[[Path, np.ndarray], Path]
    dtypes: tuple[str, ...] = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8")
    num_slices: int | None = None
    exact: bool = True
    affine: tuple[float, float, float] = (-0.5, 0.5, 2.0)

    @property
    def has_spacing(self) -> bool:
        return self.affine != (-1.0, -1.0, 1.0)

    def sample(self, folder: Path, dtype: str | None = None) -> Path:
        """Write noise, which does not compress away."""
        shape = (24, 22, self.num_slices or 5)
        noise = np.random.default_rng(0).integers(0, 100, shape)
        return self.save(folder / self.name, noise.astype(dtype or self.dtypes[0]))


NO_SPACING = (-1.0, -1.0, 1.0)
FORMATS = {
    item.name: item
    for item in (
        Format("a.nii", save_nifti),
        Format("a.nii.gz", save_nifti),
        Format("a.nrrd", save_itk),
        Format("a.nhdr", save_itk),
        Format("a.mha", save_itk),
        Format("a.mhd", save_itk),
        Format("a.png", save_picture, ("u1", "u2"), 1, affine=NO_SPACING),
        Format("a.jpg", save_picture, ("u1",), 1, exact=False, affine=NO_SPACING),
        Format("a.tif", save_picture, ("u1", "u2", "i4", "f4"), affine=NO_SPACING),
        Format("a.npz", save_arrays, affine=NO_SPACING),
        Format("a.npy.h5", save_arrays, affine=NO_SPACING),
        Format("series", save_dicom, ("i2", "u2", "u1"), affine=(-0.5, -0.5, 2.0)),
    )
}


@st.composite
def affines(draw: st.DrawFn, *, sheared: bool = True) -> np.ndarray:
    """Draw any axis codes, rotated or not, sheared or not."""
    codes = draw(st.sampled_from(AXIS_CODES))
    linear = np.zeros((3, 3))
    for column, (axis, sign) in enumerate(nib.orientations.axcodes2ornt(tuple(codes))):
        linear[int(axis), column] = sign * draw(st.floats(0.3, 8))
    angles = draw(st.sampled_from([(0, 0, 0), (10, -20, 35), (45, 0, 0), (0.1, 0.2, 0.3)]))
    linear = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ linear
    if sheared and draw(st.booleans()):
        linear[:, 0] += 0.3 * linear[:, 1]
    affine = np.eye(4)
    affine[:3, :3] = linear
    affine[:3, 3] = draw(st.tuples(*[st.floats(-500, 500)] * 3))
    return affine
