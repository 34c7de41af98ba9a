"""Segmenter: a volume in, its label map out, in memory that does not grow with the classes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from swin_unet import checkpoint as checkpoints
from swin_unet.config import UserError
from swin_unet.devices import autocast, choose_device
from swin_unet.imaging import PreparedVolume, Preprocessing, Volume

# Slices are processed a few at a time, so many that a slab stays below these bounds.
_INPUT_PIXELS = {"cpu": 2 * 224 * 224, "cuda": 48 * 224 * 224}
_LOGIT_VALUES = {"cpu": 2**25, "cuda": 2**28}


class Segmenter:
    """Segment volumes slab by slab: input, logits, native size, arg max, labels.

    Args:
        model: Network from (B, C, h, w) to logits (B, num_classes, h, w).
        preprocessing: How its training slices were made.
        num_channels: Channels of an image, without context slices.
        classes: Names of labels 1, 2, ...; the logits have one channel more, the background.
        device: Where the network runs.
        precision: `fp32`, `bf16` or `fp16`, of the network's matrix products.
        batch_size: Slices at a time; None: as many as suit the device and the size.
        overlap: Of neighbouring sliding windows, in [0, 1), for fit `crop`.
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
    ) -> None:
        self.device = torch.device(device)
        self.model = model.to(self.device)
        self.preprocessing = preprocessing
        self.num_channels = num_channels
        self.classes = classes
        self.num_classes = len(classes) + 1
        self.precision = precision
        self.batch_size = batch_size
        self.overlap = overlap

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        device: str = "auto",
        precision: str | None = None,
        batch_size: int | None = None,
        overlap: float | None = None,
    ) -> Segmenter:
        """Rebuild a trained network from its checkpoint.

        Args:
            path: A best.pt or last.pt.
            device: `auto`, `cpu`, `cuda` or `cuda:N`.
            precision: `fp32`, `bf16` or `fp16`; None: as in training's validation.
            batch_size: Slices at a time; None: as in training's validation.
            overlap: Of sliding windows, in [0, 1); None: as in training's validation.

        Raises:
            UserError: For a file that is not such a checkpoint.
        """
        path = Path(path)
        content = checkpoints.load(path)
        options = content["config"]["inference"]
        preprocessing = Preprocessing.from_dict(content["preprocessing"])
        in_channels = content["model_description"]["arguments"]["in_channels"]
        return cls(
            checkpoints.load_model(content, path),
            preprocessing,
            num_channels=in_channels // preprocessing.context_slices,
            classes=tuple(content["classes"]),
            device=choose_device(device),
            precision=precision or options["precision"],
            batch_size=batch_size or options["batch_size"],
            overlap=options["overlap"] if overlap is None else overlap,
        )

    def segment(self, image: Volume, progress: str | None = None) -> Volume:
        """Segment a volume.

        Args:
            image: Voxels (X, Y, Z), or (X, Y, Z, C) for several channels.
            progress: Title of a progress bar on a terminal; None: no bar.

        Returns:
            Labels (X, Y, Z) on the same grid, uint8, or uint16 for more than 256 classes.

        Raises:
            UserError: When the volume's channels are not those of the training data.
        """
        self._check_channels(image)
        prepared = self.preprocessing.prepare(image)
        dtype = np.uint8 if self.num_classes <= 256 else np.uint16
        labels = np.empty((*prepared.slice_size, prepared.num_slices), dtype=dtype, order="F")
        hidden = progress is None or not sys.stderr.isatty()
        with tqdm(total=prepared.num_slices, desc=progress, leave=False, disable=hidden) as bar:
            for start, slab in self.slabs(prepared):
                labels[..., start : start + len(slab)] = np.moveaxis(slab, 0, -1)
                bar.update(len(slab))
        return replace(image, array=prepared.restore(labels))

    def slabs(self, prepared: PreparedVolume) -> Iterator[tuple[int, np.ndarray[Any, Any]]]:
        """Yield (first slice, labels (n, H, W) at native size) until the volume is done."""
        dtype = torch.uint8 if self.num_classes <= 256 else torch.int32
        batch_size = self.batch_size or self._batch_size(prepared)
        was_training = self.model.training
        self.model.eval()
        try:
            for start in range(0, prepared.num_slices, batch_size):
                stop = min(start + batch_size, prepared.num_slices)
                logits = self.logits(prepared.slab(start, stop), prepared.slice_size)
                yield start, logits.argmax(dim=1).to(dtype).cpu().numpy()
        finally:
            self.model.train(was_training)

    @torch.inference_mode()
    def logits(self, slab: Tensor, slice_size: tuple[int, int]) -> Tensor:
        """Compute logits (n, K, H, W) at native size of input slices (n, C, h, w)."""
        slab = slab.to(self.device)
        with autocast(self.device, self.precision):
            logits = self._slide(slab) if self.preprocessing.fit == "crop" else self.model(slab)
        if logits.shape[-2:] == slice_size:
            return logits
        shrinks = logits.shape[-2] > slice_size[0] or logits.shape[-1] > slice_size[1]
        return F.interpolate(logits.float(), slice_size, mode="bilinear", antialias=shrinks)

    def _slide(self, slab: Tensor) -> Tensor:
        """Average overlapping windows of the trained crop size, weighted towards their centres."""
        from monai.inferers import sliding_window_inference

        logits = sliding_window_inference(
            slab,
            roi_size=self.preprocessing.image_size,
            sw_batch_size=len(slab),
            predictor=self.model,
            overlap=self.overlap,
            mode="gaussian",
            padding_mode="replicate",
        )
        assert isinstance(logits, Tensor)
        return logits

    def _batch_size(self, prepared: PreparedVolume) -> int:
        height, width = prepared.input_size
        logit_values = self.num_classes * prepared.slice_size[0] * prepared.slice_size[1]
        by_input = round(_INPUT_PIXELS[self.device.type] / (height * width))
        by_logits = _LOGIT_VALUES[self.device.type] // logit_values
        return max(1, min(by_input, by_logits))

    def _check_channels(self, image: Volume) -> None:
        if image.num_channels != self.num_channels:
            raise UserError(
                image.path or "volume",
                expected=f"{self.num_channels} image channel(s), as in training",
                found=str(image.num_channels),
                fix="Give the same channels in the same order, as NAME_0000, NAME_0001, ... "
                "or as one 4D file.",
            )
