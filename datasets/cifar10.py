"""CIFAR-10 in its binary format: 32 x 32 colour pictures of ten classes.

Six files of records, each a byte for the class and 3 x 1024 bytes for red, green and blue, row by
row: https://www.cs.toronto.edu/~kriz/cifar.html. `python -m datasets.cifar10 DIR` writes made-up
pictures in that format.
"""

from __future__ import annotations

import argparse
import colorsys
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datasets.cases import Case, Dataset, Split
from datasets.sources import check_root, no_data
from swin_unet.config import DataConfig, UserError
from swin_unet.files import atomic_path, make_folder
from swin_unet.imaging import Volume

SIDE = 32
RECORD_BYTES = 1 + 3 * SIDE * SIDE
TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_FILE = "test_batch.bin"
NAMES_FILE = "batches.meta.txt"
NAMES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
Array = np.ndarray[Any, Any]


def read_cifar10(config: DataConfig) -> Dataset:
    """List the pictures of a folder with CIFAR-10's binary files, split as published.

    A case is named after its file and its place in it, such as data_batch_1_00017.

    Raises:
        UserError: Missing files, or files that are no records of ten classes.
    """
    root = check_root(config)
    folder = root / "cifar-10-batches-bin" if (root / "cifar-10-batches-bin").is_dir() else root
    absent = [name for name in (*TRAIN_FILES, TEST_FILE) if not (folder / name).is_file()]
    if absent:
        raise no_data("cifar10", folder, ", ".join(absent), "no such files")
    targets = {
        case_name(folder / name, place): value
        for name in (*TRAIN_FILES, TEST_FILE)
        for place, value in enumerate(_read_classes(folder / name))
    }
    files = {name.removesuffix(".bin"): folder / name for name in (*TRAIN_FILES, TEST_FILE)}
    cases = {name: (files[name.rpartition("_")[0]],) for name in targets}
    is_test = TEST_FILE.removesuffix(".bin")
    return Dataset(
        cases=tuple(Case(name, file, file) for name, file in sorted(cases.items())),
        classes=dict(enumerate(NAMES, start=1)),
        channels=("red", "green", "blue"),
        split=Split(
            train=tuple(name for name in targets if not name.startswith(is_test)),
            val=(),
            test=tuple(name for name in targets if name.startswith(is_test)),
        ),
        targets=targets,
        read=read_picture,
    )


def case_name(path: Path, place: int) -> str:
    """Name the picture at a place of a file."""
    return f"{path.stem}_{place:05d}"


def read_picture(case: Case) -> Volume:
    """Read one picture (32, 32, 1, 3) uint8, as a PNG file of it would be read."""
    path, place = case.images[0], int(case.name.rpartition("_")[2])
    try:
        record = np.fromfile(path, np.uint8, RECORD_BYTES, offset=place * RECORD_BYTES)
    except OSError as error:
        raise _bad_file(path, error.strerror or "an error") from error
    if len(record) != RECORD_BYTES:
        raise _bad_file(path, f"no record {place}")
    pixels = record[1:].reshape(3, 1, SIDE, SIDE)
    return Volume(pixels.T, np.diag([-1.0, -1.0, 1.0, 1.0]), path, has_spacing=False)


def write_batch(path: Path, pictures: Array, classes: Array) -> None:
    """Write pictures (n, 32, 32, 3) uint8 of classes (n,) from 0 to 9 as a file of records."""
    planes = pictures.transpose(0, 3, 1, 2).reshape(len(pictures), -1)
    records = np.concatenate([classes[:, None], planes], axis=1).astype(np.uint8)
    with atomic_path(path) as temporary:
        temporary.write_bytes(records.tobytes())


def draw_pictures(classes: Array, random: np.random.Generator) -> Array:
    """Draw noisy stripes (n, 32, 32, 3) uint8, whose direction and colour depend on the class."""
    rows, columns = np.indices((SIDE, SIDE)) / SIDE
    pictures = []
    for value in classes.tolist():
        angle = np.pi * value / len(NAMES)
        phase, scale = random.uniform(0, 2 * np.pi), random.uniform(2.5, 4.5)
        place = columns * np.cos(angle) + rows * np.sin(angle)
        stripes = 0.5 + 0.5 * np.sin(2 * np.pi * scale * place + phase)
        colour = colorsys.hsv_to_rgb((value % 5) / 5, 0.6, 1.0)
        clean = stripes[..., None] * np.array(colour)
        pictures.append(clean + random.normal(0, 0.15, clean.shape))
    return (np.clip(np.array(pictures), 0, 1) * 255).astype(np.uint8)


def write_stand_in(folder: Path, num_pictures: int, seed: int = 0) -> None:
    """Write the six files with made-up pictures, `num_pictures` in each."""
    make_folder(folder)
    random = np.random.default_rng(seed)
    for name in (*TRAIN_FILES, TEST_FILE):
        classes = random.permutation(np.arange(num_pictures) % len(NAMES))
        write_batch(folder / name, draw_pictures(classes, random), classes)
    with atomic_path(folder / NAMES_FILE) as path:
        path.write_text("\n".join(NAMES) + "\n", encoding="utf8")


def write_folders(folder: Path, num_pictures: int, seed: int = 0) -> None:
    """Write made-up pictures as PNG files, sorted into a folder per class.

    Args:
        folder: Where the folders of the classes go.
        num_pictures: Of all classes together.
        seed: Of the pictures.
    """
    from PIL import Image

    random = np.random.default_rng(seed)
    classes = np.arange(num_pictures) % len(NAMES)
    for place, (picture, value) in enumerate(
        zip(draw_pictures(classes, random), classes.tolist(), strict=True)
    ):
        target = make_folder(folder / NAMES[value])
        with atomic_path(target / f"{place:05d}.png") as path:
            Image.fromarray(picture).save(path, format="PNG")


def _read_classes(path: Path) -> list[int]:
    """Return the class values, 1 to 10, of a file's records."""
    size = path.stat().st_size
    if size == 0 or size % RECORD_BYTES:
        raise _bad_file(path, f"{size} bytes")
    values = np.fromfile(path, np.uint8).reshape(-1, RECORD_BYTES)[:, 0]
    if values.max() >= len(NAMES):
        raise _bad_file(path, f"class {values.max()}, as CIFAR-100 has")
    return [int(value) + 1 for value in values]


def _bad_file(path: Path, found: str) -> UserError:
    return UserError(
        path,
        expected=f"records of {RECORD_BYTES} bytes with classes 0 to 9 (CIFAR-10, binary version)",
        found=found,
        fix="Download cifar-10-binary.tar.gz again and unpack it.",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Write a stand-in."""
    parser = argparse.ArgumentParser(prog="python -m datasets.cifar10", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the pictures go")
    parser.add_argument("--pictures", type=int, default=200, help="in each of the six files")
    parser.add_argument("--seed", type=int, default=0)
    folders_help = "write --pictures PNG files in folders instead, for data.name image_folder"
    parser.add_argument("--as_folders", action="store_true", help=folders_help)
    arguments = parser.parse_args(argv)
    if arguments.pictures < len(NAMES):
        raise UserError(
            "--pictures",
            expected=f"at least {len(NAMES)}, one of every class",
            found=str(arguments.pictures),
            fix="Correct this option.",
        )
    write = write_folders if arguments.as_folders else write_stand_in
    write(arguments.folder, arguments.pictures, arguments.seed)
    print(f"made-up pictures of {len(NAMES)} classes in {arguments.folder}")
    return 0


if __name__ == "__main__":
    from swin_unet.cli import run

    sys.exit(run(main))
