"""Cached slices as training samples, and a loader over them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
from torch.utils.data import DataLoader

from datasets.augment import Augmentation, build_augmentation
from datasets.cache import build_cache
from datasets.cached import CachedCase
from datasets.cases import Case
from datasets.cases import Dataset as CaseSet
from datasets.crops import choose_crop, inside
from datasets.sampling import SampleKey, Samples, SliceSampler
from swin_unet.config import Config
from swin_unet.imaging import Preprocessing

Array = np.ndarray[Any, Any]


class SliceDataset(Samples):
    """Slices of cached cases, cropped and augmented by a seed made of the run's and the key.

    Args:
        cases: The cached cases, all with the same channels.
        context_slices: Neighbouring slices to give as channels.
        fit: `resize`: slices have `image_size` already; `crop`: random crops of it.
        image_size: Height and width of the samples.
        augmentation: The recipe, None: slices as they are.
        seed: Of the run.
    """

    def __init__(
        self,
        cases: Sequence[CachedCase],
        *,
        context_slices: int,
        fit: Literal["resize", "crop"],
        image_size: tuple[int, int],
        augmentation: Augmentation | None,
        seed: int,
    ) -> None:
        self.cases = tuple(cases)
        self.context_slices = context_slices
        self.fit = fit
        self.image_size = (image_size[0], image_size[1])
        self.augmentation = augmentation
        self.seed = seed
        self._ends = np.cumsum([case.num_slices for case in self.cases])

    @property
    def slice_classes(self) -> list[tuple[int, ...]]:
        """Which classes occur in each slice, without the background."""
        return [classes for case in self.cases for classes in case.slice_classes]

    def __len__(self) -> int:
        """Return the number of slices of all cases."""
        return int(self._ends[-1]) if self.cases else 0

    def __getitem__(self, key: tuple[int, ...]) -> dict[str, Any]:
        """Return one sample.

        Args:
            key: A SampleKey as SliceSampler yields them; (epoch, index) will do.

        Returns:
            image (C, H, W) float32 tensor, label (H, W) int64 tensor, case (name), slice (number).
        """
        import torch

        key = SampleKey(*key)
        case, number = self._locate(key.slice_index)
        seeds = np.random.SeedSequence((self.seed, key.epoch, key.position, key.slice_index))
        crop_seed, augmentation_seed = seeds.generate_state(2).tolist()
        image, label = self._read(case, number, key.target, crop_seed)
        if self.augmentation is not None:
            image, label = self.augmentation(image, label, augmentation_seed)
        return {
            "image": torch.from_numpy(image),
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

    def _read(self, case: CachedCase, number: int, target: int, seed: int) -> tuple[Array, Array]:
        """Return what the recipe is to see of slice `number`.

        Returns:
            Image with its context (C, h, w) float32, and label (h, w).
        """
        window = 0, 0, *case.size
        if self.fit == "crop":
            window = self._crop_window(case, number, target, seed)
        top, left, height, width = window
        rows, above, below = inside(top, height, case.size[0])
        columns, before, after = inside(left, width, case.size[1])
        image = self._with_context(case, number, rows)[..., columns].astype(np.float32)
        label = case.read_label(number, rows)[:, columns]
        if above or below or before or after:
            edges = [(above, below), (before, after)]
            image = np.pad(image, [(0, 0), *edges], mode="edge")
            label = np.pad(label, edges, mode="edge")
        return image, label

    def _with_context(self, case: CachedCase, number: int, rows: slice) -> Array:
        """Read a slice and its neighbours (offsets * C, rows, w); those of the case repeat."""
        reach = self.context_slices // 2
        index = np.clip(np.arange(number - reach, number + reach + 1), 0, case.num_slices - 1)
        images = case.read_images(index[0], index[-1] + 1, rows)[index - index[0]]
        return images.reshape(-1, *images.shape[2:])

    def _crop_window(
        self, case: CachedCase, number: int, target: int, seed: int
    ) -> tuple[int, int, int, int]:
        """Choose a crop and add what the recipe wants to see around it.

        Returns:
            Top, left, height, width; may lie partly outside of the slice.
        """
        label = case.read_label(number, slice(0, case.size[0])) if target else None
        pixels = None if label is None else np.argwhere(label == target)
        random = np.random.default_rng(seed)
        top, left = choose_crop(case.size, self.image_size, pixels, random)
        rows, columns = (0, 0) if self.augmentation is None else self.augmentation.context
        height, width = self.image_size
        return top - rows, left - columns, height + 2 * rows, width + 2 * columns


class SliceLoader(DataLoader[dict[str, Any]]):
    """A loader whose workers send labels in few bytes: the memory they share is slow to make."""

    def __iter__(self) -> Any:
        """Return an iterator over batches, whose labels, if they have some, are int64."""
        return map(_widen, super().__iter__())


def _narrow_collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Put samples together, labels as uint8 where they are small enough and else as int32."""
    import torch
    from torch.utils.data import default_collate

    if "label" not in samples[0]:
        return default_collate(samples)
    largest = max(int(sample["label"].max()) for sample in samples)
    dtype = torch.uint8 if largest < 256 else torch.int32
    return default_collate([{**item, "label": item["label"].to(dtype)} for item in samples])


