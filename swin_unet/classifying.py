"""SliceClassifier: a volume or picture in, the probabilities of its slices out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from swin_unet import checkpoint as checkpoints
from swin_unet.config import UserError
from swin_unet.devices import autocast, choose_device
from swin_unet.imaging import PreparedVolume, Preprocessing, Volume, with_colours

_INPUT_PIXELS = {"cpu": 4 * 224 * 224, "cuda": 128 * 224 * 224}  # of a batch
Array = np.ndarray[Any, Any]


class SliceClassifier:
    """Classify every slice of a volume; a picture is one slice.

    Args:
        model: Network from (B, C, h, w) to logits (B, num_classes).
        preprocessing: How its training slices were made.
        num_channels: Channels of an image, without context slices.
        classes: Names of the classes.
        multi_label: Whether several classes may be true at once.
        device: Where the network runs.
        precision: `fp32`, `bf16` or `fp16`, of the network's matrix products.
        batch_size: Slices at a time; None: as many as suit the device and the size.
    """

    def __init__(
        self,
        model: nn.Module,
        preprocessing: Preprocessing,
        *,
        num_channels: int,
        classes: tuple[str, ...],
        multi_label: bool,
        device: torch.device | str = "cpu",
        precision: str = "fp32",
        batch_size: int | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.model = model.to(self.device)
        self.preprocessing = preprocessing
        self.num_channels = num_channels
        self.classes = classes
        self.multi_label = multi_label
        self.precision = precision
        height, width = preprocessing.image_size
        fitting = _INPUT_PIXELS[self.device.type] // (height * width)
        self.batch_size = batch_size or max(1, fitting)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        device: str = "auto",
        precision: str | None = None,
        batch_size: int | None = None,
    ) -> SliceClassifier:
        """Rebuild a trained network from its checkpoint.

        Args:
            path: A best.pt or last.pt.
            device: `auto`, `cpu`, `cuda` or `cuda:N`.
            precision: `fp32`, `bf16` or `fp16`; None: as in training's validation.
            batch_size: Slices at a time; None: as in training's validation.

        Raises:
            UserError: For a file that is not a checkpoint of a classification.
        """
        path = Path(path)
        content = checkpoints.load(path)
        checkpoints.check_task(content, path, "classification")
        options = content["config"]["inference"]
        preprocessing = Preprocessing.from_dict(content["preprocessing"])
        in_channels = content["model_description"]["arguments"]["in_channels"]
        return cls(
            checkpoints.load_model(content, path),
            preprocessing,
            num_channels=in_channels // preprocessing.context_slices,
            classes=tuple(content["classes"]),
            multi_label=content["multi_label"],
            device=choose_device(device),
            precision=precision or options["precision"],
            batch_size=batch_size or options["batch_size"],
        )

    def classify(self, image: Volume) -> Array:
        """Return the probabilities (S, num_classes) of a volume's slices.

        Raises:
            UserError: When the volume's channels are not those of the training data.
        """
        slabs = self.slabs(self.prepare(image))
        return np.concatenate([self.probabilities(slab) for slab in slabs])

    def prepare(self, image: Volume) -> PreparedVolume:
        """Bring a volume to the working orientation; a grey picture to three channels, if need be.

        Raises:
            UserError: When the volume's channels are not those of the training data.
        """
        if self.num_channels == 3 and not image.has_spacing:
            image = with_colours(image)
        if image.num_channels != self.num_channels:
            raise UserError(
                image.label,
                expected=f"{self.num_channels} image channel(s), as in training",
                found=str(image.num_channels),
                fix="Give the same channels in the same order.",
            )
        return self.preprocessing.prepare(image)

    def slabs(self, prepared: PreparedVolume) -> Iterator[Tensor]:
        """Yield network input (n, C, h, w), a batch of slices at a time."""
        for start in range(0, prepared.num_slices, self.batch_size):
            yield prepared.slab(start, min(start + self.batch_size, prepared.num_slices))

    @torch.inference_mode()
    def probabilities(self, slab: Tensor) -> Array:
        """Return the probabilities (n, num_classes) of network input (n, C, h, w)."""
        was_training = self.model.training
        self.model.eval()
        try:
            with autocast(self.device, self.precision):
                logits = self.model(slab.to(self.device)).float()
        finally:
            self.model.train(was_training)
        activated = logits.sigmoid() if self.multi_label else logits.softmax(dim=1)
        probabilities: Array = activated.cpu().numpy()
        return probabilities
