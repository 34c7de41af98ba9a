"""SimMIM: fill in masked images, without labels."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from swin_unet.config import Config
from swin_unet.devices import autocast
from swin_unet.imaging import PreparedVolume, Volume
from swin_unet.masks import random_mask
from swin_unet.models.simmim import SimMIM
from swin_unet.overlays import Picture, to_grey
from swin_unet.training.distributed import ALONE, World
from swin_unet.training.task import Batch, Task, TaskData, Validation

NUM_PICTURES = 4
SHOWN = "input, mask, reconstruction"
BATCH_SIZE = 8  # slices at a time in validation


@dataclass(frozen=True)
class PretrainingData(TaskData):
    """What the engine is given of a data set without labels.

    Batches have a "mask" (B, h, w) of tokens, 1 where hidden.

    Attributes:
        load_case: Reads the image of a case by name.
    """

    load_case: Callable[[str], Volume]


class PretrainingTask(Task):
    """The mean error of hidden pixels, on new masks in training and on the same ones in validation.

    Args:
        model: The network, on its device.
        data: Loader and cases.
        config: The run's configuration.
        world: The processes that share the work.
    """

    metric = "error"
    columns = ("error",)
    data: PretrainingData
    model: SimMIM

    def __init__(
        self, model: SimMIM, data: PretrainingData, config: Config, world: World = ALONE
    ) -> None:
        super().__init__(model, model, data, config, world)
        patch = config.model.patch_size
        height, width = data.preprocessing.image_size
        self.tokens = height // patch, width // patch
        self.tokens_per_patch = config.simmim.mask_patch_size // patch

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the mean absolute error of what is hidden in a batch on the model's device."""
        # As much is hidden of every image: the mean over processes is that over all pixels.
        return {"loss": self.mean_of_all(self.forward(batch["image"], batch["mask"])["loss"])}

    def example(self, num_samples: int) -> Batch:
        """Return a batch of zeros, to try a step with."""
        image = self.empty_images(num_samples)
        return {"image": image, "mask": torch.ones(num_samples, *self.tokens)}

    def validate(self, network: nn.Module, before_case: Callable[[], None]) -> Validation:
        """Fill in the validation cases, the same masks every time."""
        pictures: dict[str, Picture] = {}

        def keep_picture(name: str, picture: Picture) -> None:
            if len(pictures) < NUM_PICTURES:
                pictures[name] = picture

        summary, _ = self.score(network, self.data.validation, before_case, look=keep_picture)
        everybodys = {
            name: each for part in self.world.gather(pictures) for name, each in part.items()
        }
        shown = [name for name in self.data.validation if name in everybodys][:NUM_PICTURES]
        error = summary["mean"]["error"]
        return Validation(
            summary,
            score=0.0 if error is None else 1 / (1 + error),  # best.pt has the least error
            values={"error/mean": error},
            pictures={f"{SHOWN}/{name}": everybodys[name] for name in shown},
        )

    @torch.inference_mode()
    def score(
        self,
        network: nn.Module,
        names: Sequence[str],
        before_case: Callable[[], None],
        *,
        surfaces: bool = True,
        look: Callable[[str, Picture], None] | None = None,
    ) -> tuple[dict[str, Any], float]:
        """Fill in cases, see `Task.score`; there are no surfaces.

        Args:
            network: With the weights to use.
            names: Of the cases.
            before_case: Called before every case.
            surfaces: There are none.
            look: Shown name and picture of every case of this process.
        """
        assert isinstance(network, SimMIM)
        records: list[dict[str, Any]] = []
        seconds = 0.0
        for name in self.world.turns(names):
            before_case()
            if name is None:
                continue
            prepared = self.data.preprocessing.prepare(self.data.load_case(name))
            started = time.monotonic()
            records.append(
                {"case": name, "metrics": {"error": self._error(network, name, prepared)}}
            )
            seconds += time.monotonic() - started
            if look is not None:
                look(name, self._picture(network, name, prepared))
        merged = self.world.merge(records)
        errors = [record["metrics"]["error"] for record in merged]
        mean = sum(errors) / len(errors) if errors else None
        summary = {"classes": [], "per_class": {}, "mean": {"error": mean}, "cases": merged}
        return summary, sum(self.world.gather(seconds)) / max(1, len(names))

    def _error(self, network: SimMIM, name: str, prepared: PreparedVolume) -> float:
        """Return the mean error over a case's slices, each with as much hidden."""
        total = 0.0
        for start in range(0, prepared.num_slices, BATCH_SIZE):
            stop = min(start + BATCH_SIZE, prepared.num_slices)
            total += float(self._fill_in(network, name, prepared, start, stop)["loss"]) * (
                stop - start
            )
        return total / prepared.num_slices

    def _fill_in(
        self, network: SimMIM, name: str, prepared: PreparedVolume, start: int, stop: int
    ) -> dict[str, Tensor]:
        """Fill in slices [start, stop), masked by the case's name and their numbers."""
        height, width = self.data.preprocessing.image_size
        image = central_crop(prepared.slab(start, stop), (height, width)).to(self.device)
        masks = [self._mask(name, number) for number in range(start, stop)]
        mask = torch.stack(masks).to(self.device)
        was_training = network.training
        network.eval()
        with autocast(self.device, self.config.inference.precision):
            result: dict[str, Tensor] = network(image, mask)
        network.train(was_training)
        return {**result, "image": image, "mask": network.pixel_mask(mask)}

    def _mask(self, name: str, number: int) -> Tensor:
        digest = hashlib.sha256(f"{self.config.seed} {name} {number}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        ratio = self.config.simmim.mask_ratio
        return random_mask(self.tokens, ratio, generator, self.tokens_per_patch)

    def _picture(self, network: SimMIM, name: str, prepared: PreparedVolume) -> Picture:
        """Draw the middle slice: as it is, masked, and filled in."""
        middle = prepared.num_slices // 2
        result = self._fill_in(network, name, prepared, middle, middle + 1)
        images = {
            key: value[0].float().cpu().numpy() for key, value in result.items() if value.ndim
        }
        return masked_panel(
            images["target"], images["reconstruction"], images["mask"][0] > 0, images["image"]
        )


def masked_panel(
    target: np.ndarray[Any, Any],
    reconstruction: np.ndarray[Any, Any],
    hidden: np.ndarray[Any, Any],
    image: np.ndarray[Any, Any],
) -> Picture:
    """Put an image, what is left of it, and it with the hidden pixels filled in side by side.

    Args:
        target: (C, H, W), of which the middle channel is drawn.
        reconstruction: (C, H, W).
        hidden: (H, W) bool.
        image: (C, H, W); shown as it is if the target is another than it, as a fourth picture.

    Returns:
        (H', 3 * W' or 4 * W', 3) uint8, enlarged when the image is small.
    """
    middle = len(target) // 2
    limits = float(target[middle].min()), float(target[middle].max())
    whole = to_grey(target[middle], limits)
    left = np.where(hidden[..., None], np.uint8(64), whole)
    filled = to_grey(np.where(hidden, reconstruction[middle], target[middle]), limits)
    pictures = [whole, left, filled]
    if not np.array_equal(target, image):
        pictures.insert(0, to_grey(image[middle]))
    panel = np.concatenate(pictures, axis=1)
    factor = max(1, round(192 / panel.shape[0]))
    return panel.repeat(factor, axis=0).repeat(factor, axis=1)


def central_crop(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Cut the middle (h, w) out of images (B, C, H, W), smaller ones padded by their edges."""
    bottom, right = (max(0, size[axis] - images.shape[2 + axis]) for axis in (0, 1))
    padded = nn.functional.pad(images, (0, right, 0, bottom), mode="replicate")
    top, left = ((padded.shape[2 + axis] - size[axis]) // 2 for axis in (0, 1))
    return padded[..., top : top + size[0], left : left + size[1]]
