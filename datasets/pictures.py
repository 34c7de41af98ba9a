"""Pictures that have one class as a whole, as training samples: read, resized and augmented."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from datasets.augment import Augmentation, build_augmentation
from datasets.cases import Case, load_image
from datasets.cases import Dataset as CaseSet
from datasets.sampling import SampleKey, Samples
from swin_unet.config import Config, UserError
from swin_unet.imaging import Preprocessing


class PictureDataset(Samples):
    """Pictures of a data set, each with the number of its class from 0 on.

    Nothing is cached: reading and resizing a picture takes a few milliseconds.

    Args:
        cases: The pictures.
        dataset: Their data set, which knows the classes.
        preprocessing: How pictures are made network input.
        augmentation: The recipe, None: pictures as they are.
        seed: Of the run.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        dataset: CaseSet,
        *,
        preprocessing: Preprocessing,
        augmentation: Augmentation | None,
        seed: int,
    ) -> None:
        assert dataset.targets is not None
        self.cases = tuple(cases)
        self.dataset = dataset
        self.targets = [dataset.targets[case.name] for case in cases]
        self.preprocessing = preprocessing
        self.augmentation = augmentation
        self.seed = seed

    @property
    def slice_classes(self) -> list[tuple[int, ...]]:
        """The class value of every picture, as samplers take them."""
        return [(target,) for target in self.targets]

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.cases)

    def __getitem__(self, key: tuple[int, ...]) -> dict[str, Any]:
        """Return one sample.

        Args:
            key: A SampleKey as SliceSampler yields them; (epoch, index) will do.

        Returns:
            image (C, H, W) float32 tensor, label int64 tensor, case (name), slice (0).
        """
        import torch

        key = SampleKey(*key)
        case = self.cases[key.slice_index]
        image = read_input(case, self.dataset, self.preprocessing)
        if self.augmentation is not None:
            seeds = np.random.SeedSequence((self.seed, key.epoch, key.position, key.slice_index))
            blank = np.zeros(image.shape[1:], np.uint8)
            image, _ = self.augmentation(image, blank, int(seeds.generate_state(1)[0]))
        return {
            "image": torch.from_numpy(image),
            "label": torch.tensor(self.targets[key.slice_index] - 1),
            "case": case.name,
            "slice": 0,
        }


def read_input(case: Case, dataset: CaseSet, preprocessing: Preprocessing) -> np.ndarray[Any, Any]:
    """Read a picture as network input (C, H, W) float32.

    Raises:
        UserError: Any fault of the file, or one of several pages.
    """
    prepared = preprocessing.prepare(load_image(case, dataset))
    if prepared.num_slices != 1:
        raise UserError(
            case.images[0],
            expected="a single picture, as it has one class",
            found=f"{prepared.num_slices} slices",
            fix="Save each as a file of its own.",
        )
    pixels: np.ndarray[Any, Any] = prepared.slab(0, 1)[0].numpy()
    return pixels


def build_pictures(
    config: Config, dataset: CaseSet, cases: Sequence[Case], preprocessing: Preprocessing
) -> PictureDataset:
    """Make training samples of pictures.

    Raises:
        UserError: Options of the augmentation that do not go together.
    """
    return PictureDataset(
        cases,
        dataset,
        preprocessing=preprocessing,
        augmentation=build_augmentation(config.data, preprocessing.plane, {}),
        seed=config.seed,
    )
