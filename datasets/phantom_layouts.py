"""The folders that the phantom writes: every layout that our data sets read."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib

from datasets import heart
from datasets.abdomen import CLASSES
from datasets.phantom_benchmarks import write_acdc, write_btcv, write_transunet
from datasets.phantom_ct import MIN_SIZE, make_case
from datasets.phantom_files import (
    Order,
    as_pictures,
    make_folders,
    save_dicom,
    save_pictures,
    save_volume,
    turned,
    windowed,
)

NAME = "Swin-UNet phantom"


@dataclass(frozen=True)
class Layout:
    """A way to arrange a data set.

    Attributes:
        write: Writes the files into an empty folder.
        files: Expression that matches what `write` makes, relative to the folder.
        options: What train.py must be told to read it.
        cases: Fewest and most cases with labels.
        test_cases: Most cases without labels.
        size: What is written unless asked otherwise.
        min_size: Below it structures vanish.
    """

    write: Callable[[Path, Order], None]
    files: str
    options: str
    cases: tuple[int, int] = (1, 999)
    test_cases: int = 999
    size: tuple[int, int, int] = (96, 96, 32)
    min_size: tuple[int, int, int] = MIN_SIZE


def write_msd(folder: Path, order: Order) -> None:
    """Write imagesTr, labelsTr and imagesTs as the Medical Segmentation Decathlon does."""
    _write_tr_ts(folder, order, image_suffix="")
    _write_json(folder, _describe_msd(order))


def write_nnunet(folder: Path, order: Order) -> None:
    """Write imagesTr, labelsTr and imagesTs with numbered channels, as nnU-Net wants them."""
    _write_tr_ts(folder, order, image_suffix="_0000")
    _write_json(folder, _describe_nnunet(order))


def _write_tr_ts(folder: Path, order: Order, image_suffix: str) -> None:
    images, labels, unlabelled = make_folders(folder, "imagesTr", "labelsTr", "imagesTs")
    for number in range(1, order.cases + order.test_cases + 1):
        name, has_label = _case_name(number), number <= order.cases
        image, label = make_case(order.seed, number, order.size)
        nib.save(image, (images if has_label else unlabelled) / f"{name}{image_suffix}.nii.gz")
        if has_label:
            nib.save(label, labels / f"{name}.nii.gz")


def write_folder(folder: Path, order: Order) -> None:
    """Write images and labels of the same names, in the format that the order says."""
    images, labels, unlabelled = make_folders(folder, "images", "labels", "unlabelled")
    for number in range(1, order.cases + order.test_cases + 1):
        name, has_label = _case_name(number), number <= order.cases
        image, label = make_case(order.seed, number, order.size)
        _write_image(image, images if has_label else unlabelled, name, order)
        if has_label:
            _write_label(label, labels, name, order.file_format)


def _write_image(image: nib.Nifti1Image, folder: Path, name: str, order: Order) -> None:
    if order.file_format == "dicom":
        save_dicom(turned(image, "LPS"), folder / name, name, study=str(order.seed))
    elif order.file_format == "png":
        save_pictures(255 * windowed(as_pictures(image)), folder, name)
    else:
        save_volume(image, folder / f"{name}{_ending(order.file_format)}")


def _write_label(label: nib.Nifti1Image, folder: Path, name: str, file_format: str) -> None:
    if file_format == "png":
        save_pictures(as_pictures(label), folder, name)
    else:
        save_volume(label, folder / f"{name}{_ending(file_format)}")


def _ending(file_format: str) -> str:
    """Return the ending of volumes; a DICOM series has its label map as NIfTI."""
    return {"nrrd": ".nrrd", "mha": ".mha"}.get(file_format, ".nii.gz")


def _case_name(number: int) -> str:
    return f"phantom_{number:03d}"


def _describe_msd(order: Order) -> dict[str, object]:
    """Return the content of dataset.json in the Decathlon's dialect."""
    total = order.cases + order.test_cases
    names = [f"{_case_name(number)}.nii.gz" for number in range(1, total + 1)]
    labelled, unlabelled = names[: order.cases], names[order.cases :]
    return {
        "name": NAME,
        "description": f"Generated abdominal CT with eight organs, seed {order.seed}",
        "licence": "CC0-1.0",
        "tensorImageSize": "3D",
        "modality": {"0": "CT"},
        "labels": {str(value): name for value, name in enumerate(("background", *CLASSES))},
        "numTraining": order.cases,
        "numTest": order.test_cases,
        "training": [
            {"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in labelled
        ],
        "test": [f"./imagesTs/{name}" for name in unlabelled],
    }


def _describe_nnunet(order: Order) -> dict[str, object]:
    """Return the content of dataset.json in the dialect of nnU-Net's second version."""
    return {
        "name": NAME,
        "layout": "nnunet",
        "description": f"Generated abdominal CT with eight organs, seed {order.seed}",
        "licence": "CC0-1.0",
        "channel_names": {"0": "CT"},
        "labels": {name: value for value, name in enumerate(("background", *CLASSES))},
        "numTraining": order.cases,
        "file_ending": ".nii.gz",
    }


def _write_json(folder: Path, content: dict[str, object]) -> None:
    text = json.dumps(content, indent=2) + "\n"
    (folder / "dataset.json").write_text(text, encoding="utf8")


_DECATHLON_FILES = r"(imagesTr|labelsTr|imagesTs)(/phantom_\d+(_0000)?\.nii\.gz)?"
LAYOUTS = {
    "msd": Layout(write_msd, _DECATHLON_FILES, "--config phantom.yaml"),
    "nnunet": Layout(write_nnunet, _DECATHLON_FILES, "--config phantom.yaml"),
    "btcv": Layout(
        write_btcv,
        r"RawData(/(Training|Testing)(/(img|label)(/(img|label)\d{4}\.nii\.gz)?)?)?",
        "--config synapse.yaml",
        cases=(3, 30),
        test_cases=20,
    ),
    "transunet": Layout(
        write_transunet,
        r"train_npz(/case\d{4}_slice\d{3}\.npz)?|test_vol_h5(/case\d{4}\.npy\.h5)?"
        r"|lists(/lists_Synapse(/(train\.txt|test_vol\.txt|all\.lst))?)?",
        "--config synapse.yaml --data.window '[0, 1]'",
        cases=(3, 30),
        test_cases=0,
    ),
    "acdc": Layout(
        write_acdc,
        r"training(/patient\d{3}(/(Info\.cfg|patient\d{3}_frame\d\d(_gt)?\.nii\.gz))?)?",
        "--config acdc.yaml",
        cases=(1, 100),
        test_cases=0,
        size=(128, 128, 10),
        min_size=heart.MIN_SIZE,
    ),
    "folder": Layout(
        write_folder,
        r"(images|labels|unlabelled)"
        r"(/phantom_\d+(_s\d{3}\.png|\.nii\.gz|\.nrrd|\.mha|(/\d+\.dcm)?))?",
        "--config folder.yaml",
    ),
}
