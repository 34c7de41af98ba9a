"""The layouts of published benchmarks: BTCV, Synapse as TransUNet distributes it, and ACDC."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from datasets import heart
from datasets.abdomen import CLASSES
from datasets.btcv import ORGANS, TEST_NUMBERS, TRAIN_NUMBERS
from datasets.phantom_ct import make_case
from datasets.phantom_files import Order, as_pictures, make_folders, turned, windowed, write_lines

# Those below it that are not in the split are of the challenge's other parts.
_FIRST_UNLABELLED = 61


def published_split(cases: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Choose BTCV cases for training and test, in about the published proportion of 18 to 12."""
    num_test = max(1, round(cases * len(TEST_NUMBERS) / 30))
    return TRAIN_NUMBERS[: cases - num_test], TEST_NUMBERS[:num_test]


def write_btcv(folder: Path, order: Order) -> None:
    """Write RawData as the BTCV challenge does, all 13 organs labelled."""
    images, labels, unlabelled = make_folders(
        folder, "RawData/Training/img", "RawData/Training/label", "RawData/Testing/img"
    )
    for number in sorted(sum(published_split(order.cases), ())):
        image, label = _btcv_case(order, number)
        nib.save(image, images / f"img{number:04d}.nii.gz")
        nib.save(label, labels / f"label{number:04d}.nii.gz")
    for number in range(_FIRST_UNLABELLED, _FIRST_UNLABELLED + order.test_cases):
        nib.save(_btcv_case(order, number)[0], unlabelled / f"img{number:04d}.nii.gz")


def write_transunet(folder: Path, order: Order) -> None:
    """Write slices, volumes and lists as TransUNet distributes them, eight organs labelled."""
    import h5py

    slices, volumes, lists = make_folders(folder, "train_npz", "test_vol_h5", "lists/lists_Synapse")
    train, test = published_split(order.cases)
    names = []
    for number in sorted(train):
        image, label = _prepared(*_btcv_case(order, number))
        for index in range(len(image)):
            names.append(f"case{number:04d}_slice{index:03d}")
            path = slices / f"{names[-1]}.npz"
            np.savez_compressed(path, image=image[index], label=label[index])
    for number in test:
        image, label = _prepared(*_btcv_case(order, number))
        with h5py.File(volumes / f"case{number:04d}.npy.h5", "w") as file:
            file["image"], file["label"] = image, label
    write_lines(lists / "train.txt", names)
    write_lines(lists / "test_vol.txt", [f"case{number:04d}" for number in test])
    write_lines(lists / "all.lst", [f"case{number:04d}.npy.h5" for number in sorted(train + test)])


def write_acdc(folder: Path, order: Order) -> None:
    """Write hearts at end-diastole and end-systole as the ACDC challenge does."""
    for number in range(1, order.cases + 1):
        name = f"patient{number:03d}"
        (patient,) = make_folders(folder, f"training/{name}")
        scan = heart.make_heart(order.seed, number, order.size)
        for frame, (image, label) in scan.frames.items():
            nib.save(image, patient / f"{name}_frame{frame:02d}.nii.gz")
            nib.save(label, patient / f"{name}_frame{frame:02d}_gt.nii.gz")
        diastole, systole = scan.frames
        lines = [
            f"ED: {diastole}",
            f"ES: {systole}",
            f"Group: {scan.group}",
            f"Height: {scan.height_cm}",
            f"NbFrame: {heart.NUM_FRAMES}",
            f"Weight: {scan.weight_kg}",
        ]
        write_lines(patient / "Info.cfg", lines)


def _btcv_case(order: Order, number: int) -> tuple[nib.Nifti1Image, nib.Nifti1Image]:
    image, label = make_case(order.seed, number, order.size, ORGANS)
    return turned(image, "LAS"), turned(label, "LAS")


def _prepared(image: nib.Nifti1Image, label: nib.Nifti1Image) -> tuple[np.ndarray, np.ndarray]:
    """Return windowed intensities in [0, 1] and the eight organs, (D, H, W) float32 both."""
    values = [CLASSES.index(name) + 1 if name in CLASSES else 0 for name in ORGANS]
    to_eight = np.array([0, *values], np.float32)
    return windowed(as_pictures(image)), to_eight[as_pictures(label)]
