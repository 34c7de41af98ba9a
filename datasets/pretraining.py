"""Samples for learning from images without labels: every image with a mask of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from datasets.cases import Dataset as CaseSet
from datasets.cases import Split
from datasets.overview import absence_notes
from datasets.pictures import PictureDataset
from datasets.sampling import SampleKey, Samples
from datasets.slices import SliceDataset
from datasets.splits import make_split
from swin_unet.config import Config
from swin_unet.masks import random_mask

_MASKS = 1  # keeps the masks' random numbers apart from those of the augmentation


def make_pretraining_split(dataset: CaseSet, config: Config) -> Split:
    """Split a data set as a segmentation with the same options would, and train on all other cases.

    So no validation or test case of a later fine-tuning is learned from, while cases without
    labels are. Without any labelled case, all are split.

    Raises:
        UserError: As `make_split`.
    """
    if not any(case.labels for case in dataset.cases):
        return make_split(without_labels(dataset), config)
    split = make_split(dataset, config)
    others = {case.name for case in dataset.cases if not case.labels}
    train = {*split.train, *others - {*split.val, *split.test}}
    return replace(split, train=tuple(sorted(train)))


def without_labels(dataset: CaseSet) -> CaseSet:
    """Return the data set for learning from images alone: all its cases, and none of its labels."""
    cases = tuple(replace(case, labels=case.images) for case in dataset.cases)
    images = replace(dataset, cases=cases, images_only=True, label_values=None)
    others = set(absence_notes(dataset))
    notes = [note for note in dataset.notes if note not in others]
    return replace(images, notes=(*notes, *absence_notes(images)))


class MaskedSlices(Samples):
    """Slices or pictures with a random mask each, new in every epoch.

    Args:
        slices: The training samples; their labels are dropped.
        tokens: Height and width of the encoder's first map.
        tokens_per_patch: Side of what is hidden together, in tokens.
        ratio: Share that is hidden.
    """

    def __init__(
        self,
        slices: SliceDataset | PictureDataset,
        *,
        tokens: tuple[int, int],
        tokens_per_patch: int,
        ratio: float,
    ) -> None:
        self.slices = slices
        self.seed = slices.seed
        self.tokens = tokens
        self.tokens_per_patch = tokens_per_patch
        self.ratio = ratio

    @property
    def slice_classes(self) -> list[tuple[int, ...]]:
        """No class occurs in any slice."""
        return [()] * len(self.slices)

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.slices)

    def __getitem__(self, key: tuple[int, ...]) -> dict[str, Any]:
        """Return one sample.

        Returns:
            image (C, H, W) float32, mask (h, w) float32 of the tokens, 1 where hidden, case, slice.
        """
        import torch

        key = SampleKey(*key)
        sample = self.slices[key]
        seeds = (self.seed, key.epoch, key.position, key.slice_index, _MASKS)
        seed = int(np.random.SeedSequence(seeds).generate_state(1, np.uint64)[0] >> 1)
        generator = torch.Generator().manual_seed(seed)
        mask = random_mask(self.tokens, self.ratio, generator, self.tokens_per_patch)
        return {**{name: sample[name] for name in ("image", "case", "slice")}, "mask": mask}
