"""Forty kinds of bad data and more: the check names every file, and training refuses it too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from tests.e2e.bad_data import (
    FIRST,
    Bench,
    Call,
    Fault,
    assert_refused,
    assert_reported,
    decathlon,
    set_voxels,
    truncate,
)

IMAGE = f"imagesTr/{FIRST}.nii.gz"


def image(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Bench], object]:
    return decathlon(lambda bench: bench.change_image(change))


def label(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Bench], object]:
    return decathlon(lambda bench: bench.change_label(change))


def colours(array: np.ndarray) -> np.ndarray:
    rgb = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    return np.zeros(array.shape, rgb)


def turned(degrees: float) -> np.ndarray:
    angle = np.deg2rad(degrees)
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return matrix


def shifted(distance_mm: float) -> np.ndarray:
    matrix = np.eye(4)
    matrix[2, 3] = distance_mm
    return matrix


def flat_affine(path: Path) -> None:
    """Write a header whose third axis goes nowhere."""
    volume = nib.load(path)
    header = volume.header.copy()
    header.set_sform(np.diag([1.0, 1.0, 0.0, 1.0]), code=1)
    header.set_qform(None, code=0)
    nib.save(nib.Nifti1Image(np.asarray(volume.dataobj), None, header), path)


def described(bench: Bench, **changes: Any) -> None:
    bench.decathlon()
    bench.describe(**changes)


def few_cases(bench: Bench, **options: Any) -> None:
    del bench.data["split_file"]
    bench.data |= options


IMAGES = {
    "truncated image": Fault(
        decathlon(lambda bench: truncate(bench.image())), IMAGE, ("complete NIfTI file", "Copy")
    ),
    "empty image file": Fault(
        decathlon(lambda bench: bench.image().write_bytes(b"")), IMAGE, ("NIfTI", "truncated")
    ),
    "image that is a text": Fault(
        decathlon(lambda bench: bench.image().write_text("no image")), IMAGE, ("NIfTI",)
    ),
    "missing image": Fault(
        decathlon(lambda bench: bench.image().unlink()), IMAGE, ("nothing there", "Restore it")
    ),
    "2D image": Fault(image(lambda array: array[..., 0]), IMAGE, ("3D volume", "2D data")),
    "5D image": Fault(
        image(lambda array: np.stack([np.stack([array] * 2, -1)] * 2, -1)), IMAGE, ("5D data",)
    ),
    "image with a channel too many": Fault(
        image(lambda array: np.stack([array, array], -1)), IMAGE, ("1 channel", "found 2")
    ),
    "colour image": Fault(image(colours), IMAGE, ("real voxels", "colour")),
    "complex image": Fault(
        image(lambda array: array.astype(np.complex64)), IMAGE, ("real voxels", "complex64")
    ),
    "NaN in the image": Fault(image(set_voxels(np.nan)), IMAGE, ("finite voxels", "found 5 of")),
    "infinite image": Fault(image(set_voxels(-np.inf)), IMAGE, ("finite voxels", "found 5 of")),
    "image all NaN": Fault(
        image(lambda array: np.full(array.shape, np.nan)), IMAGE, ("finite voxels",)
    ),
    "affine of rank two": Fault(
        decathlon(lambda bench: flat_affine(bench.image())), IMAGE, ("three independent", "sform")
    ),
}
LABEL = f"labelsTr/{FIRST}.nii.gz"
LABELS = {
    "truncated label map": Fault(
        decathlon(lambda bench: truncate(bench.label())), LABEL, ("complete NIfTI file",)
    ),
    "missing label map": Fault(
        decathlon(lambda bench: bench.label().unlink()), LABEL, ("nothing there", "Restore it")
    ),
    "4D label map": Fault(
        label(lambda array: np.stack([array, array], -1)), LABEL, ("3D label map", "4D")
    ),
    "label beyond the classes": Fault(
        label(set_voxels(3, np.uint8)), LABEL, ("from 0 to 2", "5 voxels with 3")
    ),
    "negative label": Fault(
        label(set_voxels(-1, np.int16)), LABEL, ("from 0 to 2", "5 voxels with -1")
    ),
    "label 256, which is 0 in 8 bits": Fault(
        label(set_voxels(256, np.uint16)), LABEL, ("from 0 to 2", "256")
    ),
    "label 258, which is 2 in 8 bits": Fault(
        label(set_voxels(258, np.uint16)), LABEL, ("from 0 to 2", "258")
    ),
    "label 65537, which is 1 in 16 bits": Fault(
        label(set_voxels(65537, np.int32)), LABEL, ("from 0 to 2", "65537")
    ),
    "half a label": Fault(label(set_voxels(0.5)), LABEL, ("integer label values", "0.5")),
    "NaN in the label map": Fault(
        label(set_voxels(np.nan)), LABEL, ("integer label values", "nan")
    ),
    "infinite label": Fault(label(set_voxels(np.inf)), LABEL, ("integer label values", "inf")),
    "label map of another shape": Fault(
        label(lambda array: array[1:]), LABEL, ("grid of", "(23, 20, 8)", "Resample")
    ),
    "label map at another place": Fault(
        decathlon(lambda bench: bench.move(bench.label(), shifted(3))), LABEL, ("grid of", "origin")
    ),
    "label map of another spacing": Fault(
        decathlon(lambda bench: bench.move(bench.label(), np.diag([1.1, 1, 1, 1]))),
        LABEL,
        ("grid of", "spacing (1.65, 1.5, 3)"),
    ),
    "label map turned by a degree": Fault(
        decathlon(lambda bench: bench.move(bench.label(), turned(1))), LABEL, ("other directions",)
    ),
    "label map to be copied onto another shape": Fault(
        decathlon(
            lambda bench: [
                bench.data.update(on_mismatch="copy_geometry"),
                bench.change_label(lambda array: array[1:]),
            ]
        ),
        LABEL,
        ("grid of", "equal shapes"),
    ),
    "label map to be resampled from elsewhere": Fault(
        decathlon(
            lambda bench: [
                bench.data.update(on_mismatch="resample"),
                bench.move(bench.label(), shifted(500)),
            ]
        ),
        LABEL,
        ("labels inside", "Pair the right files"),
    ),
}
DESCRIPTIONS = {
    "no dataset.json": Fault(
        decathlon(lambda bench: (bench.root / "dataset.json").unlink()), "data", ("a dataset.json",)
    ),
    "dataset.json that is no JSON": Fault(
        decathlon(lambda bench: (bench.root / "dataset.json").write_text("{")),
        "dataset.json",
        ("valid JSON",),
    ),
    "labels with a gap": Fault(
        lambda bench: described(bench, labels={"0": "background", "2": "organ"}),
        "dataset.json",
        ("without gaps", "Renumber"),
    ),
    "a case listed twice": Fault(
        lambda bench: described(
            bench,
            training=[{"image": f"imagesTr/{FIRST}.nii.gz", "label": f"labelsTr/{FIRST}.nii.gz"}]
            * 2,
        ),
        "dataset.json",
        (f"{FIRST} more than once",),
    ),
    "other classes than configured": Fault(
        decathlon(lambda bench: bench.data.update(classes=["liver", "spleen"])),
        "data",
        ("liver", "found ['body', 'organ']"),
    ),
    "no such folder": Fault(
        decathlon(lambda bench: bench.data.update(root=str(bench.folder / "nowhere"))),
        "nowhere",
        ("nothing there", "datasets.phantom"),
    ),
    "no folder given": Fault(
        decathlon(lambda bench: bench.data.pop("root")), "data.root", ("no value", "--data.root")
    ),
}
SPLITS = {
    "split of unknown cases": Fault(
        decathlon(lambda bench: bench.split(val=["x"])), "split.json", ("unknown names x",)
    ),
    "a case in two parts": Fault(
        decathlon(lambda bench: bench.split(val=[FIRST])),
        "split.json",
        (f"{FIRST} more than once",),
    ),
    "no training case": Fault(
        decathlon(lambda bench: bench.split(train=[])),
        "split.json",
        ("training cases, found none",),
    ),
    "a patient on both sides": Fault(
        decathlon(lambda bench: bench.data.update(group_pattern="p[0-9]")),
        "split.json",
        ("every patient in one part",),
    ),
    "too few cases for the split": Fault(
        decathlon(lambda bench: few_cases(bench, val_fraction=0.5, test_fraction=0.4)),
        "data.val_fraction and data.test_fraction",
        ("labelled cases", "Add cases"),
    ),
    "more folds than cases": Fault(
        decathlon(lambda bench: few_cases(bench, folds=5)), "data.folds", ("5 folds", "fewer folds")
    ),
}
OPTIONS = {
    "no window for intensity window": Fault(
        decathlon(lambda bench: bench.data.pop("window")),
        "data.window",
        ("low and high", "no value"),
    ),
    "oblong slices for augmentation paper": Fault(
        decathlon(lambda bench: bench.data.update(augmentation="paper", image_size=[16, 24])),
        "data.augmentation",
        ("square",),
    ),
    "flip across the slices": Fault(
        decathlon(
            lambda bench: bench.data.update(augmentation="default", flip_axes=["superior_inferior"])
        ),
        "data.flip_axes",
        ("runs across the slices",),
    ),
}


FAULTS = IMAGES | LABELS | DESCRIPTIONS | SPLITS | OPTIONS


@pytest.mark.parametrize("fault", FAULTS)
def test_check_reports(call: Call, bench: Bench, fault: str) -> None:
    assert_reported(call, bench, FAULTS[fault])


@pytest.mark.parametrize("fault", FAULTS)
def test_train_refuses(call: Call, bench: Bench, fault: str) -> None:
    assert_refused(call, bench, FAULTS[fault])
