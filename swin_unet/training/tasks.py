"""What is trained: the loss of a batch, and the score of whole volumes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.utils.data import DataLoader

from swin_unet.config import Config, TrainConfig, UserError
from swin_unet.evaluation import score_volumes, summarize
from swin_unet.imaging import Preprocessing, Volume
from swin_unet.inference import VolumeSegmenter
from swin_unet.losses import DeepSupervisionLoss, SegmentationLoss, Total, of_one_process
from swin_unet.overlays import Picture, overlay_panel
from swin_unet.training.distributed import ALONE, World

NUM_PICTURES = 4


@dataclass(frozen=True)
class SegmentationData:
    """What the engine is given of a data set.

    Attributes:
        loader: Batches of {"image": (B, C, H, W), "label": (B, H, W), "case": B names}.
        set_epoch: Chooses the epoch of the loader's next iteration, and how many of its batches
            to leave out at the start.
        validation: Names of the cases that choose best.pt.
        test: Names of the cases that are scored after training and choose nothing.
        load_case: Reads image and label of a case by name.
        preprocessing: How the slices were made.
        num_channels: Channels of an image, without context slices.
        classes: Names of labels 1, 2, ...
    """

    loader: DataLoader[dict[str, Any]]
    set_epoch: Callable[[int, int], None]
    validation: Sequence[str]
    test: Sequence[str]
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
    pictures: dict[str, Picture]

    @property
    def score(self) -> float:
        """Mean Dice over cases, then classes: what best.pt maximises."""
        return self.summary["mean"]["dice"] or 0.0

    @property
    def per_class(self) -> dict[str, float | None]:
        """Mean Dice of every class, None where no case has it."""
        return {name: values["dice"] for name, values in self.summary["per_class"].items()}


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


class SegmentationTask:
    """Dice and a pixel-wise loss on slices, validated by the Dice of whole volumes.

    Args:
        model: The network, on its device.
        data: Loader and cases.
        config: The run's configuration.
        world: The processes that share the work.

    Attributes:
        model: The network; what validates, and what inference needs.
        trained: What the loss is taken of: the network, or the network with auxiliary heads.
        parallel: The same, with gradients of all processes.
        forward: How `parallel` is called; the engine may put a compiled one here.
    """

    def __init__(
        self,
        model: nn.Module,
        data: SegmentationData,
        config: Config,
        world: World = ALONE,
    ) -> None:
        self.model = model
        self.world = world
        self.data = data
        self.options = config.inference
        device = next(model.parameters()).device
        self.trained = supervised(model).to(device) if config.train.deep_supervision else model
        criterion = build_loss(config.train, self.trained, data.classes, world.total)
        self.criterion = criterion.to(device)
        self.parallel = world.parallel(self.trained)
        self.forward: Callable[[Tensor], Any] = self.parallel

    def loss(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Return `loss` and its parts, scalars, of a batch on the model's device."""
        losses: dict[str, Tensor] = self.criterion(self.forward(batch["image"]), batch["label"])
        return losses

    def without_sync(self) -> AbstractContextManager[None]:
        """Keep the gradient to this process in the block: that of all is only needed at the end."""
        if isinstance(self.parallel, nn.parallel.DistributedDataParallel):
            return self.parallel.no_sync()
        return nullcontext()

    def validate(self, network: nn.Module, before_case: Callable[[], None]) -> Validation:
        """Segment the validation cases as infer.py does and score them in three dimensions.

        Args:
            network: With the weights to validate.
            before_case: Called before every case; may raise to end it.
        """
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
        return Validation(summary, {name: everybodys[name] for name in shown})

    def score(
        self,
        network: nn.Module,
        names: Sequence[str],
        before_case: Callable[[], None],
        *,
        surfaces: bool = True,
        look: Callable[[str, Volume, Volume, Volume], None] | None = None,
    ) -> tuple[dict[str, Any], float]:
        """Segment and score cases, each by one of the processes.

        Args:
            network: With the weights to use.
            names: Of the cases.
            before_case: Called before every case, as often in every process; may raise to end it.
            surfaces: Compute surface distances.
            look: Shown name, image, reference and prediction of every case of this process.

        Returns:
            The content of metrics.json, and the mean seconds in which a case, once read, was
            segmented.
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

    def _segmenter(self, network: nn.Module) -> VolumeSegmenter:
        return VolumeSegmenter(
            network,
            self.data.preprocessing,
            num_channels=self.data.num_channels,
            classes=self.data.classes,
            device=next(network.parameters()).device,
            precision=self.options.precision,
            batch_size=self.options.batch_size,
            overlap=self.options.overlap,
        )

    def _picture(self, image: Volume, label: Volume, prediction: Volume) -> Picture:
        """Draw the slice with most reference voxels, the same in every validation."""
        prepared = self.data.preprocessing.prepare(image)
        reference = prepared.to_working(label)
        middle = int(np.count_nonzero(reference, axis=(0, 1)).argmax())
        predicted = prepared.to_working(prediction)
        grey = prepared.native_slice(middle)
        return overlay_panel(grey, reference[..., middle], predicted[..., middle])
