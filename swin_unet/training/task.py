"""What the engine asks of a task: the loss of a batch, and how good a network is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from swin_unet.config import Config
from swin_unet.imaging import Preprocessing
from swin_unet.overlays import Picture
from swin_unet.training.distributed import ALONE, World
from swin_unet.training.tables import Results, class_table

Batch = dict[str, Any]


@dataclass(frozen=True)
class TaskData:
    """What every task is given of a data set.

    Attributes:
        loader: Batches of {"image": (B, C, H, W), "case": B names} and what else the task needs.
        set_epoch: Chooses the epoch of the loader's next iteration, and how many of its batches
            to leave out at the start.
        validation: Names of the cases that choose best.pt.
        test: Names of the cases that are scored after training and choose nothing.
        preprocessing: How the slices were made.
        num_channels: Channels of an image, without context slices.
        classes: Names of the classes.
    """

    loader: DataLoader[Batch]
    set_epoch: Callable[[int, int], None]
    validation: Sequence[str]
    test: Sequence[str]
    preprocessing: Preprocessing
    num_channels: int
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Validation:
    """The result of a validation.

    Attributes:
        summary: As in metrics.json.
        score: What best.pt maximises, at least 0.
        values: What metrics.csv and TensorBoard hold of it, by slash-separated name.
        pictures: (H, W, 3) uint8 by what they show and of which case.
    """

    summary: dict[str, Any]
    score: float
    values: dict[str, float | None]
    pictures: dict[str, Picture]


class Task(ABC):
    """A network, its data and what is to be learned.

    Args:
        model: The network, on its device.
        trained: What the loss is taken of: the network, or the network with parts that only serve
            training.
        data: Loader and cases.
        config: The run's configuration.
        world: The processes that share the work.

    Attributes:
        model: The network; what validates, and what inference needs.
        trained: As above.
        parallel: The same, with gradients of all processes.
        forward: How `parallel` is called; the engine may put a compiled one here.
        metric: What the validation's score is called in metrics.csv, before the slash.
        columns: Of the tables of results: keys of `mean` and `per_class`.
    """

    metric: str
    columns: tuple[str, ...]
    data: TaskData

    def __init__(
        self,
        model: nn.Module,
        trained: nn.Module,
        data: TaskData,
        config: Config,
        world: World = ALONE,
    ) -> None:
        self.model = model
        self.trained = trained
        self.data = data
        self.config = config
        self.world = world
        self.parallel = world.parallel(trained)
        self.forward: Callable[..., Any] = self.parallel

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.model.parameters()).device

    @property
    def checkpoint_facts(self) -> dict[str, Any]:
        """What inference must know of the task beside classes and preprocessing, plain values."""
        return {}

    @abstractmethod
    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return `loss` and its parts, scalars, of a batch on the model's device."""

    @abstractmethod
    def example(self, num_samples: int) -> Batch:
        """Return a batch of zeros, to try a step with."""

    @abstractmethod
    def validate(self, network: nn.Module, before_case: Callable[[], None]) -> Validation:
        """Score the validation cases.

        Args:
            network: With the weights to validate.
            before_case: Called before every case, as often in every process; may raise to end it.
        """

    @abstractmethod
    def score(
        self,
        network: nn.Module,
        names: Sequence[str],
        before_case: Callable[[], None],
        *,
        surfaces: bool = True,
    ) -> tuple[dict[str, Any], float]:
        """Score cases, each by one of the processes.

        Args:
            network: With the weights to use.
            names: Of the cases.
            before_case: Called before every case, as often in every process; may raise to end it.
            surfaces: Compute what takes longest, where a task has it: surface distances.

        Returns:
            The content of metrics.json, and the mean seconds that the network took for a case,
            once read.
        """

    def tables(self, results: Results) -> list[list[str]]:
        """Write the results of the best and the last epoch as tables, each a list of lines."""
        return [class_table(results, self.columns)]

    def without_sync(self) -> AbstractContextManager[None]:
        """Keep the gradient to this process in the block: that of all is only needed at the end."""
        if isinstance(self.parallel, nn.parallel.DistributedDataParallel):
            return self.parallel.no_sync()
        return nullcontext()

    def mean_of_all(self, loss: Tensor) -> Tensor:
        """Return the loss of the whole batch, given the mean over this process's equal share."""
        return self.world.total(loss) / self.world.size

    def empty_images(self, num_samples: int) -> Tensor:
        """Return images (num_samples, C, H, W) of zeros as the loader would give them."""
        settings = self.data.preprocessing
        channels = self.data.num_channels * settings.context_slices
        return torch.zeros(num_samples, channels, *settings.image_size)
