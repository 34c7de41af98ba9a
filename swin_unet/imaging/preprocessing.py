"""Volumes to network input and label maps back: orientation, intensity, context slices, size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from nibabel.orientations import aff2axcodes

from swin_unet.config import DataConfig, UserError
from swin_unet.imaging.intensity import IntensityRange, measure_range, rescale
from swin_unet.imaging.orientation import (
    WORKING_CODES,
    as_tensor,
    axis_order,
    reorient_array,
)
from swin_unet.imaging.planes import Plane
from swin_unet.imaging.volume import Volume

if TYPE_CHECKING:
    import torch

Resize = Callable[["torch.Tensor", tuple[int, int]], "torch.Tensor"]
DEFAULT_PERCENTILES = (0.5, 99.5)


def resize_images(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize (N, C, H, W) float images bilinearly, antialiased where they shrink."""
    from torch.nn.functional import interpolate

    if tuple(images.shape[2:]) == tuple(size):
        return images
    return interpolate(images, size=size, mode="bilinear", antialias=True)


@dataclass(frozen=True)
class Preprocessing:
    """The settings that training and inference must share; they travel in the checkpoint.

    Attributes: as in DataConfig; `window` is set for intensity `window`, `percentiles` otherwise.
    """

    plane: Plane
    context_slices: int
    intensity: Literal["window", "percentile", "zscore"]
    window: tuple[float, float] | None
    percentiles: tuple[float, float] | None
    fit: Literal["resize", "crop"]
    image_size: tuple[int, int]
    spacing_mm: tuple[float, float] | None

    @classmethod
    def from_config(cls, config: DataConfig, plane: Plane | None = None) -> Preprocessing:
        """Take the settings of the data section and fill in the default percentiles.

        Args:
            config: The data section.
            plane: What `auto` stands for; needed with it only.
        """
        chosen = plane if config.plane == "auto" else config.plane
        assert chosen is not None, "`auto` is for the caller to resolve, see imaging.thick_plane"
        windowed = config.intensity == "window"
        if windowed and config.window is None:
            raise UserError(
                "data.window",
                expected="low and high, as data.intensity is window",
                found="no value",
                fix="Give one, for example --data.window '[-125, 275]' for an abdominal CT.",
            )
        return cls(
            plane=chosen,
            context_slices=config.context_slices,
            intensity=config.intensity,
            window=config.window,
            percentiles=None if windowed else config.percentiles or DEFAULT_PERCENTILES,
            fit=config.fit,
            image_size=config.image_size,
            spacing_mm=config.spacing_mm,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as lists, numbers and strings."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, settings: dict[str, Any]) -> Preprocessing:
        """Undo `to_dict`."""
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in settings.items()
        }
        return cls(**values)

    def prepare(self, image: Volume) -> PreparedVolume:
        """Bring a volume to the working orientation and measure its intensities.

        The voxels stay where they are; slices are converted when `PreparedVolume.slab` is called.
        """
        file_codes = "".join(aff2axcodes(image.affine))
        working_codes = WORKING_CODES[self.plane]
        array = image.array if image.array.ndim == 4 else image.array[..., None]
        voxels = np.moveaxis(reorient_array(array, file_codes, working_codes), -1, 0)
        rows, columns, _ = axis_order(file_codes, working_codes)
        return PreparedVolume(
            voxels=voxels,
            ranges=tuple(self._measure(channel) for channel in voxels),
            spacing_mm=(image.spacing_mm[rows], image.spacing_mm[columns]),
            file_codes=file_codes,
            file_shape=image.shape,
            preprocessing=self,
        )

    def _measure(self, channel: np.ndarray[Any, Any]) -> IntensityRange:
        """Say how one channel (H, W, S) is to be mapped."""
        if self.intensity == "window":
            assert self.window is not None
            return IntensityRange(*self.window)
        assert self.percentiles is not None
        return measure_range(channel, self.intensity, self.percentiles)


