"""Compare ways to segment a CT of 512 x 512 x 148 with one network, in one process.

    python -m benchmarks.inference                                   a quarter of an hour
    python -m benchmarks.inference --size 256 256 20 --repeats 1     a minute
    python -m benchmarks.inference --agreement RUN/best.pt VOLUME ...

All ways start at int16 voxels in memory, use the same weights (tiny, 27 million parameters, 9
classes, 224 x 224) and end at labels of the volume's size:

- `original`: the loop of the original Swin-Unet's evaluation, written down from its description:
  slice by slice a cubic spline to 224, the network, the largest logit, nearest labels back.
- `ours fp32`, `ours bf16`: the Segmenter.
- `SliceInferer`: MONAI's, on the resized volume; the logits are resized to the volume's size.

Medians of the repeats, which take turns. Memory is the largest resident size above that before.
`--agreement` compares the labels of fp32 and bf16 on volumes, by a trained network.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from swin_unet.config import DataConfig, ModelConfig
from swin_unet.imaging import Preprocessing, Volume, read_image, write_labels
from swin_unet.inference import Segmenter, VolumeSegmenter
from swin_unet.inference.linear import packed_linears
from swin_unet.models import build_model, model_arguments
from swin_unet.provenance import describe_hardware

CLASSES = tuple(f"organ {value}" for value in range(1, 9))
WINDOW = (-125.0, 275.0)
SIZE = 224
AIM = {"ours fp32": 1.25, "ours bf16": 2.2}


class Timed(nn.Module):
    """A network that counts the seconds spent in it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.seconds = 0.0

    def forward(self, image: Tensor) -> Tensor:
        """Map images to logits."""
        started = time.perf_counter()
        logits: Tensor = self.network(image)
        self.seconds += time.perf_counter() - started
        return logits


class Organs(Timed):
    """The same network, but its classes are grey values, in one piece like organs.

    Random weights give labels like noise, which gzip takes ten times as long to compress.
    """

    def forward(self, image: Tensor) -> Tensor:
        """Compute logits, and return others."""
        logits = super().forward(image)
        values = torch.linspace(0, 1, logits.shape[1], dtype=image.dtype)
        smooth = avg_pool2d(image, 5, stride=1, padding=2)
        return -((smooth - values.view(1, -1, 1, 1)) ** 2)


@dataclass
class Measured:
    """Wall and processor seconds, and bytes, of each repeat."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)

    def add(self, run: Callable[[], np.ndarray]) -> np.ndarray:
        """Run once and measure."""
        before = restart_peak()
        wall, cpu = time.perf_counter(), time.process_time()
        labels = run()
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)
        self.memory.append(status_bytes("VmHWM") - before)
        return labels


def restart_peak() -> int:
    """Give free memory back, restart the count of the largest resident size; return that of now."""
    gc.collect()
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return status_bytes("VmRSS")


def status_bytes(field_name: str) -> int:
    """Return a size that Linux tells of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field_name)) * 1024


def make_volume(shape: tuple[int, int, int]) -> Volume:
    """Make a body in air with organs in it, and noise as coarse as a scanner's."""
    from scipy.ndimage import gaussian_filter

    generator = np.random.default_rng(0)
    rows, columns = np.ogrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    picture = np.where(rows**2 + columns**2 < 0.7, 40.0, -1000.0)
    for hu in (-90, 60, 110, 20, 150, -20, 90, 70):
        y, x, height, width = generator.uniform((-0.5, -0.5, 0.05, 0.05), (0.5, 0.5, 0.25, 0.25))
        picture[((rows - y) / height) ** 2 + ((columns - x) / width) ** 2 < 1] = hu
    voxels = np.empty(shape, np.int16, order="F")
    for index in range(shape[2]):
        noise = gaussian_filter(generator.normal(0, 60, shape[:2]).astype(np.float32), 1.0)
        voxels[..., index] = picture + noise
    return Volume(voxels, np.diag([-0.8, -0.8, 2.5, 1.0]))


def make_segmenter(network: nn.Module, precision: str) -> VolumeSegmenter:
    """Make ours."""
    data = DataConfig(intensity="window", window=WINDOW, image_size=(SIZE, SIZE))
    preprocessing = Preprocessing.from_config(data)
    return VolumeSegmenter(
        network, preprocessing, num_channels=1, classes=CLASSES, precision=precision
    )


def scale(volume: Volume) -> np.ndarray:
    """Return slices (N, H, W) float32 in [0, 1], as the original's files hold them."""
    slices = np.moveaxis(volume.array, -1, 0).astype(np.float32)
    low, high = WINDOW
    return (slices.clip(low, high) - low) / (high - low)


@torch.inference_mode()
def original_loop(network: nn.Module, volume: Volume) -> np.ndarray:
    """Segment as the original does."""
    from scipy.ndimage import zoom

    slices = scale(volume)
    labels = np.zeros(slices.shape, np.float32)
    for index, picture in enumerate(slices):
        height, width = picture.shape
        small = zoom(picture, (SIZE / height, SIZE / width), order=3)
        logits = network(torch.from_numpy(small)[None, None].float())
        found = torch.argmax(torch.softmax(logits, dim=1), dim=1).squeeze(0).numpy()
        labels[index] = zoom(found, (height / SIZE, width / SIZE), order=0)
    return labels


