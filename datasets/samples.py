"""What a task is given of a data set: samples to train on, and cases to score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from datasets.cases import Case, Dataset, load_case, load_image
from datasets.pictures import PictureDataset, build_pictures
from datasets.pretraining import MaskedSlices
from datasets.sampling import Samples
from datasets.slices import SliceDataset, build_slices
from swin_unet.config import Config
from swin_unet.imaging import Preprocessing


def build_samples(
    config: Config,
    dataset: Dataset,
    cases: Sequence[Case],
    preprocessing: Preprocessing,
    *,
    progress: bool = True,
) -> Samples:
    """Make the training samples of a task.

    Args:
        config: Of the run.
        dataset: The data set; for simmim `without_labels`.
        cases: Which of its cases.
        preprocessing: How slices are made.
        progress: Tell on the screen how far the cache is.

    Raises:
        UserError: Options of the augmentation that do not go together, faults of the files.
    """
    slices: SliceDataset | PictureDataset
    if dataset.targets is not None:
        slices = build_pictures(config, dataset, cases, preprocessing)
    else:
        slices = build_slices(config, dataset, cases, preprocessing, progress=progress)
    if config.task != "simmim":
        return slices
    patch, (height, width) = config.model.patch_size, preprocessing.image_size
    return MaskedSlices(
        slices,
        tokens=(height // patch, width // patch),
        tokens_per_patch=config.simmim.mask_patch_size // patch,
        ratio=config.simmim.mask_ratio,
    )


def case_reader(dataset: Dataset) -> Callable[[str], Any]:
    """Return what reads a case by name.

    It gives an image and its label map, or an image and the number of its class from 0 on; of a
    data set without labels the image alone.
    """
    by_name = {case.name: case for case in dataset.cases}

    def read(name: str) -> Any:
        case = by_name[name]
        if dataset.images_only:
            return load_image(case, dataset)
        if dataset.targets is not None:
            return load_image(case, dataset), dataset.targets[name] - 1
        return load_case(case, dataset)

    return read