@dataclass(frozen=True, eq=False)
class PreparedVolume:
    """A volume in working orientation: rows run down, columns to the right, slices last.

    Attributes:
        voxels: (C, H, W, S) in the file's data type, a view of what was read.
        ranges: How each channel's intensities are mapped.
        spacing_mm: Of rows and columns at native resolution.
        file_codes: Axis codes of the file, for the way back.
        file_shape: (X, Y, Z) of the file.
        preprocessing: The settings it was made with.
    """

    voxels: np.ndarray[Any, Any]
    ranges: tuple[IntensityRange, ...]
    spacing_mm: tuple[float, float]
    file_codes: str
    file_shape: tuple[int, int, int]
    preprocessing: Preprocessing

    @property
    def num_slices(self) -> int:
        """Number of slices."""
        return self.voxels.shape[3]

    @property
    def slice_size(self) -> tuple[int, int]:
        """Native (height, width) of a slice in pixels."""
        return self.voxels.shape[1], self.voxels.shape[2]

    @property
    def input_size(self) -> tuple[int, int]:
        """Size (height, width) of the slices that `slab` returns."""
        settings = self.preprocessing
        if settings.fit == "resize":
            return settings.image_size
        if settings.spacing_mm is None:
            return self.slice_size
        height, width = (
            max(1, round(size * native / wanted))
            for size, native, wanted in zip(
                self.slice_size, self.spacing_mm, settings.spacing_mm, strict=True
            )
        )
        return height, width

    def slab(
        self,
        start: int,
        stop: int,
        *,
        device: torch.device | str = "cpu",
        resize: Resize = resize_images,
        size: tuple[int, int] | None = None,
    ) -> torch.Tensor:
        """Return slices [start, stop) as network input.

        Args:
            start: First slice.
            stop: The slice after the last.
            device: Where slices are normalised and resized.
            resize: From (n, C, H, W) at native resolution to the size given.
            size: Height and width; None: `input_size`.

        Returns:
            (stop - start, C * context_slices, h, w) float32; for each context offset from the
            lowest to the highest all channels. Edge slices are repeated.
        """
        import torch

        reach = self.preprocessing.context_slices // 2
        first, last = max(0, start - reach), min(self.num_slices, stop + reach)
        slices = self._normalize(self.voxels[..., first:last], device)  # (n, C, H, W)
        slices = resize(slices, size or self.input_size)
        if not reach:
            return slices
        index = context_index(torch.arange(start, stop), reach, self.num_slices) - first
        return slices[index].flatten(1, 2)  # (n, offsets, C, h, w) -> (n, offsets * C, h, w)

    def native_slice(self, index: int) -> np.ndarray[Any, Any]:
        """Return the first channel of a slice (H, W), normalised, at native size, to look at."""
        return self._normalize(self.voxels[..., index : index + 1])[0, 0].numpy()

    def to_working(self, labels: Volume) -> np.ndarray[Any, Any]:
        """Bring a label map on the image's grid to the working orientation.

        Returns:
            (H, W, S) at native resolution, in the labels' data type.
        """
        return self.to_working_array(labels.array)

    def to_working_array(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Show an array (X, Y, Z) or (X, Y, Z, K) in the working orientation, a view."""
        assert array.shape[:3] == self.file_shape
        return reorient_array(array, self.file_codes, self._working_codes)

    def labels_slab(
        self, labels: np.ndarray[Any, Any], start: int, stop: int
    ) -> np.ndarray[Any, Any]:
        """Return reference labels for slices [start, stop) at input size, nearest neighbour.

        Args:
            labels: (H, W, S) as `to_working` returns them.
            start: First slice.
            stop: The slice after the last.

        Returns:
            (stop - start, h, w) in the labels' data type.
        """
        rows, columns = (
            _nearest(native, size)
            for native, size in zip(self.slice_size, self.input_size, strict=True)
        )
        slices = np.moveaxis(labels[..., start:stop], -1, 0)
        return slices[:, rows[:, None], columns]

    def restore(self, labels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Bring labels (H, W, S) at native resolution back to the file's (X, Y, Z), exactly."""
        assert labels.shape == (*self.slice_size, self.num_slices)
        return reorient_array(labels, self._working_codes, self.file_codes)

    @property
    def _working_codes(self) -> str:
        return WORKING_CODES[self.preprocessing.plane]

    def _normalize(
        self, voxels: np.ndarray[Any, Any], device: torch.device | str = "cpu"
    ) -> torch.Tensor:
        """Map (C, H, W, n) voxels to (n, C, H, W) float32 by each channel's range."""
        import torch

        slices = as_tensor(np.ascontiguousarray(np.moveaxis(voxels, -1, 0))).to(device)
        return torch.stack([
            rescale(slices[:, channel], intensity)
            for channel, intensity in enumerate(self.ranges)
        ], dim=1)  # fmt: skip


def context_index(slices: torch.Tensor, reach: int, num_slices: int) -> torch.Tensor:
    """Return for n slices the (n, 2 * reach + 1) slices around each, edges repeated."""
    import torch

    offsets = torch.arange(-reach, reach + 1)
    return (slices[:, None] + offsets).clamp(0, num_slices - 1)


def _nearest(native: int, size: int) -> np.ndarray[Any, Any]:
    """Return for each of `size` pixels the native pixel whose area holds its centre."""
    return ((np.arange(size) * 2 + 1) * native) // (2 * size)
