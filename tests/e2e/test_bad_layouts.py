"""Bad data in other layouts: the check names every file, and training refuses it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.e2e.bad_data import (
    FIRST,
    GOOD_ROWS,
    NAMES,
    Bench,
    Call,
    Fault,
    assert_refused,
    assert_reported,
    save_arrays,
    save_nifti,
    set_voxels,
    voxels,
)

Make = Callable[[Bench], object]


def listed(rows: list[dict[str, Any]]) -> Make:
    return lambda bench: [bench.decathlon(), bench.list_cases(rows)]


def two_channels(bench: Bench) -> None:
    """List every case with two files as channels, the second of the first case moved."""
    bench.decathlon()
    for name in NAMES:
        save_nifti(bench.root / "imagesTr" / f"{name}_t2.nii.gz", voxels(name)[0])
    rows = []
    for name, row in zip(NAMES, GOOD_ROWS, strict=True):
        images = [row["image"], f"imagesTr/{name}_t2.nii.gz"]
        rows.append({**row, "image": images, "name": name})
    bench.list_cases(rows)
    moved = np.eye(4)
    moved[0, 3] = 4
    bench.move(bench.root / "imagesTr" / f"{FIRST}_t2.nii.gz", moved)


def nnunet_without_a_channel(bench: Bench) -> None:
    bench.decathlon()
    for name in NAMES:
        bench.image(name).rename(bench.root / "imagesTr" / f"{name}_0000.nii.gz")
        if name != FIRST:
            save_nifti(bench.root / "imagesTr" / f"{name}_0001.nii.gz", voxels(name)[0])
    bench.describe_nnunet(channel_names={"0": "T1", "1": "T2"})


def btcv(bench: Bench) -> None:
    """Write raw BTCV with a value that no organ has."""
    for number in (5, 6, 7, 1):
        image, label = voxels(str(number))
        save_nifti(bench.root / "img" / f"img{number:04d}.nii.gz", image)
        save_nifti(bench.root / "label" / f"label{number:04d}.nii.gz", label)
    wrong = set_voxels(14, np.uint8)(voxels(FIRST)[1])
    save_nifti(bench.root / "label" / "label0005.nii.gz", wrong)
    bench.data |= {"name": "synapse", "val_fraction": 0.34}


def transunet(bench: Bench, value: int) -> None:
    """Write slices and volumes as TransUNet's authors do, one slice with a value."""
    for number in (5, 6, 7):
        image, label = voxels(str(number))
        for index in range(image.shape[2]):
            path = bench.root / "train_npz" / f"case{number:04d}_slice{index:03d}.npz"
            path.parent.mkdir(exist_ok=True)
            pixels = np.clip((image[..., index] + 150) / 400, 0, 1)
            label[2, 2, index] = value if (number, index) == (5, 4) else 0
            save_arrays(path, pixels.astype(np.float32), label[..., index])
    (bench.root / "test_vol_h5").mkdir()
    save_arrays(bench.root / "test_vol_h5" / "case0008.npy.h5", *voxels(FIRST))
    bench.data |= {"name": "synapse", "val_fraction": 0.34, "window": [0, 1]}


def acdc(bench: Bench) -> None:
    """Write ACDC's folders, one label map with a value beyond the three classes."""
    for number in range(1, 6):
        folder = bench.root / "training" / f"patient{number:03d}"
        folder.mkdir(parents=True)
        image, label = voxels(str(number))
        label = set_voxels(4, np.uint8)(label) if number == 2 else label
        save_nifti(folder / f"{folder.name}_frame01.nii.gz", image)
        save_nifti(folder / f"{folder.name}_frame01_gt.nii.gz", label)
    bench.data |= {"name": "acdc", "intensity": "zscore"}
    del bench.data["window"]


FAULTS = {
    "label map without an image": Fault(
        lambda bench: [
            bench.pairs(save_nifti, ".nii.gz"),
            save_nifti(bench.root / "labels" / "x.nii.gz", voxels(FIRST)[1]),
        ],
        "data.labels",
        ("no image for x",),
    ),
    "no class names": Fault(
        lambda bench: [bench.pairs(save_nifti, ".nii.gz"), bench.data.pop("classes")],
        "data.classes",
        ("names of the label values",),
    ),
    "no images": Fault(
        lambda bench: [
            bench.pairs(save_nifti, ".nii.gz"),
            bench.data.update(images="pictures/*.nii.gz", labels="labels"),
        ],
        "data.images",
        ("none at",),
    ),
    "listed file missing": Fault(
        listed([*GOOD_ROWS, {"image": "imagesTr/x.nii.gz"}]),
        "imagesTr/x.nii.gz",
        ("nothing there",),
    ),
    "unknown column in a list": Fault(
        listed([{"image": f"imagesTr/{FIRST}.nii.gz", "mask": "x"}]), "cases.json", ("`mask`",)
    ),
    "channels on two grids": Fault(
        two_channels, f"imagesTr/{FIRST}", ("grid of", "origin", "Resample")
    ),
    "missing channel of nnU-Net": Fault(
        nnunet_without_a_channel, f"imagesTr/{FIRST}_0001.nii.gz", ("nothing there", "Restore it")
    ),
    "label 14 of BTCV": Fault(
        btcv, "label/label0005.nii.gz", ("label values 0, 1, 2", "5 voxels with 14")
    ),
    "label 13 in a Synapse slice": Fault(
        lambda bench: transunet(bench, 13), "case0005_slice004.npz", ("from 0 to 8", "13")
    ),
    "window in HU for scaled slices": Fault(
        lambda bench: [transunet(bench, 0), bench.data.update(window=[-125, 275])],
        "data.window",
        ("[0, 1]",),
    ),
    "label 4 in ACDC": Fault(
        acdc, "patient002_frame01_gt.nii.gz", ("from 0 to 3", "5 voxels with 4")
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_check_reports(call: Call, bench: Bench, fault: str) -> None:
    assert_reported(call, bench, FAULTS[fault])


@pytest.mark.parametrize("fault", FAULTS)
def test_train_refuses(call: Call, bench: Bench, fault: str) -> None:
    assert_refused(call, bench, FAULTS[fault])