def _widen(batch: dict[str, Any]) -> dict[str, Any]:
    return {**batch, "label": batch["label"].long()} if "label" in batch else batch


def build_slices(
    config: Config,
    dataset: CaseSet,
    cases: Sequence[Case],
    preprocessing: Preprocessing,
    *,
    progress: bool = True,
) -> SliceDataset:
    """Cache cases and make training samples of their slices.

    Args:
        config: Of the run.
        dataset: The data set.
        cases: Which of its cases, all labelled.
        preprocessing: How slices are made.
        progress: Tell on the screen how far the cache is.

    Raises:
        UserError: Options of the augmentation that do not go together, faults of the files.
    """
    # First what needs no time: the cache may take minutes.
    augmentation = build_augmentation(config.data, preprocessing.plane, dataset.classes)
    return SliceDataset(
        build_cache(cases, dataset, preprocessing, config.data.cache_dir, progress),
        context_slices=preprocessing.context_slices,
        fit=preprocessing.fit,
        image_size=preprocessing.image_size,
        augmentation=augmentation,
        seed=config.seed,
    )


def build_loader(
    slices: Samples,
    *,
    batch_size: int,
    num_workers: int | None,
    pin_memory: bool,
    foreground_fraction: float = 0.0,
    num_replicas: int = 1,
    rank: int = 0,
) -> tuple[SliceLoader, SliceSampler]:
    """Put a loader over slices.

    Args:
        slices: The training slices, pictures, or either with masks.
        batch_size: Slices of a batch, of all processes together; an incomplete last batch is left
            out if there is another.
        num_workers: Loader processes; None: one per core up to 8 beside a GPU, one beside a CPU.
        pin_memory: Use page-locked memory, for a GPU.
        foreground_fraction: Part of the samples that is drawn for a class, see SliceSampler.
        num_replicas: Processes that train together.
        rank: Which of them this is.

    Returns:
        The loader, and its sampler whose `set_epoch` chooses the next epoch and its first batch.
        The loader's length is that of a whole epoch.
    """
    if num_workers is None:
        num_workers = min(8, os.cpu_count() or 1) if pin_memory else 1
    sampler = SliceSampler(
        slices.slice_classes,
        seed=slices.seed,
        batch_size=batch_size,
        foreground_fraction=foreground_fraction,
        num_replicas=num_replicas,
        rank=rank,
    )
    loader = SliceLoader(
        slices,
        batch_size=sampler.local_batch_size,
        sampler=sampler,
        num_workers=num_workers,
        pin_memory=pin_memory,
        collate_fn=_narrow_collate,
        worker_init_fn=partial(_start_worker, os.getpid()),
        persistent_workers=num_workers > 0,  # importing albumentations takes seconds
    )
    return loader, sampler


def _start_worker(main_process: int, worker: int) -> None:
    """Leave threads to the main process: a worker per core with a thread per core is slow.

    A worker of torch notices the end of the main process by a change of its parent from here on;
    if that came during the imports, it would wait for ever.
    """
    import cv2
    import torch

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    if os.getppid() != main_process:
        os._exit(1)
