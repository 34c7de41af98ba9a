"""What is trained: the loss of a batch, and the score of a validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from swin_unet.config import Config
from swin_unet.evaluation import score_volumes, summarize
from swin_unet.imaging import Preprocessing, Volume
from swin_unet.inference import VolumeSegmenter
from swin_unet.losses import DiceCrossEntropyLoss
from swin_unet.overlays import overlay_panel

NUM_PICTURES = 4


@dataclass(frozen=True)
class SegmentationData:
    """What the engine is given of a data set.

    Attributes:
        loader: Batches of {"image": (B, C, H, W), "label": (B, H, W)}.
        set_epoch: Chooses the epoch of the loader's next iteration.
        validation: Names of the cases that choose best.pt.
        load_case: Reads image and label of a case by name.
        preprocessing: How the slices were made.
        num_channels: Channels of an image, without context slices.
        classes: Names of labels 1, 2, ...
    """

    loader: DataLoader[dict[str, Any]]
    set_epoch: Callable[[int], None]
    validation: Sequence[str]
    load_case: Callable[[str], tuple[Volume, Volume]]
    preprocessing: Preprocessing
    num_channels: int
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Validation:
    """The result of a validation.

    Attributes:
        summary: As in metrics.json, without surface distances.
        pictures: (H, W, 3) uint8 by name.
    """

    summary: dict[str, Any]
    pictures: dict[str, np.ndarray[Any, Any]]

    @property
    def score(self) -> float:
        """Mean Dice over cases, then classes: what best.pt maximises."""
        return self.summary["mean"]["dice"] or 0.0

    @property
    def per_class(self) -> dict[str, float | None]:
        """Mean Dice of every class, None where no case has it."""
        return {name: values["dice"] for name, values in self.summary["per_class"].items()}


class SegmentationTask:
    """Dice plus cross-entropy on slices, validated by the Dice of whole volumes.

    Args:
        model: The network, on its device.
        data: Loader and validation cases.
        config: The run's configuration.
    """

    def __init__(self, model: nn.Module, data: SegmentationData, config: Config) -> None:
        self.model = model
        self.data = data
        self.criterion = DiceCrossEntropyLoss(config.train.ce_weight, config.train.dice_weight)
        self.segmenter = VolumeSegmenter(
            model,
            data.preprocessing,
            num_channels=data.num_channels,
            classes=data.classes,
            device=next(model.parameters()).device,
            precision=config.inference.precision,
            batch_size=config.inference.batch_size,
            overlap=config.inference.overlap,
        )

    def loss(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Return `loss` and its parts, scalars, of a batch on the model's device."""
        losses: dict[str, Tensor] = self.criterion(self.model(batch["image"]), batch["label"])
        return losses

    @torch.inference_mode()
    def validate(self) -> Validation:
        """Segment the validation cases as infer.py does and score them in three dimensions."""
        classes = dict(enumerate(self.data.classes, start=1))
        records: list[dict[str, Any]] = []
        pictures: dict[str, np.ndarray[Any, Any]] = {}
        for name in self.data.validation:
            image, label = self.data.load_case(name)
            prediction = self.segmenter.segment(image)
            scores = score_volumes(prediction, label, classes, surfaces=False)
            records.append({"case": name, "metrics": scores})
            if len(pictures) < NUM_PICTURES:
                pictures[name] = self._picture(image, label, prediction)
        return Validation(summarize(records, self.data.classes), pictures)

    def _picture(self, image: Volume, label: Volume, prediction: Volume) -> np.ndarray[Any, Any]:
        """Draw the slice with most reference voxels: image, reference and prediction."""
        prepared = self.data.preprocessing.prepare(image)
        reference = prepared.to_working(label)
        middle = int(np.count_nonzero(reference, axis=(0, 1)).argmax())
        grey = prepared.native_slice(middle)
        predicted = prepared.to_working(prediction)
        return overlay_panel(grey, [reference[..., middle], predicted[..., middle]])
