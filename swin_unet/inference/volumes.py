"""A volume in, its label map out, a few slices at a time."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from swin_unet.compiled import CompiledForward
from swin_unet.config import UserError
from swin_unet.devices import autocast
from swin_unet.imaging import PreparedVolume, Preprocessing, Volume, read_image
from swin_unet.inference.ahead import Ahead
from swin_unet.inference.averaging import mean
from swin_unet.inference.cleanup import Cleanup
from swin_unet.inference.linear import packed_linears
from swin_unet.inference.prediction import Prediction, SlabMap
from swin_unet.inference.protocols import RESIZING, resize_logits

# Slices are processed a few at a time, so many that a slab stays below these bounds.
_INPUT_PIXELS = {"cpu": 2 * 224 * 224, "cuda": 48 * 224 * 224}
_LOGIT_VALUES = {"cpu": 2**23, "cuda": 2**28}


class VolumeSegmenter:
    """Segment volumes slab by slab: input, logits, native size, largest logit, labels.

    Args:
        model: Network from (B, C, h, w) to logits (B, num_classes, h, w).
        preprocessing: How its training slices were made.
        num_channels: Channels of an image, without context slices.
        classes: Names of labels 1, 2, ...; the logits have one channel more, the background.
        device: Where the network runs.
        precision: `fp32`, `bf16` or `fp16`, of the network's matrix products.
        batch_size: Slices at a time; None: as many as suit the device and the size.
        overlap: Of neighbouring sliding windows, in [0, 1), for fit `crop`.
        scales: Sizes of the network's input relative to training's; logits are averaged.
        cleanup: What is removed of the labels.
        protocol: `paper` resizes as the original Swin-Unet did, see `inference.protocols`.
        compile: Run the network by torch.compile; where that fails, without it.
    """

    def __init__(
        self,
        model: nn.Module,
        preprocessing: Preprocessing,
        *,
        num_channels: int,
        classes: tuple[str, ...],
        device: torch.device | str = "cpu",
        precision: str = "fp32",
        batch_size: int | None = None,
        overlap: float = 0.5,
        scales: Sequence[float] = (1.0,),
        cleanup: Cleanup | None = None,
        protocol: Literal["strict", "paper"] = "strict",
        compile: bool = False,
    ) -> None:
        self.device = torch.device(device)
        self.model = model.to(self.device)
        self._compiled = CompiledForward(self.model, _warn) if compile else None
        self.preprocessing = preprocessing
        self.num_channels = num_channels
        self.classes = classes
        self.num_classes = len(classes) + 1
        self.precision = precision
        self.batch_size = batch_size
        self.overlap = overlap
        self.scales = tuple(scales)
        self.cleanup = cleanup or Cleanup()
        self.protocol = protocol
        self._resizing = RESIZING[protocol]

    def segment(
        self, image: Volume | str | Path | Sequence[str | Path], progress: str | None = None
    ) -> Volume:
        """Segment a volume.

        Args:
            image: A file or DICOM folder, one file per channel, or voxels (X, Y, Z), for several
                channels (X, Y, Z, C), with their affine.
            progress: Title of a progress bar on a terminal; None: no bar.

        Returns:
            Labels (X, Y, Z) on the same grid, uint8, or uint16 for more than 256 classes.

        Raises:
            UserError: For files that cannot be read, and other channels than in training.
        """
        if not isinstance(image, Volume):
            image = read_image([image] if isinstance(image, str | Path) else image)
        return self.finish(image, self.predict(self.prepare(image), progress))

    def prepare(self, image: Volume) -> PreparedVolume:
        """Bring a volume to the working orientation and measure its intensities.

        Raises:
            UserError: For other channels than in training.
        """
        if image.num_channels != self.num_channels:
            raise UserError(
                image.path or "volume",
                expected=f"{self.num_channels} image channel(s), as in training",
                found=str(image.num_channels),
                fix="Give the same channels in the same order, as NAME_0000, NAME_0001, ... "
                "or as one 4D file.",
            )
        return self.preprocessing.prepare(image)

    def predict(
        self,
        prepared: PreparedVolume,
        progress: str | None = None,
        maps: Sequence[SlabMap] = (),
    ) -> Prediction:
        """Run the network over a volume.

        Args:
            prepared: By `prepare`.
            progress: Title of a progress bar on a terminal; None: no bar.
            maps: Take the logits of every slab, to disk.
        """
        prediction = Prediction.empty(prepared, self.num_classes)
        hidden = progress is None or not sys.stderr.isatty()
        with tqdm(total=prepared.num_slices, desc=progress, leave=False, disable=hidden) as bar:
            for start, logits in self.slabs(prepared):
                logits = self._give(logits, prepared.slice_size, start, maps)
                labels = self.labels(logits, prepared.slice_size)
                prediction.put(start, labels)
                bar.update(len(labels))
        return prediction

    def finish(self, image: Volume, prediction: Prediction) -> Volume:
        """Return the labels, cleaned up, in the axis order of the image's file."""
        labels = prediction.restore()
        if self.cleanup.is_needed:
            self.cleanup.apply(labels, image)
        return replace(image, array=labels)

    def slabs(self, prepared: PreparedVolume) -> Iterator[tuple[int, Tensor]]:
        """Yield (first slice, logits (n, K, h, w) of `input_size`) until the volume is done."""
        was_training = self.model.training
        self.model.eval()
        try:
            with (
                self._packed(),
                Ahead(self._inputs(prepared)) as inputs,
            ):
                for start, slabs in inputs:
                    yield start, self.logits(slabs)
        finally:
            self.model.train(was_training)

    def _packed(self) -> AbstractContextManager[object]:
        """Pack the weights; a compiled network has packed its own."""
        if self._compiled is not None:
            return nullcontext()
        return packed_linears(self.model, self.device, self.precision)

    def _inputs(self, prepared: PreparedVolume) -> Iterator[tuple[int, list[Tensor]]]:
        """Yield (first slice, network inputs (n, C, h, w), one per scale)."""
        batch_size = self.batch_size or self._batch_size(prepared)
        sizes = [_scaled(prepared.input_size, scale) for scale in self.scales]
        for start in range(0, prepared.num_slices, batch_size):
            stop = min(start + batch_size, prepared.num_slices)
            slabs = []
            for size in sizes:
                with torch.inference_mode():
                    slabs.append(
                        prepared.slab(
                            start,
                            stop,
                            device=self.device,
                            resize=self._resizing.images,
                            size=size,
                        )
                    )
            yield start, slabs

    @torch.inference_mode()
    def logits(self, slabs: Sequence[Tensor]) -> Tensor:
        """Compute logits (n, K, h, w) of input slices (n, C, h, w), given in every scale.

        The largest scale's size is that of the result.
        """
        size = max((slab.shape[-2], slab.shape[-1]) for slab in slabs)
        return mean(resize_logits(self._forward(slab), size) for slab in slabs)

    def _forward(self, slab: Tensor) -> Tensor:
        """Run the network; where memory does not suffice, on fewer slices at a time."""
        try:
            with autocast(self.device, self.precision):
                if self.preprocessing.fit == "crop":
                    return self._slide(slab)
                logits: Tensor = (self._compiled or self.model)(slab)
                return logits
        except torch.OutOfMemoryError:
            if len(slab) == 1:
                raise
        half = len(slab) // 2
        torch.cuda.empty_cache()
        return torch.cat([self._forward(slab[:half]), self._forward(slab[half:])])

    def _slide(self, slab: Tensor) -> Tensor:
        """Average overlapping windows of the trained crop size, weighted towards their centres."""
        from monai.inferers import sliding_window_inference

        logits = sliding_window_inference(
            slab,
            roi_size=self.preprocessing.image_size,
            sw_batch_size=len(slab),
            predictor=self._compiled or self.model,
            overlap=self.overlap,
            mode="gaussian",
            padding_mode="replicate",
        )
        assert isinstance(logits, Tensor)
        return logits

    @torch.inference_mode()
    def labels(self, logits: Tensor, slice_size: tuple[int, int]) -> np.ndarray[Any, Any]:
        """Return labels (n, H, W) at native size of logits (n, K, h, w)."""
        return self._resizing.labels(logits, slice_size).cpu().numpy()

    @torch.inference_mode()
    def _give(
        self, logits: Tensor, slice_size: tuple[int, int], start: int, maps: Sequence[SlabMap]
    ) -> Tensor:
        """Give logits at native size to the maps, if there are any, and return them."""
        if not maps:
            return logits
        assert self.protocol == "strict", "the paper's labels are not those of native logits"
        logits = resize_logits(logits, slice_size)
        for each in maps:
            each.put(start, logits)
        return logits

    def _batch_size(self, prepared: PreparedVolume) -> int:
        height, width = prepared.input_size
        logit_values = self.num_classes * prepared.slice_size[0] * prepared.slice_size[1]
        by_input = round(_INPUT_PIXELS[self.device.type] / (height * width * max(self.scales) ** 2))
        by_logits = _LOGIT_VALUES[self.device.type] // logit_values
        return max(1, min(by_input, by_logits))


def _scaled(size: tuple[int, int], scale: float) -> tuple[int, int]:
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)
