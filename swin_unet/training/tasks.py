"""Segmentation: the loss of a batch of slices, and the score of whole volumes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from swin_unet.config import Config, TrainConfig, UserError
from swin_unet.evaluation import score_volumes, summarize
from swin_unet.imaging import Volume
from swin_unet.inference import VolumeSegmenter
from swin_unet.losses import DeepSupervisionLoss, SegmentationLoss, Total, of_one_process
from swin_unet.overlays import Picture, overlay_panel
from swin_unet.training.distributed import ALONE, World
from swin_unet.training.tables import Results, case_table
from swin_unet.training.task import Batch, Task, TaskData, Validation

NUM_PICTURES = 4
SHOWN = "image, reference, prediction, errors"


@dataclass(frozen=True)
class SegmentationData(TaskData):
    """What the engine is given of a data set with label maps.

    Batches have a "label" (B, H, W); `classes` are the names of labels 1, 2, ...

    Attributes:
        load_case: Reads image and label of a case by name.
    """

    load_case: Callable[[str], tuple[Volume, Volume]]


def supervised(model: nn.Module) -> nn.Module:
    """Put auxiliary heads on a SwinUNet."""
    from swin_unet.models.deep_supervision import DeeplySupervised

    return DeeplySupervised(model)  # type: ignore[arg-type]


def build_loss(
    config: TrainConfig,
    trained: nn.Module,
    classes: Sequence[str],
    total: Total = of_one_process,
) -> nn.Module:
    """Build the loss of a recipe.

    Args:
        config: The recipe.
        trained: What the loss is taken of; with `strides` of its outputs, if there are several.
        classes: Names of labels 1, 2, ...
        total: Adds up the sums of all processes.

    Raises:
        UserError: For another number of class weights than classes.
    """
    weights, num_classes = config.class_weights, len(classes) + 1
    if weights is not None and len(weights) != num_classes:
        raise UserError(
            "train.class_weights",
            expected=f"{num_classes} numbers: background, {', '.join(classes)}",
            found=str(len(weights)),
            fix="Give one for each.",
        )
    criterion = SegmentationLoss(
        config.loss, config.ce_weight, config.dice_weight, class_weights=weights, total=total
    )
    if not config.deep_supervision:
        return criterion
    return DeepSupervisionLoss(criterion, trained.strides)  # type: ignore[arg-type]


class SegmentationTask(Task):
    """Dice and a pixel-wise loss on slices, validated by the Dice of whole volumes.

    Args:
        model: The network, on its device.
        data: Loader and cases.
        config: The run's configuration.
        world: The processes that share the work.
    """

    metric = "dice"
    columns = ("dice", "hd95_mm")
    data: SegmentationData

    def __init__(
        self, model: nn.Module, data: SegmentationData, config: Config, world: World = ALONE
    ) -> None:
        device = next(model.parameters()).device
        trained = supervised(model).to(device) if config.train.deep_supervision else model
        super().__init__(model, trained, data, config, world)
        criterion = build_loss(config.train, trained, data.classes, world.total)
        self.criterion = criterion.to(device)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return `loss` and its parts, scalars, of a batch on the model's device."""
        losses: dict[str, Tensor] = self.criterion(self.forward(batch["image"]), batch["label"])
        return losses

    def example(self, num_samples: int) -> Batch:
        """Return a batch of zeros, to try a step with."""
        image = self.empty_images(num_samples)
        return {"image": image, "label": torch.zeros(image[:, 0].shape, dtype=torch.int64)}

    def validate(self, network: nn.Module, before_case: Callable[[], None]) -> Validation:
        """Segment the validation cases as infer.py does and score them in three dimensions."""
        pictures: dict[str, Picture] = {}

        def keep_picture(name: str, image: Volume, label: Volume, prediction: Volume) -> None:
            if len(pictures) < NUM_PICTURES:
                pictures[name] = self._picture(image, label, prediction)

        summary, _ = self.score(
            network, self.data.validation, before_case, surfaces=False, look=keep_picture
        )
        everybodys = {
            name: each for part in self.world.gather(pictures) for name, each in part.items()
        }
        shown = [name for name in self.data.validation if name in everybodys][:NUM_PICTURES]
        score = summary["mean"]["dice"] or 0.0
        per_class = {f"dice/{name}": v["dice"] for name, v in summary["per_class"].items()}
        return Validation(
            summary,
            score=score,
            values={"dice/mean": score, **per_class},
            pictures={f"{SHOWN}/{name}": everybodys[name] for name in shown},
        )

    def score(
        self,
        network: nn.Module,
        names: Sequence[str],
        before_case: Callable[[], None],
        *,
        surfaces: bool = True,
        look: Callable[[str, Volume, Volume, Volume], None] | None = None,
    ) -> tuple[dict[str, Any], float]:
        """Segment and score cases, see `Task.score`.

        Args:
            network: With the weights to use.
            names: Of the cases.
            before_case: Called before every case.
            surfaces: Compute surface distances.
            look: Shown name, image, reference and prediction of every case of this process.
        """
        segmenter = self._segmenter(network)
        classes = dict(enumerate(self.data.classes, start=1))
        records: list[dict[str, Any]] = []
        seconds = 0.0
        for name in self.world.turns(names):
            before_case()
            if name is None:
                continue
            image, label = self.data.load_case(name)
            started = time.monotonic()
            prediction = segmenter.segment(image)
            seconds += time.monotonic() - started
            scores = score_volumes(prediction, label, classes, surfaces=surfaces)
            records.append({"case": name, "metrics": scores})
            if look is not None:
                look(name, image, label, prediction)
        summary = summarize(self.world.merge(records), self.data.classes)
        return summary, sum(self.world.gather(seconds)) / max(1, len(names))

    def tables(self, results: Results) -> list[list[str]]:
        """Write the results per class, and those of the worst cases."""
        return [*super().tables(results), case_table(results["best"])]

    def _segmenter(self, network: nn.Module) -> VolumeSegmenter:
        options = self.config.inference
        return VolumeSegmenter(
            network,
            self.data.preprocessing,
            num_channels=self.data.num_channels,
            classes=self.data.classes,
            device=self.device,
            precision=options.precision,
            batch_size=options.batch_size,
            overlap=options.overlap,
        )

    def _picture(self, image: Volume, label: Volume, prediction: Volume) -> Picture:
        """Draw the slice with most reference voxels, the same in every validation."""
        prepared = self.data.preprocessing.prepare(image)
        reference = prepared.to_working(label)
        middle = int(np.count_nonzero(reference, axis=(0, 1)).argmax())
        predicted = prepared.to_working(prediction)
        grey = prepared.native_slice(middle)
        return overlay_panel(grey, reference[..., middle], predicted[..., middle])
