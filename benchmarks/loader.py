"""Time augmented training slices against the original Swin-Unet's chain of transforms.

    python -m benchmarks.loader                                   some minutes
    python -m benchmarks.loader --depth 12 --rounds 1             seconds

Volumes of 512 x 512 pixels are made up; both sides give batches of 224 x 224 slices through a
DataLoader of the same settings, in turns. Ours reads the cache that training makes once, with the
recipes `default` (with a left-right flip) and `paper`. The original reads each slice of 512 x 512
from an .npz file, turns and flips or rotates it, and brings it to 224 x 224 by SciPy's splines, of
order 3 for the image and 0 for the label; written from its description. Exits 1 when `default`
gives less than 8 times as many slices.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage
from torch.utils.data import DataLoader, Dataset

from benchmarks.metrics import machine_name, make_volumes
from datasets import build_dataset
from datasets.sampling import SliceSampler
from datasets.slices import SliceDataset, build_loader, build_slices
from swin_unet.config import Config, DataConfig
from swin_unet.imaging import Preprocessing

SIZE = 224
NATIVE_SIZE = 512
GOAL = 8.0
ORIGINAL = "the original's chain"
WINDOW = (-125.0, 275.0)


class OriginalSlices(Dataset[dict[str, Any]]):
    """Slices as the original's data set and transform give them.

    Args:
        paths: Files with `image` and `label`, (512, 512) float32 as the original distributes them.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        with np.load(self.paths[index]) as arrays:
            image, label = arrays["image"], arrays["label"]
        draw = np.random.random()
        if draw < 0.5:
            image, label = _turn_and_flip(image, label)
        elif draw < 0.75:
            degrees = np.random.randint(-20, 20)
            image, label = (
                ndimage.rotate(pixels, degrees, order=0, reshape=False) for pixels in (image, label)
            )
        factors = [SIZE / side for side in image.shape]
        image = ndimage.zoom(image, factors, order=3)
        label = ndimage.zoom(label, factors, order=0)
        return {
            "image": torch.from_numpy(image.astype(np.float32))[None],
            "label": torch.from_numpy(label.astype(np.float32)).long(),
            "case": self.paths[index].stem,
        }


def _turn_and_flip(image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    quarters, axis = np.random.randint(0, 4), np.random.randint(0, 2)
    image, label = (np.flip(np.rot90(pixels, quarters), axis) for pixels in (image, label))
    return image.copy(), label.copy()


def write_volumes(folder: Path, cases: int, depth: int) -> None:
    """Write made-up abdominal CT volumes of 512 x 512 x depth voxels in the Decathlon's layout."""
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    affine = np.diag([0.8, 0.8, 3.0, 1.0])
    names = [f"case_{number}.nii.gz" for number in range(cases)]
    for number, name in enumerate(names):
        _, label = make_volumes((NATIVE_SIZE, NATIVE_SIZE, depth), seed=number)
        hu = 15.0 * label + np.random.default_rng(number).normal(0, 20, label.shape)
        nib.save(nib.Nifti1Image(hu.astype(np.int16), affine), folder / "imagesTr" / name)
        nib.save(nib.Nifti1Image(label, affine), folder / "labelsTr" / name)
    content = {
        "modality": {"0": "CT"},
        "labels": {"0": "background"} | {str(v): f"organ {v}" for v in range(1, 9)},
        "training": [{"image": f"imagesTr/{name}", "label": f"labelsTr/{name}"} for name in names],
    }
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf8")


def write_slices(volumes: Path, folder: Path) -> list[Path]:
    """Write every slice of the volumes as the original's preprocessing did: windowed to [0, 1]."""
    folder.mkdir()
    paths = []
    for image_path in sorted((volumes / "imagesTr").iterdir()):
        hu = np.asarray(nib.load(image_path).dataobj, np.float32)
        label = np.asarray(nib.load(volumes / "labelsTr" / image_path.name).dataobj, np.float32)
        image = (np.clip(hu, *WINDOW) - WINDOW[0]) / (WINDOW[1] - WINDOW[0])
        for index in range(hu.shape[2]):
            path = folder / f"{image_path.name.split('.')[0]}_slice{index:03d}.npz"
            np.savez(path, image=image[..., index], label=label[..., index])
            paths.append(path)
    return paths


def our_slices(volumes: Path, cache_dir: Path, augmentation: Any) -> SliceDataset:
    """Cache all volumes, unless they are, and put a recipe over their slices."""
    flips: Any = ["left_right"] if augmentation == "default" else None
    data = DataConfig(
        root=volumes,
        intensity="window",
        window=WINDOW,
        image_size=(SIZE, SIZE),
        augmentation=augmentation,
        flip_axes=flips,
        cache_dir=cache_dir,
    )
    dataset = build_dataset(data)
    preprocessing = Preprocessing.from_config(data)
    return build_slices(Config(data=data), dataset, dataset.cases, preprocessing)


def build_loaders(
    volumes: Path, cache_dir: Path, paths: Sequence[Path], batch_size: int, num_workers: int
) -> dict[str, tuple[DataLoader[Any], SliceSampler | None]]:
    """Return the loaders to compare, ours with their samplers."""
    loaders: dict[str, tuple[DataLoader[Any], SliceSampler | None]] = {}
    for name in ("default", "paper"):
        loaders[f"ours, {name}"] = build_loader(
            our_slices(volumes, cache_dir, name),
            batch_size=batch_size,
            num_workers=num_workers,
            pin_memory=False,
        )
    original = DataLoader(
        OriginalSlices(paths),
        batch_size=batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        worker_init_fn=_one_thread,
    )
    return {**loaders, ORIGINAL: (original, None)}


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)


