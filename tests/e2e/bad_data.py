"""Small good data sets in several layouts for faults to be put into, and rows of fault tables.

Of four cases two train, the third chooses the checkpoint, and training never sees the last.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813
import yaml
from PIL import Image

NAMES = ("p1_a", "p2_b", "p3_c", "p3_d")
FIRST = NAMES[0]
SHAPE = (24, 20, 8)
SPLIT: dict[str, list[str]] = {"train": ["p1_a", "p2_b"], "val": ["p3_c"], "test": ["p3_d"]}
MODEL = {
    "patch_size": 2,
    "embed_dim": 8,
    "depths": [2, 2],
    "num_heads": [1, 2],
    "window_size": 4,
    "skips": 1,
}
TRAIN = {"epochs": 1, "batch_size": 8, "num_workers": 0, "device": "cpu", "precision": "fp32"}
AFFINE = np.diag([-1.5, -1.5, 3.0, 1.0])

# The cases as a list names them.
GOOD_ROWS: list[dict[str, Any]] = [
    {"image": f"imagesTr/{name}.nii.gz", "label": f"labelsTr/{name}.nii.gz"} for name in NAMES
]

Arguments = list[str | Path]
Call = Callable[..., Any]


def voxels(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Make an image in Hounsfield units with air around it, and its labels 0, 1 and 2."""
    random = np.random.default_rng(list(name.encode()))
    label = np.zeros(SHAPE, np.uint8)
    label[4:20, 4:16, 1:7] = 1
    label[8:14, 6:12, 2:5] = 2
    image = np.choose(label, [-1000, 40, 120]) + random.integers(-15, 16, SHAPE)
    return np.clip(image, -1024, None).astype(np.int16), label


class Bench:
    """A folder with a data set, which is good until a fault is put into it.

    Attributes:
        folder: Holds all of it.
        root: Of the data set.
        data: The data section of the configuration.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "data"
        self.root.mkdir()
        self.data: dict[str, Any] = {
            "root": str(self.root),
            "cache_dir": str(folder / "cache"),
            "intensity": "window",
            "window": [-150, 250],
            "image_size": [16, 16],
            "augmentation": "none",
        }

    @property
    def output(self) -> Path:
        return self.folder / "run"

    def arguments(self, *more: str | Path) -> Arguments:
        """Return the flags that check and train.py have in common."""
        content = {"model": MODEL, "train": TRAIN, "data": self.data}
        path = self.folder / "config.yaml"
        path.write_text(yaml.safe_dump(content))
        return ["--config", path, "--output_dir", self.output, *more]

    def report(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.output / "check.json").read_text())
        return content

    def options(self, **options: Any) -> None:
        """Change the data section; None removes an option."""
        merged = self.data | options
        self.data = {key: value for key, value in merged.items() if value is not None}

    def split(self, **parts: list[str]) -> None:
        path = self.folder / "split.json"
        path.write_text(json.dumps(SPLIT | parts))
        self.data["split_file"] = str(path)

    # Layouts.

    def decathlon(self, **changes: Any) -> None:
        for name in NAMES:
            image, label = voxels(name)
            save_nifti(self.image(name), image)
            save_nifti(self.label(name), label)
        self.describe(**changes)
        self.split()

    def describe(self, **changes: Any) -> None:
        """Write a dataset.json in the Decathlon's dialect."""
        content = {
            "modality": {"0": "CT"},
            "labels": {"0": "background", "1": "body", "2": "organ"},
            "training": GOOD_ROWS,
        }
        (self.root / "dataset.json").write_text(json.dumps(content | changes))

    def describe_nnunet(self, **changes: Any) -> None:
        """Write a dataset.json in nnU-Net's dialect."""
        content = {
            "channel_names": {"0": "CT"},
            "labels": {"background": 0, "body": 1, "organ": 2},
            "file_ending": ".nii.gz",
        }
        (self.root / "dataset.json").write_text(json.dumps(content | changes))

    def pairs(self, save: Callable[[Path, np.ndarray], None], ending: str) -> None:
        """Lay out two folders of files of any format."""
        for name in NAMES:
            for kind, array in zip(("images", "labels"), voxels(name), strict=True):
                save(self.root / kind / f"{name}{ending}", array)
        self.data |= {"name": "folder", "classes": ["body", "organ"]}
        self.split()

    def pictures(self, ending: str = ".png") -> None:
        """Lay out two folders of 8-bit pictures."""
        for name in NAMES:
            image, label = voxels(name)
            grey = np.clip((image[..., 4] + 150) / 400 * 255, 0, 255).astype(np.uint8)
            save_picture(self.root / "images" / f"{name}{ending}", grey)
            save_picture(self.root / "labels" / f"{name}.png", label[..., 4])
        self.data |= {"name": "folder", "classes": ["body", "organ"]}
        self.data |= {"window": [0, 255]}
        self.split()

    def arrays(self, ending: str = ".h5") -> None:
        """Lay out files that hold image and label map each, paired with themselves by a list."""
        for name in NAMES:
            save_arrays(self.root / f"{name}{ending}", *voxels(name))
        self.list_cases(
            [{"image": f"{name}{ending}", "label": f"{name}{ending}"} for name in NAMES]
        )

    def list_cases(self, rows: list[dict[str, Any]]) -> None:
        (self.root / "cases.json").write_text(json.dumps(rows))
        self.data |= {"name": "folder", "classes": ["body", "organ"], "list_file": "cases.json"}
        self.split()

    # Files of the layout `decathlon`.

    def image(self, name: str = FIRST) -> Path:
        return self.root / "imagesTr" / f"{name}.nii.gz"

    def label(self, name: str = FIRST) -> Path:
        return self.root / "labelsTr" / f"{name}.nii.gz"

    def change_image(self, change: Callable[[np.ndarray], np.ndarray], name: str = FIRST) -> None:
        change_nifti(self.image(name), change)

    def change_label(self, change: Callable[[np.ndarray], np.ndarray], name: str = FIRST) -> None:
        change_nifti(self.label(name), change)

    def move(self, path: Path, affine: np.ndarray) -> None:
        """Change where a NIfTI file's voxels are, by a matrix in front of its affine."""
        image = nib.load(path)
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine @ image.affine), path)


