"""Time Dice and HD95 of eight organs against medpy, at equal values.

    python -m benchmarks.metrics                      a minute or more per repeat, mostly medpy
    python -m benchmarks.metrics --size 120 120 50    seconds

Ours also computes HD95 in mm, surface Dice, precision, recall and volumes in the time shown; medpy
computes Dice and its pooled HD95 in voxels only. Exits 1 when the values differ.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from medpy.metric import binary
from scipy import ndimage

from swin_unet.metrics import score_case

SPACING_MM = (0.76, 0.76, 3.0)
# Centre and radii as fractions of the volume's shape; roughly the eight Synapse organs.
ORGANS = {
    "aorta": ((0.52, 0.62, 0.50), (0.03, 0.03, 0.45)),
    "gallbladder": ((0.35, 0.38, 0.45), (0.05, 0.04, 0.10)),
    "left kidney": ((0.70, 0.66, 0.40), (0.07, 0.08, 0.20)),
    "right kidney": ((0.32, 0.68, 0.38), (0.07, 0.08, 0.20)),
    "liver": ((0.26, 0.48, 0.65), (0.20, 0.25, 0.28)),
    "pancreas": ((0.52, 0.45, 0.48), (0.13, 0.04, 0.08)),
    "spleen": ((0.80, 0.60, 0.66), (0.09, 0.13, 0.20)),
    "stomach": ((0.64, 0.36, 0.68), (0.13, 0.13, 0.20)),
}


def make_volumes(shape: tuple[int, int, int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Make organs, and a prediction with wrong boundaries and a false-positive blob for each.

    Args:
        shape: (X, Y, Z).
        seed: Of the deformations.

    Returns:
        Prediction and reference, uint8.
    """
    generator = np.random.default_rng(seed)
    deformation = _smooth_noise(shape, 0.12, generator)
    error = _smooth_noise(shape, 0.15, generator)
    prediction, reference = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    for value, (center, radii) in enumerate(ORGANS.values(), start=1):
        distance = _ellipsoid_distance(shape, center, radii)
        reference[distance + deformation < 1] = value
        prediction[distance + deformation + error < 1] = value
    sides = [size // 70 + 1 for size in shape]
    for value, x_position in enumerate(np.linspace(0.05, 0.85, len(ORGANS)), start=1):
        corner = [int(f * size) for f, size in zip((x_position, 0.9, 0.1), shape, strict=True)]
        blob = tuple(slice(c, c + side) for c, side in zip(corner, sides, strict=True))
        prediction[blob] = value
    return prediction, reference


def _smooth_noise(
    shape: tuple[int, int, int], scale: float, generator: np.random.Generator
) -> np.ndarray:
    """Return float32 noise that varies over a sixteenth of the volume."""
    coarse = generator.standard_normal((17, 17, 17), dtype=np.float32) * scale
    zoom = [size / 17 for size in shape]
    return ndimage.zoom(coarse, zoom, order=1, mode="nearest", grid_mode=True)


def _ellipsoid_distance(
    shape: tuple[int, int, int], center: tuple[float, ...], radii: tuple[float, ...]
) -> np.ndarray:
    """Return 0 at the centre, 1 on the surface."""
    axes = (np.arange(size, dtype=np.float32) / size for size in shape)
    squares = (((x - c) / r) ** 2 for x, c, r in zip(axes, center, radii, strict=True))
    first, second, third = np.ix_(*squares)
    return first + second + third


def compare(prediction: np.ndarray, reference: np.ndarray, repeats: int) -> list[dict[str, Any]]:
    """Time both implementations in turns.

    Returns:
        Per organ, and for all together, the name, median seconds of ours and medpy's, and both
        implementations' (Dice, pooled HD95).
    """
    rows = [
        _compare_organ(prediction, reference, value, name, repeats)
        for value, name in enumerate(ORGANS, start=1)
    ]
    calls = [_timed(lambda: score_case(prediction, reference, SPACING_MM)) for _ in range(repeats)]
    total = {
        "name": "all in one call",
        "ours_s": median(seconds for seconds, _ in calls),
        "medpy_s": sum(row["medpy_s"] for row in rows),
    }
    return [*rows, total]


def _compare_organ(
    prediction: np.ndarray, reference: np.ndarray, value: int, name: str, repeats: int
) -> dict[str, Any]:
    ours, medpys = [], []
    for _ in range(repeats):
        ours.append(
            _timed(lambda: score_case(prediction, reference, SPACING_MM, {value: name})[name])
        )
        medpys.append(_timed(lambda: _score_medpy(prediction == value, reference == value)))
    record = ours[-1][1]
    return {
        "name": name,
        "ours_s": median(seconds for seconds, _ in ours),
        "medpy_s": median(seconds for seconds, _ in medpys),
        "ours": (record["dice"], record["hd95_pooled_voxels"]),
        "medpy": medpys[-1][1],
    }


def _score_medpy(prediction: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    return binary.dc(prediction, reference), binary.hd95(prediction, reference)


def _timed(function: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def machine_name() -> str:
    """Return processor, core count and system."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = models[0].split(":", 1)[1].strip() if models else processor
    return f"{processor}, {os.cpu_count()} cores, {platform.system()}"


def main() -> int:
    """Print the table of ratios; return 1 when the values differ."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.metrics", description=__doc__)
    parser.add_argument("--size", type=int, nargs=3, default=(400, 400, 148), metavar="N")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    prediction, reference = make_volumes(tuple(arguments.size))
    size = " x ".join(map(str, arguments.size))
    print(f"{machine_name()}; {size} voxels, median of {arguments.repeats}")
    print(f"{'organ':16} {'Dice':>6} {'HD95':>7} {'ours s':>8} {'medpy s':>8} {'ratio':>6}")
    rows = compare(prediction, reference, arguments.repeats)
    for row in rows:
        dice, hd95 = (f"{value:.3f}" for value in row["ours"]) if "ours" in row else ("", "")
        times = f"{row['ours_s']:8.3f} {row['medpy_s']:8.2f} {row['medpy_s'] / row['ours_s']:6.0f}"
        print(f"{row['name']:16} {dice:>6} {hd95:>7} {times}")
    differing = [
        row["name"]
        for row in rows
        if "ours" in row and not np.allclose(row["ours"], row["medpy"], rtol=1e-12, atol=1e-12)
    ]
    print(f"Values differ: {', '.join(differing)}" if differing else "Values equal")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
