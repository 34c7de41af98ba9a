"""Faults of image and label files, and of the disk: one line that helps, and nothing written."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from swin_unet import checkpoint as checkpoints


def rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray], dtype: Any = None) -> None:
    """Change the voxels of a NIfTI file."""
    image = nib.load(path)
    voxels = change(np.asarray(image.dataobj))
    nib.save(nib.Nifti1Image(voxels.astype(dtype or voxels.dtype), image.affine), path)


def set_first(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(voxels: np.ndarray) -> np.ndarray:
        voxels = voxels.astype(np.float32)
        voxels[0, 0, 0] = value
        return voxels

    return change


# Faults of an image: how to make one, and words of the message. Both commands meet them.
IMAGE_FAULTS: dict[str, tuple[Callable[[Any, Path], Any], tuple[str, ...]]] = {
    "truncated": (
        lambda place, path: place.truncate(path),
        ("complete NIfTI file", "truncated", "again"),
    ),
    "empty file": (lambda place, path: path.write_bytes(b""), ("NIfTI", "truncated")),
    "2D": (
        lambda place, path: rewrite(path, lambda voxels: voxels[..., 0]),
        ("3D volume", "2D data"),
    ),
    "4D": (
        lambda place, path: rewrite(path, lambda voxels: np.stack([voxels, voxels], axis=-1)),
        ("1 ", "channel", "2"),
    ),
    "5D": (
        lambda place, path: rewrite(
            path, lambda v: np.broadcast_to(v[..., None, None], (*v.shape, 2, 2))
        ),
        ("3D volume", "5D data"),
    ),
    "NaN": (
        lambda place, path: rewrite(path, set_first(np.nan)),
        ("finite voxels", "1 of 12288", "NaN"),
    ),
    "infinite": (
        lambda place, path: rewrite(path, set_first(np.inf)),
        ("finite voxels", "1 of 12288"),
    ),
}
# Faults of a label map, for both commands as well.
LABEL_FAULTS: dict[str, tuple[Callable[[Any, Path], Any], tuple[str, ...]]] = {
    "value beyond the classes": (
        lambda place, path: rewrite(path, set_first(3), np.uint8),
        ("from 0 to 2", "1 voxels with 3"),
    ),
    "probabilities": (lambda place, path: rewrite(path, set_first(0.5)), ("integer", "0.5")),
    "other grid": (
        lambda place, path: place.shift(path),
        ("grid of", "imagesTr", "origin", "Resample"),
    ),
    "other shape": (
        lambda place, path: rewrite(path, lambda voxels: voxels[:, :, 1:]),
        ("grid of", "imagesTr", "shape"),
    ),
    "4D": (
        lambda place, path: rewrite(path, lambda voxels: np.stack([voxels, voxels], axis=-1)),
        ("3D label map", "4D"),
    ),
    "truncated": (lambda place, path: place.truncate(path), ("complete NIfTI file", "truncated")),
}


@pytest.mark.parametrize("fault", IMAGE_FAULTS)
def test_infer_refuses_an_image(call, place, fault: str) -> None:
    spoil, words = IMAGE_FAULTS[fault]
    spoil(place, place.image())
    before = place.files()
    call("infer", *place.infer()).assert_refused(str(place.image()), *words)
    assert place.files() == before


@pytest.mark.parametrize("number", [1, 3], ids=["train", "val"])
@pytest.mark.parametrize("fault", IMAGE_FAULTS)
def test_train_refuses_an_image(call, place, fault: str, number: int) -> None:
    spoil, words = IMAGE_FAULTS[fault]
    spoil(place, place.image(number))
    arguments = place.train()
    before = place.files()
    call("train", *arguments).assert_refused(str(place.image(number)), *words)
    assert place.files() == before
    assert not list(place.folder.rglob(".*"))


@pytest.mark.parametrize("fault", LABEL_FAULTS)
def test_infer_refuses_a_label_map(call, place, fault: str) -> None:
    spoil, words = LABEL_FAULTS[fault]
    spoil(place, place.label())
    before = place.files()
    arguments = place.infer(labels=place.data / "labelsTr")
    call("infer", *arguments).assert_refused(str(place.label()), *words)
    assert place.files() == before


@pytest.mark.parametrize("number", [1, 3], ids=["train", "val"])
@pytest.mark.parametrize("fault", LABEL_FAULTS)
def test_train_refuses_a_label_map(call, place, fault: str, number: int) -> None:
    spoil, words = LABEL_FAULTS[fault]
    spoil(place, place.label(number))
    arguments = place.train()
    before = place.files()
    call("train", *arguments).assert_refused(str(place.label(number)), *words)
    assert place.files() == before


@contextmanager
def file_size_limit(num_bytes: int) -> Iterator[None]:
    """Let the system refuse larger files (EFBIG), as it refuses all on a full disk (ENOSPC)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", ["big.nii", "big.nii.gz"])
def test_full_disk_leaves_no_piece_of_a_label_map(call, place, name: str) -> None:
    image = nib.load(place.image())
    nib.save(image, place.folder / name)
    before = place.files()
    with file_size_limit(200 if name.endswith("gz") else 8000):
        outcome = call("infer", *place.infer(input=place.folder / name))
    outcome.assert_refused(str(place.output / name), "a place to write to", "File too large")
    assert place.files() == before


def test_full_disk_leaves_the_last_checkpoint(call, place) -> None:
    arguments = place.resume("--train.epochs", "5")
    before = checkpoints.load(place.output / "last.pt")
    size = (place.output / "last.pt").stat().st_size
    with file_size_limit(size * 2 // 3):
        outcome = call("train", *arguments)
    outcome.assert_refused(str(place.output / "last.pt"), "a place to write to", "Free some space")
    assert not list(place.output.rglob(".*"))
    after = checkpoints.load(place.output / "last.pt")
    assert after["epoch"] == before["epoch"] == 4
    assert all(torch.equal(after["model"][key], value) for key, value in before["model"].items())
    assert call("train", *arguments).code == 0  # once there is space again
    assert checkpoints.load(place.output / "last.pt")["epoch"] == 5


@pytest.mark.parametrize("script", ["train", "infer"])
def test_unwritable_output_folder_is_refused(call, place, script: str) -> None:
    place.output.mkdir()
    place.output.chmod(0o555)
    if os.access(place.output, os.W_OK):
        pytest.skip("this user may write anywhere")
    arguments = place.train() if script == "train" else place.infer()
    call(script, *arguments).assert_refused(str(place.output), "a place to write to", "denied")
    assert not list(place.output.iterdir())