def decathlon(change: Callable[[Bench], object]) -> Callable[[Bench], object]:
    """Put a fault into a good Decathlon folder."""

    def make(bench: Bench) -> None:
        bench.decathlon()
        change(bench)

    return make


@dataclass(frozen=True)
class Fault:
    """A row of a table: how to make a fault, and what is said about it.

    Attributes:
        make: Puts it into a Bench.
        file: Part of the file or option that is named; empty for the data set as a whole.
        words: Of the message, or of what to do.
        severity: In the check.
    """

    make: Callable[[Bench], object]
    file: str
    words: tuple[str, ...]
    severity: str = "error"


def assert_reported(call: Call, bench: Bench, row: Fault) -> None:
    """Run the check: the fault is its only error, or is among what is no error, in its words."""
    row.make(bench)
    outcome = call("datasets.check", *bench.arguments("--jobs", "1"))
    problems = bench.report()["problems"]
    said = [f"{item['message']} {item['fix']}" for item in problems if is_about(item, row)]
    found = [text for text in said if all(word in text for word in row.words)]
    assert len(found) == 1, outcome.stdout
    errors = [item for item in problems if item["severity"] == "error"]
    assert errors == [item for item in errors if is_about(item, row)], errors
    assert len(errors) == (row.severity == "error")
    assert outcome.code == (2 if errors else 0)
    assert ("Training would be refused." in outcome.stdout) == bool(errors)


def is_about(problem: dict[str, str], row: Fault) -> bool:
    same = problem["severity"] == row.severity
    return same and (row.file in problem["file"] if row.file else not problem["file"])


def assert_refused(call: Call, bench: Bench, row: Fault) -> None:
    """Run the training: one line that names the file in the same words, and nothing written."""
    row.make(bench)
    outcome = call("train", *bench.arguments())
    assert outcome.code == 2
    assert "Traceback" not in outcome.stderr
    message = outcome.stderr[outcome.stderr.index("error: ") :]
    assert row.file in message.partition(": expected ")[0]
    for word in row.words:
        assert word in message
    assert not list(bench.output.glob("*"))


def save_nifti(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)


def change_nifti(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    image = nib.load(path)
    nib.save(nib.Nifti1Image(change(np.asarray(image.dataobj)), image.affine), path)


def save_itk(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    image.SetSpacing((1.5, 1.5, 3.0))
    sitk.WriteImage(image, str(path))


def save_picture(path: Path, array: np.ndarray) -> None:
    """Save (width, height) or (width, height, 3)."""
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.ascontiguousarray(array.swapaxes(0, 1))).save(path)


def save_arrays(path: Path, image: np.ndarray, label: np.ndarray) -> None:
    """Save image and label map as (slices, rows, columns) in one .h5 or .npz file."""
    if path.suffix == ".npz":
        np.savez_compressed(path, image=image.T, label=label.T)
        return
    with h5py.File(path, "w") as file:
        file["image"], file["label"] = image.T, label.T


def truncate(path: Path) -> None:
    """Cut off the second half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def set_voxels(
    value: float, dtype: Any = np.float32, count: int = 5
) -> Callable[[np.ndarray], np.ndarray]:
    """Return a change that sets some voxels in the middle."""

    def change(array: np.ndarray) -> np.ndarray:
        array = array.astype(dtype)
        array[12, 10, 1 : 1 + count] = value
        return array

    return change