@torch.inference_mode()
def slice_inferer(network: nn.Module, volume: Volume) -> np.ndarray:
    """Segment by MONAI's SliceInferer."""
    from monai.inferers import SliceInferer
    from torch.nn.functional import interpolate

    voxels = torch.from_numpy(np.moveaxis(scale(volume), 0, -1))[None, None]
    depth = voxels.shape[-1]
    small = interpolate(voxels, (SIZE, SIZE, depth), mode="trilinear")
    infer = SliceInferer(roi_size=(SIZE, SIZE), spatial_dim=2, sw_batch_size=2, progress=False)
    logits = interpolate(infer(small, network), volume.shape, mode="trilinear")
    return logits.argmax(dim=1)[0].numpy()


@torch.inference_mode()
def largest_difference(network: nn.Module, image: Tensor) -> tuple[float, float]:
    """Return the largest difference between the network's logits and ours, and the largest."""
    expected = network(image)
    with packed_linears(network, torch.device("cpu"), "fp32"):
        found = network(image)
    return (found - expected).abs().max().item(), expected.abs().max().item()


def compare(shape: tuple[int, int, int], repeats: int) -> bool:
    """Measure all ways and print a table; tell whether the aims are reached."""
    torch.manual_seed(0)
    network = build_model(model_arguments(ModelConfig(), 1, len(CLASSES) + 1)).eval()
    volume = make_volume(shape)
    ours = {name: make_segmenter(network, name.split()[1]) for name in AIM}
    ways: dict[str, Callable[[], np.ndarray]] = {
        "original": lambda: original_loop(network, volume),
        **{name: lambda one=one: one.segment(volume).array for name, one in ours.items()},
        "SliceInferer": lambda: slice_inferer(network, volume),
    }
    warm = Volume(volume.array[..., :4], volume.affine)
    for segmenter in ours.values():
        segmenter.segment(warm)
    original_loop(network, warm)
    slice_inferer(network, warm)
    results = {name: Measured() for name in ways}
    for repeat in range(repeats):
        for name, run in ways.items():
            results[name].add(run)
            print(f"repeat {repeat + 1}: {name} {results[name].wall[-1]:.1f} s", file=sys.stderr)
    print_table(results)
    difference, largest = largest_difference(network, torch.rand(1, 1, SIZE, SIZE))
    print(
        f"logits of equal input: largest difference {difference:.1e}, largest logit {largest:.2f}"
    )
    print_overhead(network, volume)
    original = statistics.median(results["original"].cpu)
    return all(original / statistics.median(results[name].cpu) >= aim for name, aim in AIM.items())


def print_table(results: dict[str, Measured]) -> None:
    """Print medians and ratios."""
    baseline, slices = results["original"], results["SliceInferer"]
    wall, cpu = statistics.median(baseline.wall), statistics.median(baseline.cpu)
    memory = statistics.median(slices.memory)
    print("               wall s   ratio   CPU s   ratio   memory GB   SliceInferer / this")
    for name, one in results.items():
        mine = [statistics.median(values) for values in (one.wall, one.cpu, one.memory)]
        print(
            f"{name:13} {mine[0]:7.1f} {wall / mine[0]:7.2f} {mine[1]:7.1f} {cpu / mine[1]:7.2f} "
            f"{mine[2] / 1e9:11.3f} {memory / mine[2]:21.1f}"
        )


def print_overhead(network: nn.Module, volume: Volume) -> None:
    """Print what is spent besides the network, from file to file."""
    timed = Organs(network)
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "volume.nii.gz"
        nib.save(nib.Nifti1Image(volume.array, volume.affine), source)
        started = time.perf_counter()
        labels = make_segmenter(timed, "fp32").segment(source)
        write_labels(Path(name) / "labels.nii.gz", labels.array, like=labels)
        seconds = time.perf_counter() - started
    besides = seconds - timed.seconds
    print(
        f"from .nii.gz to .nii.gz: {seconds:.1f} s, network {timed.seconds:.1f} s, all else "
        f"{besides:.1f} s, {besides / timed.seconds:.0%} of the network's (aim: at most 15 %)"
    )


def agree(checkpoint: Path, paths: list[Path]) -> bool:
    """Compare the labels of fp32 and bf16; tell whether 99.5 % agree."""
    fp32, bf16 = (Segmenter(checkpoint, precision=name) for name in ("fp32", "bf16"))
    same = total = same_organ = organ = 0
    for path in paths:
        image = read_image([path])
        exact, half = (one.segment(image).array for one in (fp32, bf16))
        is_organ = (exact > 0) | (half > 0)
        same, total = same + int((exact == half).sum()), total + exact.size
        same_organ += int((exact == half)[is_organ].sum())
        organ += int(is_organ.sum())
    share, organ_share = same / total, same_organ / max(organ, 1)
    print(f"{len(paths)} volumes: fp32 and bf16 agree in {share:.3%} of all voxels (aim: 99.5 %),")
    print(f"in {organ_share:.3%} of those that either gives a class")
    return share >= 0.995


def main() -> int:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inference")
    parser.add_argument("--size", type=int, nargs=3, default=(512, 512, 148), help="voxels")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--agreement", type=Path, nargs="+", metavar="FILE")
    arguments = parser.parse_args()
    hardware = describe_hardware()
    print(f"{hardware['processor']}, {hardware['cpu_count']} cores, {torch.__version__}")
    print(f"{torch.get_num_threads()} thread(s)")
    if arguments.agreement:
        is_reached = agree(arguments.agreement[0], arguments.agreement[1:])
    else:
        is_reached = compare(tuple(arguments.size), arguments.repeats)
    return 0 if is_reached else 1


if __name__ == "__main__":
    sys.exit(main())
