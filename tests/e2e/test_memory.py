"""The memory that segmenting takes: the documented formula, and a cap that it works under."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.inference_checks import random_checkpoint

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from the kernel")

# Started from this large process, a child would count its memory as its own; this one is small.
# It prints the peak of the child, and limits the memory that the child may ask for, if told.
MEASURE = """
import json, resource, subprocess, sys
cap, *command = sys.argv[1:]
def limit():
    if int(cap):
        resource.setrlimit(resource.RLIMIT_DATA, (int(cap), int(cap)))
done = subprocess.run([sys.executable, *command], preexec_fn=limit, capture_output=True, text=True)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
print(json.dumps({"code": done.returncode, "peak": peak, "stderr": done.stderr[-2000:]}))
"""
SHAPE = (256, 256, 120)
MB = 2**20


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    return np.random.default_rng(0).integers(-1000, 1000, SHAPE, dtype=np.int16)


@pytest.fixture
def source(tmp_path: Path, noise: np.ndarray) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in "abc":
        nib.save(nib.Nifti1Image(noise, np.eye(4)), folder / f"{name}.nii.gz")
    return folder


def segment(
    start, tmp_path: Path, source: Path, num_classes: int, *options: str, cap: int = 0
) -> int:
    """Segment and return the peak in bytes."""
    classes = tuple(f"organ {number}" for number in range(1, num_classes))
    checkpoint = random_checkpoint(tmp_path / f"{num_classes}.pt", classes, image_size=(64, 64))
    output = tmp_path / f"out{num_classes}{len(options)}{cap}"
    arguments = ["--checkpoint", checkpoint, "--input", source, "--output", output, *options]
    process: subprocess.Popen[str] = start("-c", MEASURE, str(cap), "infer.py", *arguments)
    stdout, stderr = process.communicate(timeout=300)
    result = json.loads(stdout or "{}")
    assert result.get("code") == 0, stderr + result.get("stderr", "")
    peak: int = result["peak"]
    return peak


def test_memory_does_not_grow_with_the_classes(start, source, tmp_path) -> None:
    """14 classes of this volume as float32 logits would take 420 MB, 2 classes 60 MB."""
    peaks = [segment(start, tmp_path, source / "a.nii.gz", number) for number in (2, 14)]
    assert peaks[1] - peaks[0] < 40 * MB


def test_maps_on_disk_take_no_memory(start, source, tmp_path) -> None:
    """Probabilities of 14 classes are 210 MB as they lie on the disk."""
    path = source / "a.nii.gz"
    peaks = [
        segment(start, tmp_path, path, 14, *options)
        for options in ((), ("--probabilities", "--entropy"))
    ]
    assert peaks[1] - peaks[0] < 100 * MB


def test_the_documented_formula_holds(start, source, tmp_path, noise) -> None:
    """Of a folder: the case in work, the one being written and the next one.

    As docs/inference.md says; the base is measured by a volume of no size.
    """
    tiny = tmp_path / "tiny"
    tiny.mkdir()
    nib.save(nib.Nifti1Image(noise[:32, :32, :2], np.eye(4)), tiny / "a.nii.gz")
    base = segment(start, tmp_path, tiny, 14)
    peak = segment(start, tmp_path, source, 14)
    V, L = noise.nbytes, noise.size
    slab = 4 * 4 * 2**23  # four times the logits, which are at most 2^23 numbers of 4 bytes
    slack = 64 * MB  # that the allocator keeps of what was freed
    assert peak < base + 3 * V + 2 * L + slab + slack
    assert peak > base + V + L - 10 * MB  # or the formula would say nothing


def test_a_cap_far_below_the_logits_is_enough(start, source, tmp_path) -> None:
    """What the process may ask for, threads' stacks and libraries included."""
    tiny = tmp_path / "tiny"
    tiny.mkdir()
    nib.save(nib.Nifti1Image(np.zeros((32, 32, 2), np.int16), np.eye(4)), tiny / "a.nii.gz")
    base = segment(start, tmp_path, tiny, 2)
    segment(start, tmp_path, source / "a.nii.gz", 60, cap=base + 250 * MB)  # logits: 1.9 GB
