"""Raw BTCV to the files that the authors of TransUNet distribute."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datasets.btcv import find_files, read_btcv
from datasets.cases import Case, Dataset, Split, few, load_case
from datasets.sources import check_root, no_data
from datasets.transunet import DESCRIPTION, TEST_FOLDER, TEST_LIST, TRAIN_FOLDER, TRAIN_LIST
from swin_unet.config import DataConfig, UserError
from swin_unet.files import writable
from swin_unet.imaging import Volume
from swin_unet.imaging.orientation import WORKING_CODES, axis_order, reorient_array
from swin_unet.imaging.volume import axis_codes

Array = np.ndarray[Any, Any]
WINDOW_HU = (-125.0, 275.0)
LISTS = Path("lists", "lists_Synapse")
AXES = "slices from inferior to superior, rows to posterior, columns to the patient's left"


@dataclass(frozen=True)
class PreparedCase:
    """A volume as it is written, its axes as AXES says.

    Attributes:
        image: (slices, rows, columns) float32 in [0, 1].
        label: (slices, rows, columns) uint8.
        spacing: Of these axes in mm.
    """

    image: Array
    label: Array
    spacing: tuple[float, float, float]


def prepare(raw: Path, out: Path, classes: Sequence[str]) -> str:
    """Write slices of the training cases and volumes of the test cases, all or nothing.

    Args:
        raw: Folder of BTCV.
        out: Folder to make.
        classes: Organs that become the values 1, 2, ...; the others become background.

    Returns:
        What was written, in words.

    Raises:
        UserError: `out` exists, no cases of the published split, or a fault of the files.
    """
    from tqdm import tqdm

    if out.exists():
        raise UserError(
            out,
            expected="a folder to make",
            found="one that is there already",
            fix="Remove it, or choose another; nothing was changed.",
        )
    dataset, split = _read_raw(raw, classes)
    by_name = {case.name: case for case in dataset.cases}
    names: dict[str, list[str]] = {"train": [], "test": []}
    with _new_folder(out) as folder:
        for name in tqdm((*split.train, *split.test), desc="preparing", unit="case", disable=None):
            case = f"case{by_name[name].group}"
            prepared = prepare_case(by_name[name], dataset)
            if name in split.train:
                names["train"] += _write_slices(folder / TRAIN_FOLDER, case, prepared)
            else:
                names["test"].append(_write_volume(folder / TEST_FOLDER, case, prepared))
        _write_lists(folder / LISTS, names)
        _describe(folder / DESCRIPTION, dataset)
    return "\n".join([*dataset.notes, _summary(out, split, len(names["train"]))])


def prepare_case(case: Case, dataset: Dataset) -> PreparedCase:
    """Clip, scale by the volume's own smallest and largest value, and turn.

    Raises:
        UserError: A fault of the files.
    """
    image, label = load_case(case, dataset)
    codes, working = axis_codes(image.affine), WORKING_CODES["axial"]
    rows, columns, slices = axis_order(codes, working)
    spacing = image.spacing_mm
    return PreparedCase(
        image=scale(_turned(image, codes)),
        label=_turned(label, codes).astype(np.uint8),
        spacing=(spacing[slices], spacing[rows], spacing[columns]),
    )


def scale(hu: Array) -> Array:
    """Clip to WINDOW_HU and bring smallest and largest value to 0 and 1; float32."""
    clipped = np.clip(hu.astype(np.float32), *WINDOW_HU)
    low, high = clipped.min(), clipped.max()
    return (clipped - low) / (high - low or np.float32(1))


def _turned(volume: Volume, codes: str) -> Array:
    """Return (slices, rows, columns) as AXES says."""
    turned = reorient_array(volume.array, codes, WORKING_CODES["axial"])
    return np.ascontiguousarray(np.moveaxis(turned, -1, 0))


def _read_raw(raw: Path, classes: Sequence[str]) -> tuple[Dataset, Split]:
    config = DataConfig(name="synapse", root=raw, classes=list(classes))
    files = find_files(check_root(config))
    if not files:
        raise no_data("synapse", raw, "img0001.nii.gz, label0001.nii.gz, ...", "none")
    dataset = read_btcv(config, files)
    if dataset.split is None:
        raise UserError(
            raw,
            expected="labelled cases of both sides of the published split",
            found=few([case.name for case in dataset.cases if case.labels]) or "none",
            fix="Add the missing files; for other cases use data.name folder.",
        )
    return dataset, dataset.split


def _write_slices(folder: Path, case: str, prepared: PreparedCase) -> list[str]:
    """Write one file per slice; return their names without ending."""
    folder.mkdir(exist_ok=True)
    names = []
    for number, (image, label) in enumerate(zip(prepared.image, prepared.label, strict=True)):
        names.append(f"{case}_slice{number:03d}")
        np.savez_compressed(
            folder / f"{names[-1]}.npz", image=image, label=label, spacing=prepared.spacing
        )
    return names


def _write_volume(folder: Path, case: str, prepared: PreparedCase) -> str:
    """Write one file; return its name without ending."""
    import h5py

    folder.mkdir(exist_ok=True)
    with h5py.File(folder / f"{case}.npy.h5", "w") as file:
        for key in ("image", "label"):
            file.create_dataset(key, data=getattr(prepared, key), compression="gzip", shuffle=True)
        file.create_dataset("spacing", data=prepared.spacing)
    return case


def _write_lists(folder: Path, names: dict[str, list[str]]) -> None:
    folder.mkdir(parents=True)
    cases = sorted({*(name.split("_")[0] for name in names["train"]), *names["test"]})
    lists = {
        TRAIN_LIST: names["train"],
        TEST_LIST: names["test"],
        "all.lst": [f"{case}.npy.h5" for case in cases],
    }
    for name, lines in lists.items():
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _describe(path: Path, dataset: Dataset) -> None:
    """Write what the files themselves do not say."""
    content = {
        "classes": list(dataset.classes.values()),
        "window_hu": WINDOW_HU,
        "axes": AXES,
        "spacing": "mm along these axes",
    }
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _summary(out: Path, split: Split, num_slices: int) -> str:
    return (
        f"{out}: {len(split.train)} training cases in {num_slices} slices, "
        f"{len(split.test)} test cases; {AXES}"
    )


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """Give a temporary folder beside `out` that becomes it when the block succeeds."""
    with writable(out):
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.absolute().parent))
        try:
            folder = temporary / "new"
            folder.mkdir()
            yield folder
            folder.rename(out)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
