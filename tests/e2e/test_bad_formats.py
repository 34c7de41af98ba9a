"""Bad data in other formats: the check names every file, and training refuses it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pytest

from datasets.phantom_files import save_dicom
from tests.e2e.bad_data import (
    AFFINE,
    FIRST,
    NAMES,
    Bench,
    Call,
    Fault,
    assert_refused,
    assert_reported,
    save_arrays,
    save_itk,
    save_nifti,
    save_picture,
    set_voxels,
    truncate,
    voxels,
)

Make = Callable[[Bench], object]


def itk(ending: str, change: Make) -> Make:
    return lambda bench: [bench.pairs(save_itk, ending), change(bench)]


def image_at(ending: str) -> Callable[[Bench], Path]:
    return lambda bench: bench.root / "images" / f"{FIRST}{ending}"


def label_at(ending: str) -> Callable[[Bench], Path]:
    return lambda bench: bench.root / "labels" / f"{FIRST}{ending}"


def pictures(change: Make, ending: str = ".png") -> Make:
    return lambda bench: [bench.pictures(ending), change(bench)]


def array_file(ending: str, change: Callable[[Path], object]) -> Make:
    return lambda bench: [bench.arrays(ending), change(bench.root / f"{FIRST}{ending}")]


def new_label(value: float, dtype: Any) -> np.ndarray:
    return set_voxels(value, dtype)(voxels(FIRST)[1])


def rename_image(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file.move("image", "picture")


def dicom(bench: Bench) -> None:
    (bench.root / "images").mkdir()
    for name in NAMES:
        image, label = voxels(name)
        save_dicom(nib.Nifti1Image(image, AFFINE), bench.root / "images" / name, name, "1")
        save_nifti(bench.root / "labels" / f"{name}.nii.gz", label)
    bench.data |= {"name": "folder", "classes": ["body", "organ"]}
    bench.split()


def dicom_without_a_slice(bench: Bench) -> None:
    dicom(bench)
    sorted((bench.root / "images" / FIRST).iterdir())[3].unlink()


def two_dicom_series(bench: Bench) -> None:
    dicom(bench)
    image = nib.Nifti1Image(voxels("p2_b")[0], AFFINE)
    save_dicom(image, bench.root / "other", "other", "2")
    for path in (bench.root / "other").iterdir():
        path.rename(bench.root / "images" / FIRST / f"other_{path.name}")
    (bench.root / "other").rmdir()


FAULTS = {
    "truncated NRRD": Fault(
        itk(".nrrd", lambda bench: truncate(image_at(".nrrd")(bench))),
        f"images/{FIRST}.nrrd",
        ("truncated or damaged", "Copy"),
    ),
    "label beyond the classes in NRRD": Fault(
        itk(".nrrd", lambda bench: save_itk(label_at(".nrrd")(bench), new_label(3, np.uint8))),
        f"labels/{FIRST}.nrrd",
        ("from 0 to 2", "5 voxels with 3"),
    ),
    "label 256 in NRRD": Fault(
        itk(".nrrd", lambda bench: save_itk(label_at(".nrrd")(bench), new_label(256, np.uint16))),
        f"labels/{FIRST}.nrrd",
        ("from 0 to 2", "256"),
    ),
    "truncated MetaImage": Fault(
        itk(".mha", lambda bench: truncate(image_at(".mha")(bench))),
        f"images/{FIRST}.mha",
        ("truncated or damaged",),
    ),
    "half a label in MetaImage": Fault(
        itk(".mha", lambda bench: save_itk(label_at(".mha")(bench), new_label(0.5, np.float32))),
        f"labels/{FIRST}.mha",
        ("integer label values", "0.5"),
    ),
    "negative label in MetaImage": Fault(
        itk(".mha", lambda bench: save_itk(label_at(".mha")(bench), new_label(-2, np.int16))),
        f"labels/{FIRST}.mha",
        ("from 0 to 2", "-2"),
    ),
    "truncated PNG": Fault(
        pictures(lambda bench: truncate(image_at(".png")(bench))),
        f"images/{FIRST}.png",
        ("truncated or damaged",),
    ),
    "truncated JPEG": Fault(
        pictures(lambda bench: truncate(image_at(".jpg")(bench)), ".jpg"),
        f"images/{FIRST}.jpg",
        ("truncated or damaged",),
    ),
    "mask of 0 and 255": Fault(
        pictures(
            lambda bench: save_picture(
                label_at(".png")(bench), np.where(voxels(FIRST)[1][..., 4] > 0, 255, 0).astype("u1")
            )
        ),
        f"labels/{FIRST}.png",
        ("from 0 to 2", "255"),
    ),
    "label picture of another size": Fault(
        pictures(lambda bench: save_picture(label_at(".png")(bench), np.zeros((9, 9), np.uint8))),
        f"labels/{FIRST}.png",
        ("grid of", "(9, 9, 1)"),
    ),
    "label picture in colours": Fault(
        pictures(lambda bench: save_picture(label_at(".png")(bench), np.ones((24, 20, 3), "u1"))),
        f"labels/{FIRST}.png",
        ("one value per pixel", "3 colours"),
    ),
    "colour picture among grey ones": Fault(
        pictures(
            lambda bench: save_picture(
                bench.root / "images" / "p2_b.png", np.ones((24, 20, 3), np.uint8)
            )
        ),
        "images/p2_b.png",
        ("1 channel", "found 3"),
    ),
    "truncated HDF5": Fault(array_file(".h5", truncate), f"{FIRST}.h5", ("truncated or damaged",)),
    "HDF5 without an image": Fault(
        array_file(".h5", rename_image), f"{FIRST}.h5", ("named image or data", "picture")
    ),
    "NaN in HDF5": Fault(
        array_file(
            ".h5",
            lambda path: save_arrays(path, set_voxels(np.nan)(voxels(FIRST)[0]), voxels(FIRST)[1]),
        ),
        f"{FIRST}.h5",
        ("finite voxels",),
    ),
    "label beyond the classes in HDF5": Fault(
        array_file(
            ".h5", lambda path: save_arrays(path, voxels(FIRST)[0], new_label(13, np.uint8))
        ),
        f"{FIRST}.h5",
        ("from 0 to 2", "13"),
    ),
    "truncated NumPy archive": Fault(
        array_file(".npz", truncate), f"{FIRST}.npz", ("truncated or damaged",)
    ),
    "half a label in a NumPy archive": Fault(
        array_file(
            ".npz", lambda path: save_arrays(path, voxels(FIRST)[0], new_label(1.5, np.float32))
        ),
        f"{FIRST}.npz",
        ("integer label values", "1.5"),
    ),
    "DICOM series with a gap": Fault(
        dicom_without_a_slice, f"images/{FIRST}", ("a slice every 3 mm", "1 missing")
    ),
    "two DICOM series in a folder": Fault(two_dicom_series, f"images/{FIRST}", ("#",)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_check_reports(call: Call, bench: Bench, fault: str) -> None:
    assert_reported(call, bench, FAULTS[fault])


@pytest.mark.parametrize("fault", FAULTS)
def test_train_refuses(call: Call, bench: Bench, fault: str) -> None:
    assert_refused(call, bench, FAULTS[fault])
