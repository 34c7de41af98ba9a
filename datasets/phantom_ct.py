"""The phantom's CT scanner: an abdomen with its own geometry, texture, noise and axes."""

from __future__ import annotations

import nibabel as nib
import numpy as np
from nibabel.orientations import inv_ornt_aff
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from datasets.abdomen import CLASSES, draw_abdomen

MIN_SIZE = (32, 32, 12)


def make_case(
    seed: int, number: int, size: tuple[int, ...], classes: tuple[str, ...] = CLASSES
) -> tuple[nib.Nifti1Image, nib.Nifti1Image]:
    """Make one case.

    Args:
        seed: Of the data set.
        number: Of the case.
        size: Voxels to the patient's right, anterior and superior; the files permute the axes.
        classes: What is labelled 1, 2, ..., see datasets.abdomen.

    Returns:
        The image in HU, int16, and its label map, uint8, on one grid.
    """
    rng = np.random.default_rng([seed, number])
    field_mm = np.array([*[rng.uniform(260, 340)] * 2, rng.uniform(140, 185)])
    spacing_mm = np.array([*[field_mm[0] / max(size[:2])] * 2, field_mm[2] / size[2]])
    rotation = Rotation.from_euler("xyz", rng.uniform(-8, 8, 3), degrees=True).as_matrix()
    scale_mm = spacing_mm * size * [rng.uniform(0.43, 0.47), rng.uniform(0.34, 0.40), 0.5]
    points = _patient_points(size, rotation * spacing_mm / scale_mm[:, None])
    hu, label = draw_abdomen(points, rng, classes)
    hu = _acquire(hu, rng)
    affine = np.eye(4)
    affine[:3, :3] = rotation * spacing_mm
    affine[:3, 3] = rng.uniform(-200, 200, 3)
    axes = np.stack([rng.permutation(3), rng.choice([-1, 1], 3)], axis=1)
    return _on_axes(hu, affine, axes), _on_axes(label, affine, axes)


def _patient_points(size: tuple[int, ...], matrix: np.ndarray) -> np.ndarray:
    """Return the coordinates (3, X, Y, Z) of all voxels in half body widths, depths, heights."""
    axes = [np.arange(count, dtype=np.float32) - (count - 1) / 2 for count in size]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"))
    return np.einsum("ij,j...->i...", matrix.astype(np.float32), grid)


def _acquire(hu: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur over voxel borders, add texture and noise, and round to int16."""
    blurred = gaussian_filter(hu, (0.6, 0.6, 0.4))
    texture = gaussian_filter(rng.standard_normal(hu.shape, np.float32), 2)
    noise = gaussian_filter(rng.standard_normal(hu.shape, np.float32), (0.5, 0.5, 0))
    blurred += np.float32(6 / texture.std()) * texture * (hu > -500)
    blurred += np.float32(rng.uniform(8, 16) / noise.std()) * noise
    return np.clip(np.rint(blurred), -1024, 3071).astype(np.int16)


def _on_axes(array: np.ndarray, affine: np.ndarray, axes: np.ndarray) -> nib.Nifti1Image:
    """Store the array (right, anterior, superior) with permuted and flipped axes."""
    turned = nib.apply_orientation(array, axes)
    image = nib.Nifti1Image(turned, affine @ inv_ornt_aff(axes, array.shape))
    image.set_sform(image.affine, code=1)
    image.set_qform(image.affine, code=1)
    image.header.set_xyzt_units("mm")
    return image
