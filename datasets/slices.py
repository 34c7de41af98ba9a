"""Cached slices as training samples, and the order in which an epoch visits them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from torch.utils.data import DataLoader, Dataset, Sampler

from datasets.augment import build_augmentation
from datasets.cache import CachedCase
from swin_unet.config import UserError

Array = np.ndarray[Any, Any]


class SliceDataset(Dataset[dict[str, Any]]):
    """Slices of cached cases, augmented by a seed made of (seed, epoch, index).

    Files are mapped anew for every sample: nothing is open when a worker starts, and thousands of
    cases do not exhaust the file descriptors.

    Args:
        cases: The cached cases, all with the same channels.
        context_slices: Neighbouring slices to give as channels.
        fit: `resize`: slices have `image_size` already; `crop`: random crops of it.
        image_size: Height and width of the samples.
        augmentation: Name of the recipe, see datasets.augment.
        seed: Of the run.
    """

    def __init__(
        self,
        cases: Sequence[CachedCase],
        *,
        context_slices: int,
        fit: Literal["resize", "crop"],
        image_size: tuple[int, int],
        augmentation: str,
        seed: int,
    ) -> None:
        if augmentation == "paper" and image_size[0] != image_size[1]:
            raise UserError(
                "data.augmentation",
                expected="a square data.image_size for `paper`, which turns slices by 90 degrees",
                found=str(tuple(image_size)),
                fix="Use augmentation `default`, or a square size.",
            )
        self.cases = tuple(cases)
        self.context_slices = context_slices
        self.fit = fit
        self.image_size = tuple(image_size)
        self.seed = seed
        self._augment = build_augmentation(augmentation)
        self._ends = np.cumsum([case.num_slices for case in self.cases])

    def __len__(self) -> int:
        """Return the number of slices of all cases."""
        return int(self._ends[-1]) if self.cases else 0

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        """Return one sample.

        Args:
            key: (epoch, index), as SliceSampler yields them.

        Returns:
            image (C, H, W) float32 tensor, label (H, W) int64 tensor, case (name), slice (number).
        """
        import torch

        epoch, index = key
        case, number = self._locate(index)
        seeds = np.random.SeedSequence((self.seed, epoch, index)).generate_state(2)
        image, label = self._read(case, number)
        if self.fit == "crop":
            image, label = _random_crop(image, label, self.image_size, int(seeds[0]))
        if self._augment is not None:
            pixels = np.ascontiguousarray(np.moveaxis(image, 0, -1))
            pixels, label = self._augment(pixels, label, int(seeds[1]))
            image = np.moveaxis(pixels, -1, 0)
        return {
            "image": torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32)),
            "label": torch.from_numpy(label.astype(np.int64)),
            "case": case.name,
            "slice": number,
        }

    def _locate(self, index: int) -> tuple[CachedCase, int]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        position = int(np.searchsorted(self._ends, index, side="right"))
        case = self.cases[position]
        return case, index - int(self._ends[position]) + case.num_slices

    def _read(self, case: CachedCase, number: int) -> tuple[Array, Array]:
        """Return slice `number` with its context (C, h, w) float32 and its label (h, w)."""
        reach = self.context_slices // 2
        images = np.load(case.image_path, mmap_mode="r")
        labels = np.load(case.label_path, mmap_mode="r")
        index = np.clip(np.arange(number - reach, number + reach + 1), 0, case.num_slices - 1)
        image = images[index].astype(np.float32)  # (offsets, C, h, w)
        return image.reshape(-1, *image.shape[2:]), np.array(labels[number])


class SliceSampler(Sampler[tuple[int, int]]):
    """All slices in an order shuffled by (seed, epoch), in whole batches, with the epoch's number.

    Several processes share the global batches: batch n of the job is what batches n of all of
    them make together, in the order of their ranks.

    Args:
        num_slices: Length of the data set.
        seed: Of the run.
        batch_size: Samples of a global batch; a last incomplete one is left out if there is
            another.
        num_replicas: Processes that train together.
        rank: Which of them this is.

    Raises:
        UserError: Batches that the processes cannot share.
    """

    def __init__(
        self,
        num_slices: int,
        seed: int,
        *,
        batch_size: int = 1,
        num_replicas: int = 1,
        rank: int = 0,
    ) -> None:
        self.num_slices = num_slices
        self.seed = seed
        self.batch_size = min(batch_size, num_slices)
        self.num_replicas = num_replicas
        self.rank = rank
        self.epoch = 0
        self.start = 0
        if self.batch_size % num_replicas:
            raise UserError(
                "train.batch_size",
                expected=f"a multiple of the {num_replicas} processes, which share each batch",
                found=f"{self.batch_size} (of {num_slices} training slices)",
                fix="Choose another batch size or another number of processes.",
            )

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

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield this process's (epoch, index), from batch `start` on."""
        random = np.random.default_rng((self.seed, self.epoch))
        order = random.permutation(self.num_slices).tolist()
        for batch in range(self.start, self.num_batches):
            first = batch * self.batch_size + self.rank * self.local_batch_size
            for index in order[first : first + self.local_batch_size]:
                yield self.epoch, index


def _random_crop(
    image: Array, label: Array, size: tuple[int, ...], seed: int
) -> tuple[Array, Array]:
    """Cut the same random window from image (C, h, w) and label (h, w), edges repeated if small."""
    missing = [max(0, wanted - have) for wanted, have in zip(size, label.shape, strict=True)]
    if any(missing):
        padding = [(count // 2, count - count // 2) for count in missing]
        image = np.pad(image, [(0, 0), *padding], mode="edge")
        label = np.pad(label, padding, mode="edge")
    generator = np.random.default_rng(seed)
    top, left = (
        int(generator.integers(0, have - wanted + 1))
        for wanted, have in zip(size, label.shape, strict=True)
    )
    window = slice(top, top + size[0]), slice(left, left + size[1])
    return image[:, *window], label[window]


def build_loader(
    slices: SliceDataset,
    *,
    batch_size: int,
    num_workers: int | None,
    pin_memory: bool,
    num_replicas: int = 1,
    rank: int = 0,
) -> tuple[DataLoader[dict[str, Any]], SliceSampler]:
    """Put a loader over slices.

    Args:
        slices: The training slices.
        batch_size: Slices of a batch, of all processes together; an incomplete last batch is left
            out if there is another.
        num_workers: Loader processes; None: one per core up to 8 beside a GPU, one beside a CPU.
        pin_memory: Use page-locked memory, for a GPU.
        num_replicas: Processes that train together.
        rank: Which of them this is.

    Returns:
        The loader, and its sampler whose `set_epoch` chooses the next epoch and its first batch.
        The loader's length is that of a whole epoch.
    """
    if num_workers is None:
        num_workers = min(8, os.cpu_count() or 1) if pin_memory else 1
    sampler = SliceSampler(
        len(slices), slices.seed, batch_size=batch_size, num_replicas=num_replicas, rank=rank
    )
    loader = DataLoader(
        slices,
        batch_size=sampler.local_batch_size,
        sampler=sampler,
        num_workers=num_workers,
        pin_memory=pin_memory,
        worker_init_fn=_start_worker,
    )
    return loader, sampler


def _start_worker(worker: int) -> None:
    """Leave threads to the main process: a worker per core with a thread per core is slow."""
    import cv2
    import torch

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
