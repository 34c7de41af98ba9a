"""Measure the peak memory of infer.py on a large CT with many classes.

    python -m benchmarks.memory                          some minutes
    python -m benchmarks.memory --size 256 256 60        seconds

Segments a made-up int16 volume by a network of random weights (tiny, 27 million parameters) and
prints resident memory beside the size of what lies in it. The logits of all classes at once would
take 4 bytes per voxel and class; they never exist together. Exits 1 when the peak is 3 GB or more.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
LIMIT_GB = 3.0
# A process of its own: the peak of all children is also that of whatever started them.
MEASURE = """
import resource, subprocess, sys
subprocess.run([sys.executable, *sys.argv[1:]], check=True, stdout=sys.stderr)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def write_volume(path: Path, shape: tuple[int, int, int]) -> None:
    """Write a round body of noisy tissue in air, int16, slice by slice."""
    generator = np.random.default_rng(0)
    rows, columns = np.ogrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    body = np.where(rows**2 + columns**2 < 0.7, 40, -1000)
    voxels = np.empty(shape, np.int16, order="F")
    for index in range(shape[2]):
        voxels[..., index] = body + generator.normal(0, 20, shape[:2])
    nib.save(nib.Nifti1Image(voxels, np.diag([0.8, 0.8, 1.5, 1.0])), path)


def write_checkpoint(path: Path, num_classes: int) -> None:
    """Write a checkpoint of the default network, untrained."""
    from swin_unet import checkpoint
    from swin_unet.config import Config, DataConfig, to_plain
    from swin_unet.imaging import Preprocessing
    from swin_unet.models import build_model, model_arguments

    config = Config(data=DataConfig(intensity="window", window=(-125, 275)))
    description = model_arguments(config.model, in_channels=1, num_classes=num_classes)
    content = {
        "model_description": description,
        "model": build_model(description).state_dict(),
        "preprocessing": Preprocessing.from_config(config.data).to_dict(),
        "classes": [f"organ {value}" for value in range(1, num_classes)],
        "config": to_plain(config),
    }
    checkpoint.save(path, content)


def measure_peak_gb(arguments: list[str]) -> float:
    """Run a Python command and return its largest resident memory in GB (10^9 bytes)."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *arguments],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    unit = 1 if sys.platform == "darwin" else 1024
    return int(done.stdout) * unit / 1e9


def main() -> int:
    """Make the inputs, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory")
    parser.add_argument("--size", type=int, nargs=3, default=(512, 512, 300), help="voxels")
    parser.add_argument("--classes", type=int, default=14, help="background included")
    parser.add_argument("--suffix", choices=(".nii", ".nii.gz"), default=".nii.gz")
    arguments = parser.parse_args()
    shape = tuple(arguments.size)
    num_voxels = float(np.prod(shape))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        volume, checkpoint = folder / f"volume{arguments.suffix}", folder / "random.pt"
        write_volume(volume, shape)
        write_checkpoint(checkpoint, arguments.classes)
        started = time.monotonic()
        paths = ["--checkpoint", checkpoint, "--input", volume, "--output", folder / "out"]
        peak_gb = measure_peak_gb(["infer.py", *map(str, paths)])
        seconds = time.monotonic() - started
        idle_gb = measure_peak_gb(["-c", "import swin_unet.inference, monai.transforms"])
    print(f"volume {shape} int16: {2 * num_voxels / 1e9:6.2f} GB")
    print(
        f"logits, {arguments.classes} classes: {4 * arguments.classes * num_voxels / 1e9:6.2f} GB"
    )
    print(f"libraries only: {idle_gb:6.2f} GB")
    print(f"infer.py, peak: {peak_gb:6.2f} GB in {seconds:.0f} s (limit {LIMIT_GB} GB)")
    return int(peak_gb >= LIMIT_GB)


if __name__ == "__main__":
    sys.exit(main())
