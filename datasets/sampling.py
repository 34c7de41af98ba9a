"""The order in which an epoch visits the slices."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import Dataset, Sampler

from swin_unet.config import UserError


class SampleKey(NamedTuple):
    """What decides a sample, beside the seed of the run.

    Attributes:
        epoch: From 0 on.
        slice_index: Of the slice in the data set.
        position: In the epoch: a slice that comes twice is augmented in two ways.
        target: The class that the sample is drawn for; 0: none.
    """

    epoch: int
    slice_index: int
    position: int = 0
    target: int = 0


class Samples(Dataset[dict[str, Any]], ABC):
    """Training samples of any kind, by the keys of a SliceSampler.

    Attributes:
        seed: Of the run.
    """

    seed: int

    @property
    @abstractmethod
    def slice_classes(self) -> list[tuple[int, ...]]:
        """Which classes occur in each of them, without the background."""

    @abstractmethod
    def __len__(self) -> int:
        """Return their number."""


class SliceSampler(Sampler[SampleKey]):
    """As many samples an epoch as there are slices, in whole batches, shuffled by (seed, epoch).

    A part of them is drawn for a class: first the class, all that occur being as likely, then one
    of its slices. The others are slices in random order, none twice.

    Several processes share the global batches: batch n of one process is what batches n of all
    of them make together, in the order of their ranks.

    Args:
        slice_classes: Which classes occur in each slice, without the background.
        seed: Of the run.
        batch_size: Samples of a global batch; a last incomplete one is left out if there is
            another.
        foreground_fraction: Part of an epoch that is drawn for a class.
        num_replicas: Processes that train together.
        rank: Which of them this is.

    Raises:
        UserError: Batches that the processes cannot share, or no class to draw samples for.
    """

    def __init__(
        self,
        slice_classes: Sequence[Collection[int]],
        *,
        seed: int,
        batch_size: int = 1,
        foreground_fraction: float = 0.0,
        num_replicas: int = 1,
        rank: int = 0,
    ) -> None:
        self.num_slices = len(slice_classes)
        self.seed = seed
        self.batch_size = min(batch_size, self.num_slices)
        self.num_foreground = round(foreground_fraction * self.num_slices)
        self.num_replicas = num_replicas
        self.rank = rank
        self.epoch = 0
        self.start = 0
        self._slices_of_class = _slices_of_class(slice_classes)
        self._check()

    @property
    def num_batches(self) -> int:
        """Batches of an epoch."""
        return self.num_slices // self.batch_size

    @property
    def local_batch_size(self) -> int:
        """Samples of this process in each batch."""
        return self.batch_size // self.num_replicas

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Choose the epoch that the next iteration visits, and its first batch."""
        assert 0 <= start <= self.num_batches
        self.epoch = epoch
        self.start = start

    def __len__(self) -> int:
        """Return the number of this process's samples in a whole epoch."""
        return self.num_batches * self.local_batch_size

    def __iter__(self) -> Iterator[SampleKey]:
        """Yield this process's samples of the epoch, from batch `start` on."""
        keys = self._epoch_keys()
        for batch in range(self.start, self.num_batches):
            first = batch * self.batch_size + self.rank * self.local_batch_size
            yield from keys[first : first + self.local_batch_size]

    def _epoch_keys(self) -> list[SampleKey]:
        """Return all samples of the epoch, the same in every process."""
        random = np.random.default_rng((self.seed, self.epoch))
        num_plain = self.num_slices - self.num_foreground
        draws = [(index, 0) for index in random.permutation(self.num_slices)[:num_plain].tolist()]
        classes = list(self._slices_of_class)
        for _ in range(self.num_foreground):
            target = classes[random.integers(len(classes))]
            draws.append((int(random.choice(self._slices_of_class[target])), target))
        if self.num_foreground:
            draws = [draws[place] for place in random.permutation(len(draws))]
        return [
            SampleKey(self.epoch, index, position, target)
            for position, (index, target) in enumerate(draws)
        ]

    def _check(self) -> None:
        assert self.num_slices > 0
        if self.batch_size % self.num_replicas:
            raise UserError(
                "train.batch_size",
                expected=f"a multiple of the {self.num_replicas} processes, which share each batch",
                found=f"{self.batch_size} (of {self.num_slices} training slices)",
                fix="Choose another batch size or another number of processes.",
            )
        if self.num_foreground and not self._slices_of_class:
            raise UserError(
                "data.foreground_fraction",
                expected="training slices with labels to draw samples from",
                found="empty label maps only",
                fix="Set it to 0, or check the labels of the training cases.",
            )


def _slices_of_class(slice_classes: Sequence[Collection[int]]) -> dict[int, np.ndarray[Any, Any]]:
    """List the slices of each class that occurs, in the order of the classes."""
    slices: dict[int, list[int]] = {}
    for index, classes in enumerate(slice_classes):
        for value in classes:
            slices.setdefault(value, []).append(index)
    return {value: np.array(slices[value]) for value in sorted(slices)}
