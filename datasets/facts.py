"""What an image and a label map are like, in the numbers that a fingerprint is made of."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from nibabel.orientations import apply_orientation, io_orientation

from swin_unet.imaging import Header, Plane, Volume
from swin_unet.imaging.orientation import WORKING_CODES, axis_order
from swin_unet.imaging.volume import axis_codes

PERCENTILES = (0.5, 5.0, 50.0, 95.0, 99.5)
# Voxels that stand for a channel of one case: for its own percentiles, and in those of all cases.
CASE_SAMPLE, POOLED_SAMPLE = 1_000_000, 10_000

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Channel:
    """Intensities of one channel.

    Attributes:
        minimum: Of all voxels.
        maximum: Of all voxels.
        percentiles: At PERCENTILES.
        sample: POOLED_SAMPLE voxels drawn at random, fewer if there are fewer.
        foreground: The same of the labelled voxels; empty without any.
    """

    minimum: float
    maximum: float
    percentiles: tuple[float, ...]
    sample: Array
    foreground: Array


@dataclass(frozen=True, eq=False)
class ImageFacts:
    """What an image is like.

    Attributes:
        header: Shape, data type and place.
        digest: Hash of the voxels in patient axes.
        channels: In order.
    """

    header: Header
    digest: str
    channels: tuple[Channel, ...]

    @property
    def codes(self) -> str:
        """Directions of the file's axes, `RAS` for instance."""
        return axis_codes(self.header.affine)

    @property
    def has_spacing(self) -> bool:
        """False where the format has no voxel size."""
        return self.header.has_spacing

    @property
    def is_constant(self) -> bool:
        """Whether no channel has two different values."""
        return all(channel.minimum == channel.maximum for channel in self.channels)

    def working(self, plane: Plane) -> tuple[Array, Array]:
        """Return size and spacing in mm of rows, columns and slices of a plane."""
        order = self.working_axes(plane)
        return np.array(self.header.shape)[order], np.array(self.header.spacing_mm)[order]

    def working_axes(self, plane: Plane) -> list[int]:
        """Return which file axes are the rows, columns and slices of a plane."""
        return axis_order(self.codes, WORKING_CODES[plane])


@dataclass(frozen=True, eq=False)
class LabelFacts:
    """What a label map is like, on the image's grid.

    Attributes:
        profiles: For each file axis (size, K) voxels of every class value in each plane across it.
    """

    profiles: tuple[Array, Array, Array]

    @property
    def voxels(self) -> Array:
        """Voxels of every class value (K,), background first."""
        totals: Array = self.profiles[0].sum(axis=0)
        return totals


def measure_image(image: Volume, label: Volume | None) -> ImageFacts | None:
    """Measure an image, finite or not.

    Args:
        image: The image.
        label: Its label map on the same grid, if there is one.

    Returns:
        None where a channel has no finite voxel.
    """
    array = image.array
    channels = np.moveaxis(array, 3, 0) if array.ndim == 4 else array[None]
    if not all(_is_measurable(channel) for channel in channels):
        return None
    foreground = None if label is None else np.flatnonzero(label.array.ravel(order="F"))
    header = Header(array.shape, image.affine, array.dtype, image.path, image.has_spacing)
    measured = tuple(_channel(channel, foreground) for channel in channels)
    return ImageFacts(header, voxel_digest(image), measured)


def _is_measurable(channel: Array) -> bool:
    return channel.dtype.kind != "f" or bool(np.isfinite(channel).any())


def _channel(voxels: Array, foreground: Array | None) -> Channel:
    """Measure one channel (X, Y, Z); `foreground` counts labelled voxels in Fortran order."""
    flat = voxels.ravel(order="F")
    generator = np.random.default_rng(0)
    labelled = flat[:0] if foreground is None else flat[_draw(foreground, POOLED_SAMPLE, generator)]
    flat = _finite(flat)
    sample = _draw(flat, CASE_SAMPLE, generator).astype(np.float64)
    return Channel(
        minimum=float(flat.min()),
        maximum=float(flat.max()),
        percentiles=tuple(np.percentile(sample, PERCENTILES).tolist()),
        sample=_draw(sample, POOLED_SAMPLE, generator),
        foreground=_finite(labelled).astype(np.float64),
    )


def _finite(values: Array) -> Array:
    if values.dtype.kind != "f" or np.isfinite(values).all():
        return values
    return values[np.isfinite(values)]


def _draw(values: Array, count: int, generator: np.random.Generator) -> Array:
    """Return so many values drawn at random, or all where there are no more."""
    if values.size <= count:
        return values
    return values[generator.integers(0, values.size, count)]


def voxel_digest(volume: Volume) -> str:
    """Hash the voxels in patient axes, so that file format, type and axis order do not matter."""
    turned = apply_orientation(volume.array, io_orientation(volume.affine))
    digest = hashlib.blake2b(str(turned.shape).encode(), digest_size=16)
    with np.errstate(over="ignore", invalid="ignore"):
        for index in range(turned.shape[2]):
            digest.update(np.ascontiguousarray(turned[:, :, index], dtype=np.float32).tobytes())
    return digest.hexdigest()


def measure_label(label: Volume, num_classes: int) -> LabelFacts:
    """Count the voxels of every class in every plane of a label map."""
    x_profile, y_profile, z_profile = (
        np.stack(list(_counts(np.moveaxis(label.array, axis, 0), num_classes))) for axis in range(3)
    )
    return LabelFacts((x_profile, y_profile, z_profile))


def _counts(planes: Array, num_classes: int) -> Iterator[Array]:
    for plane in planes:
        yield np.bincount(plane.ravel(order="K"), minlength=num_classes)
