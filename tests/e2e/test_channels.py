"""Images of several channels, from training to scores."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from swin_unet import checkpoint as checkpoints


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf8"))


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


@pytest.fixture(scope="module")
def two_channels(data: Path, tmp_path_factory) -> dict[str, Path]:
    """The phantoms with a second channel: as 4D files of MSD, and as one file per channel."""
    roots = {name: tmp_path_factory.mktemp(name) for name in ("msd", "nnunet")}
    for root in roots.values():
        (root / "imagesTr").mkdir()
        shutil.copytree(data / "labelsTr", root / "labelsTr")
    for path in sorted((data / "imagesTr").iterdir()):
        image = nib.load(path)
        channels = [voxels(path), np.flip(voxels(path), axis=0)]
        stacked = np.stack(channels, axis=-1)
        nib.save(nib.Nifti1Image(stacked, image.affine), roots["msd"] / "imagesTr" / path.name)
        for number, channel in enumerate(channels):
            name = path.name.replace(".nii", f"_000{number}.nii")
            nib.save(nib.Nifti1Image(channel, image.affine), roots["nnunet"] / "imagesTr" / name)
    description = read_json(data / "dataset.json")
    description["modality"] = {"0": "CT", "1": "mirrored"}
    (roots["msd"] / "dataset.json").write_text(json.dumps(description))
    labels = {"background": 0, "body": 1, "organs": 2}
    description = {"channel_names": description["modality"], "labels": labels, "numTraining": 5}
    description["file_ending"] = ".nii.gz"
    (roots["nnunet"] / "dataset.json").write_text(json.dumps(description))
    return roots


def test_two_channels_in_one_file_or_in_two(
    call, config: Path, two_channels: dict[str, Path], tmp_path: Path
) -> None:
    """Both layouts hold the same voxels: the same network comes out, and the same label maps."""
    for name, root in two_channels.items():
        options = ("--data.root", root, "--output_dir", tmp_path / name, "--train.epochs", "2")
        outcome = call("train", "--config", config, *options)
        assert outcome.code == 0, outcome.stderr
        arguments = ("--checkpoint", tmp_path / name / "best.pt", "--input", root / "imagesTr")
        options = (
            "--labels",
            root / "labelsTr",
            "--part",
            "val",
            "--output",
            tmp_path / f"{name}-out",
        )
        outcome = call("infer", *arguments, *options)
        assert outcome.code == 0, outcome.stderr
    weights = [checkpoints.load(tmp_path / name / "last.pt")["model"] for name in two_channels]
    assert weights[0]["encoder.patch_embed.proj.weight"].shape[1] == 2
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    a, b = tmp_path / "msd-out", tmp_path / "nnunet-out"
    assert read_json(a / "metrics.json") == read_json(b / "metrics.json")
    paths = sorted(a.glob("*.nii.gz"))
    assert len(paths) == 2
    for path in paths:
        np.testing.assert_array_equal(voxels(path), voxels(b / path.name))
