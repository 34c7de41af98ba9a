"""The memory that segmenting takes."""

from __future__ import annotations

import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from swin_unet import checkpoint as checkpoints
from swin_unet.config import Config, DataConfig, ModelConfig, to_plain
from swin_unet.imaging import Preprocessing
from swin_unet.models import build_model, model_arguments


def random_checkpoint(path: Path, num_classes: int) -> Path:
    """Write a checkpoint of a network that has learned nothing."""
    config = Config(
        model=ModelConfig(embed_dim=8, depths=[1, 1], num_heads=[1, 1], skips=1),
        data=DataConfig(intensity="window", window=(-1000, 1000), image_size=(64, 64)),
    )
    description = model_arguments(config.model, 1, num_classes)
    content = {
        "model_description": description,
        "model": build_model(description).state_dict(),
        "preprocessing": Preprocessing.from_config(config.data).to_dict(),
        "classes": [f"organ {number}" for number in range(1, num_classes)],
        "config": to_plain(config),
    }
    checkpoints.save(path, content)
    return path


# Started from this large process, a child would count its memory as its own; this one is small.
PEAK_MEMORY = """
import resource, subprocess, sys
subprocess.run([sys.executable, *sys.argv[1:]], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss is the system's")
def test_memory_does_not_grow_with_the_classes(command, tmp_path: Path) -> None:
    """14 classes of this volume as float32 logits would take 220 MB, 2 classes 31 MB."""
    source = tmp_path / "images" / "noise.nii"
    source.parent.mkdir()
    noise = np.random.default_rng(0).integers(-1000, 1000, (256, 256, 60), dtype=np.int16)
    nib.save(nib.Nifti1Image(noise, np.eye(4)), source)
    peaks_mb = []
    for num_classes in (2, 14):
        checkpoint = random_checkpoint(tmp_path / f"{num_classes}.pt", num_classes)
        output = tmp_path / f"out{num_classes}"
        arguments = ("--checkpoint", checkpoint, "--input", source, "--output", output)
        done = command("-c", PEAK_MEMORY, "infer.py", *arguments, "--batch_size", "2")
        peaks_mb.append(int(done.stdout) / 1024)
    assert np.asarray(nib.load(tmp_path / "out14" / "noise.nii").dataobj).max() > 1

    assert peaks_mb[1] - peaks_mb[0] < 40