def compare(
    loaders: dict[str, tuple[DataLoader[Any], SliceSampler | None]], rounds: int
) -> dict[str, float]:
    """Run epochs in turns; the first of each, which starts the workers, does not count.

    Returns:
        Median slices per second of each loader.
    """
    rates: dict[str, list[float]] = {name: [] for name in loaders}
    for epoch in range(rounds + 1):
        for name, (loader, sampler) in loaders.items():
            if sampler is not None:
                sampler.set_epoch(epoch)
            rate = _slices_per_second(loader)
            if epoch:
                rates[name].append(rate)
    return {name: median(values) for name, values in rates.items()}


def _slices_per_second(loader: DataLoader[Any]) -> float:
    start = time.perf_counter()
    num_slices = sum(len(batch["image"]) for batch in loader)
    return num_slices / (time.perf_counter() - start)


def report(rates: dict[str, float], num_slices: int, cache_seconds: float) -> None:
    """Print the table of ratios, and what the cache costs."""
    slowest = rates[ORIGINAL]
    print(f"{'':20} {'slices/s':>9} {'ratio':>6}")
    for name, rate in rates.items():
        print(f"{name:20} {rate:9.1f} {rate / slowest:6.1f}")
    print(
        f"The cache, made once: {cache_seconds:.1f} s, {1000 * cache_seconds / num_slices:.1f} ms "
        f"a slice, as long as {slowest * cache_seconds / num_slices:.2f} epochs of {ORIGINAL}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Make the volumes, time, print; return 1 when ours is not fast enough."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loader")
    parser.add_argument("--cases", type=int, default=4, help="volumes")
    parser.add_argument("--depth", type=int, default=96, help="slices of a volume")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=24)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        volumes, cache_dir = Path(name) / "volumes", Path(name) / "cache"
        write_volumes(volumes, options.cases, options.depth)
        paths = write_slices(volumes, Path(name) / "slices")
        start = time.perf_counter()
        our_slices(volumes, cache_dir, "none")
        cache_seconds = time.perf_counter() - start
        loaders = build_loaders(volumes, cache_dir, paths, options.batch_size, options.workers)
        rates = compare(loaders, options.rounds)
    print(
        f"{machine_name()}; {len(paths)} slices of {NATIVE_SIZE} x {NATIVE_SIZE} pixels to "
        f"{SIZE} x {SIZE}, batches of {options.batch_size}, {options.workers} workers, "
        f"median of {options.rounds}"
    )
    report(rates, len(paths), cache_seconds)
    return int(rates["ours, default"] < GOAL * rates[ORIGINAL])


if __name__ == "__main__":
    sys.exit(main())
