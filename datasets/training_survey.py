"""What a training finds out about its cases before it starts."""

from __future__ import annotations

from datasets.cases import Dataset, Split, choose_plane, few
from datasets.label_order import check_label_order
from datasets.overview import table_of
from datasets.splits import describe_split
from swin_unet.config import Config
from swin_unet.imaging import Plane

NUM_LABEL_MAPS = 3  # looked at for the order of their classes


def survey_training(
    config: Config, dataset: Dataset, split: Split, *, is_new: bool
) -> tuple[Plane, list[str]]:
    """Choose the plane of the slices, and look at a few label maps.

    Args:
        config: Of the run.
        dataset: The data set.
        split: Its parts.
        is_new: The split was made now, so that the log is to say how.

    Returns:
        The plane, and what the log is to say about the data.
    """
    notes = [table_of(dataset), *dataset.notes]
    if is_new:
        notes.append(describe_split(split, dataset, config))
    by_name = {case.name: case for case in dataset.cases}
    training = [by_name[name] for name in split.train]
    has_label_maps = dataset.targets is None and not dataset.images_only
    warning = check_label_order(dataset, training[:NUM_LABEL_MAPS]) if has_label_maps else None
    if warning is not None:
        notes.append(f"warning: {warning}")
    if config.data.plane != "auto":
        return config.data.plane, notes
    plane, odd = choose_plane(training)
    notes.append(f"data.plane auto: {plane}, by the spacing of the training cases")
    if odd:
        notes.append(f"warning: these have another thick axis, or none: {few(odd)}")
    return plane, notes
