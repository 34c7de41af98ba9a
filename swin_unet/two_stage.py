"""Segment in two stages: a coarse model finds the region, a fine one looks at its pixels only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from swin_unet.config import UserError
from swin_unet.imaging import PreparedVolume, Volume
from swin_unet.inference import Segmenter, VolumeSegmenter
from swin_unet.inference.prediction import Prediction, SlabMap

Box = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class PreparedTwice(PreparedVolume):
    """A volume prepared for the fine model and for the coarse one.

    Attributes:
        coarse: For the coarse one.
    """

    coarse: PreparedVolume


class TwoStageSegmenter(VolumeSegmenter):
    """A segmenter that looks only where a coarse one found something.

    The fine model sees native pixels (fit `crop`), normalised by the whole volume as in training,
    in the box around what the coarse model found; the box's labels are put back in their place,
    everything outside is background. Where the coarse model finds nothing, the fine model looks at
    everything.

    Args:
        fine: Makes the label map.
        coarse: Finds the region: all classes that both models know, or all it has if they share
            none; of each its largest connected part.
        margin: Share of the region's sides that is added on each side. The box is never smaller
            than the fine model's training crops.

    Raises:
        UserError: For models of different channels, or a fine one that was trained on whole slices.
    """

    def __init__(
        self, fine: VolumeSegmenter, coarse: VolumeSegmenter, *, margin: float = 0.25
    ) -> None:
        _check_pair(fine, coarse)
        super().__init__(
            fine.model,
            fine.preprocessing,
            num_channels=fine.num_channels,
            classes=fine.classes,
            device=fine.device,
            precision=fine.precision,
            batch_size=fine.batch_size,
            overlap=fine.overlap,
            scales=fine.scales,
            cleanup=fine.cleanup,
        )
        self.coarse = coarse
        self.margin = margin
        shared = [n for n, name in enumerate(coarse.classes, start=1) if name in fine.classes]
        self.coarse_labels = shared or list(range(1, coarse.num_classes))

    def prepare(self, image: Volume) -> PreparedTwice:
        """Prepare a volume for both models; see `VolumeSegmenter.prepare`."""
        fine = super().prepare(image)
        content = {item.name: getattr(fine, item.name) for item in fields(fine)}
        return PreparedTwice(**content, coarse=self.coarse.prepare(image))

    def predict(
        self,
        prepared: PreparedVolume,
        progress: str | None = None,
        maps: Sequence[SlabMap] = (),
    ) -> Prediction:
        """Run both networks; there are no logits, and so no maps, of what is outside the box."""
        assert not maps
        return self.predict_with_box(prepared, progress)[0]

    def segment_with_box(self, image: Volume, progress: str | None = None) -> tuple[Volume, Box]:
        """Segment a volume and say where the fine model looked.

        Returns:
            Labels on the image's grid, and the box in working orientation (rows, columns, slices).
        """
        prediction, box = self.predict_with_box(self.prepare(image), progress)
        return self.finish(image, prediction), box

    def predict_with_box(
        self, prepared: PreparedVolume, progress: str | None
    ) -> tuple[Prediction, Box]:
        """Run both networks and say where the fine model looked."""
        assert isinstance(prepared, PreparedTwice)
        found = self.coarse.predict(prepared.coarse, progress and f"{progress}, coarse")
        box = self.find_box(prepared.to_working_array(found.restore()), prepared)
        prediction = Prediction.empty(prepared, self.num_classes)
        prediction.labels[...] = 0
        for slices, part in self._look(prepared, box):
            prediction.labels[box[0], box[1], slices] = np.moveaxis(part, 0, -1)
        return prediction, box

    def find_box(self, found: np.ndarray[Any, Any], prepared: PreparedVolume) -> Box:
        """Return where to look, given the coarse labels (H, W, S) in working orientation."""
        from swin_unet.models.localizer import extend

        sizes = (*prepared.slice_size, prepared.num_slices)
        region = region_of(found, self.coarse_labels)
        if region is None:
            return slice(0, sizes[0]), slice(0, sizes[1]), slice(0, sizes[2])
        # Never less than a training crop: the fine model knows nothing of smaller views.
        least = [*self._crop_pixels(prepared), 1.0]
        rows, columns, slices = (
            slice(*extend(part.start, part.stop, size, margin=self.margin, min_share=pixels / size))
            for part, size, pixels in zip(region, sizes, least, strict=True)
        )
        return rows, columns, slices

    def _crop_pixels(self, prepared: PreparedVolume) -> list[float]:
        """Return height and width of a training crop in native pixels."""
        settings = prepared.preprocessing
        wanted = settings.spacing_mm or prepared.spacing_mm
        return [
            min(float(size), pixels * target / native)
            for size, pixels, target, native in zip(
                prepared.slice_size, settings.image_size, wanted, prepared.spacing_mm, strict=True
            )
        ]

    def _look(
        self, prepared: PreparedVolume, box: Box
    ) -> Iterator[tuple[slice, np.ndarray[Any, Any]]]:
        """Yield slices of the volume and labels (n, h, w) of the box in them."""
        rows, columns, slices = box
        # Context slices beyond the box's ends are real ones, as long as the volume has them.
        reach = prepared.preprocessing.context_slices // 2
        first, last = max(0, slices.start - reach), min(prepared.num_slices, slices.stop + reach)
        crop = replace(prepared, voxels=prepared.voxels[:, rows, columns, first:last])
        for start, logits in self.slabs(crop):
            labels = self.labels(logits, crop.slice_size)
            begin = max(slices.start, first + start)
            end = min(slices.stop, first + start + len(labels))
            if begin < end:
                yield slice(begin, end), labels[begin - first - start : end - first - start]


def region_of(labels: np.ndarray[Any, Any], wanted: list[int]) -> Box | None:
    """Return the box around the largest connected part of every wanted label, None without any."""
    from scipy.ndimage import find_objects, label

    boxes = []
    for value in wanted:
        parts, count = label(labels == value)
        if count:
            largest = int(np.bincount(parts.ravel())[1:].argmax())
            boxes.append(find_objects(parts)[largest])
    if not boxes:
        return None
    rows, columns, slices = (
        slice(min(part.start for part in axis), max(part.stop for part in axis))
        for axis in zip(*boxes, strict=True)
    )
    return rows, columns, slices


def load_two_stage(fine: VolumeSegmenter, coarse_path: Path) -> TwoStageSegmenter:
    """Put a coarse model from a checkpoint before a fine one, on the same device."""
    return TwoStageSegmenter(fine, Segmenter(coarse_path, device=str(fine.device)))


def _check_pair(fine: VolumeSegmenter, coarse: VolumeSegmenter) -> None:
    if fine.preprocessing.fit != "crop":
        raise UserError(
            "--coarse",
            expected="a fine checkpoint trained on native pixels (data.fit crop)",
            found="one trained on whole slices (data.fit resize)",
            fix="Train the fine model with --data.fit crop; the coarse one may have any fit.",
        )
    if fine.num_channels != coarse.num_channels:
        raise UserError(
            "--coarse",
            expected=f"a model of {fine.num_channels} image channel(s), as the fine one",
            found=str(coarse.num_channels),
            fix="Train both on the same channels.",
        )
