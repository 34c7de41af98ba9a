"""See what the network sees: `python -m datasets.preview --config X.yaml [--output FILE.png]`.

Draws the first samples of an epoch, cropped and augmented as training with this configuration
gets them, each beside itself with its labels.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from datasets import build_dataset, choose_plane, make_split
from datasets.build import require_label_maps
from swin_unet.config import Config, UserError
from swin_unet.files import atomic_path, make_folder
from swin_unet.overlays import class_colour, overlay, to_grey

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURE_INCHES = 2.0
SHEET_ASPECT = 1.4  # width over height, about


@dataclass(frozen=True, eq=False)
class Sample:
    """What is drawn of a training sample.

    Attributes:
        title: Its case and slice.
        image: (C, h, w) float32, without the neighbouring slices.
        label: (h, w).
    """

    title: str
    image: np.ndarray[Any, Any]
    label: np.ndarray[Any, Any]


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, write the sheet and say where it is."""
    from swin_unet.cli import build_parser, parse_config

    parser = build_parser("python -m datasets.preview", "Draw augmented training slices.")
    parser.add_argument("--output", metavar="FILE.png", help="Default: preview.png in output_dir.")
    parser.add_argument("--samples", type=int, default=12, help="How many slices.")
    parser.add_argument("--epoch", type=int, default=0, help="Of which epoch, counted from 0.")
    config, arguments = parse_config(parser, sys.argv[1:] if argv is None else argv)
    assert config.output_dir is not None
    path = Path(arguments.output or config.output_dir / "preview.png")
    _check_options(path, arguments.samples, arguments.epoch)
    require_label_maps(config.data)
    make_folder(path.absolute().parent)  # a name that cannot be written shows now
    samples, classes = training_samples(config, arguments.samples, arguments.epoch)
    figure = draw_sheet(samples, classes, _headline(config, arguments.epoch))
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
    print(f"{path}: {len(samples)} samples of epoch {arguments.epoch}")
    return 0


def training_samples(
    config: Config, num_samples: int, epoch: int
) -> tuple[list[Sample], dict[int, str]]:
    """Return the first samples of an epoch, as training would get them, and the classes.

    Raises:
        UserError: Whatever training would refuse of the data.
    """
    from datasets.sampling import SliceSampler
    from datasets.slices import build_slices
    from swin_unet.imaging import Preprocessing

    dataset = build_dataset(config.data)
    by_name = {case.name: case for case in dataset.cases}
    cases = [by_name[name] for name in make_split(dataset, config).train]
    plane = choose_plane(cases)[0] if config.data.plane == "auto" else config.data.plane
    slices = build_slices(config, dataset, cases, Preprocessing.from_config(config.data, plane))
    sampler = SliceSampler(
        slices.slice_classes,
        seed=config.seed,
        batch_size=config.train.batch_size,
        foreground_fraction=config.data.foreground_fraction,
    )
    sampler.set_epoch(epoch)
    middle = config.data.context_slices // 2
    channels = slice(middle * dataset.num_channels, (middle + 1) * dataset.num_channels)
    drawn = [slices[key] for key in itertools.islice(sampler, num_samples)]
    samples = [
        Sample(
            title=f"{sample['case']}, slice {sample['slice']}",
            image=sample["image"][channels].numpy(),
            label=sample["label"].numpy(),
        )
        for sample in drawn
    ]
    return samples, dataset.classes


def draw_sheet(samples: Sequence[Sample], classes: Mapping[int, str], headline: str) -> Figure:
    """Draw the samples in rows, each as its channels and its labels over the first channel.

    Grey is the same intensity in all samples, so that contrast and brightness can be compared.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    pictures = sample_pictures(samples)
    height, width = pictures[0].shape[:2]
    num_columns = math.ceil(math.sqrt(SHEET_ASPECT * len(pictures) * height / width))
    num_columns = min(num_columns, len(pictures))
    num_rows = math.ceil(len(pictures) / num_columns)
    inches = PICTURE_INCHES * (len(samples[0].image) + 1)
    size = num_columns * inches, num_rows * (inches * height / width + 0.25) + 0.8
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(headline, fontsize="medium")
    grid = figure.subplots(num_rows, num_columns, squeeze=False).ravel()
    for axes in grid:
        axes.axis("off")
    for axes, sample, picture in zip(grid, samples, pictures, strict=False):
        axes.imshow(picture, interpolation="nearest")
        axes.set_title(sample.title, fontsize="small")
    values = np.unique(np.concatenate([sample.label.ravel() for sample in samples]))
    patches = [
        Patch(facecolor=class_colour(value), edgecolor="grey", label=classes[value])
        for value in values[values > 0].tolist()
    ]
    columns = max(1, min(len(patches), int(size[0] / 1.4)))
    figure.legend(handles=patches, loc="outside lower center", ncols=columns)
    return figure


def sample_pictures(samples: Sequence[Sample]) -> list[np.ndarray[Any, Any]]:
    """Return for each sample its channels and its labels side by side (h, w * (C + 1), 3)."""
    images = np.stack([sample.image for sample in samples])
    lows, highs = images.min(axis=(0, 2, 3)).tolist(), images.max(axis=(0, 2, 3)).tolist()
    pictures = []
    for sample in samples:
        greys = [
            to_grey(pixels, (low, high))
            for pixels, low, high in zip(sample.image, lows, highs, strict=True)
        ]
        pictures.append(np.concatenate([*greys, overlay(greys[0], sample.label)], axis=1))
    return pictures


def _headline(config: Config, epoch: int) -> str:
    data = config.data
    words = [f"augmentation {data.augmentation}", f"seed {config.seed}", f"epoch {epoch}"]
    if data.context_slices > 1:
        words.append(f"the middle one of {data.context_slices} slices")
    return ", ".join(words)


def _check_options(path: Path, num_samples: int, epoch: int) -> None:
    rules = [
        ("--output", "a name that ends in .png", path, path.suffix.lower() == ".png"),
        ("--samples", "at least 1", num_samples, num_samples >= 1),
        ("--epoch", "at least 0", epoch, epoch >= 0),
    ]
    for subject, expected, found, is_valid in rules:
        if not is_valid:
            raise UserError(subject, expected=expected, found=str(found), fix="Correct it.")


if __name__ == "__main__":
    from swin_unet.cli import run

    sys.exit(run(main))
