"""Raw BTCV ("Synapse"): abdominal CT volumes as NIfTI with labels of 13 organs."""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from datasets.cases import Case, Dataset, Split, few
from datasets.preprocessed import walk
from datasets.transunet import CLASSES
from swin_unet.config import DataConfig, UserError

# In the order of their label values, from 1 on.
ORGANS = (
    "spleen",
    "right_kidney",
    "left_kidney",
    "gallbladder",
    "esophagus",
    "liver",
    "stomach",
    "aorta",
    "inferior_vena_cava",
    "portal_and_splenic_veins",
    "pancreas",
    "right_adrenal_gland",
    "left_adrenal_gland",
)
# The split of the TransUNet paper, which the Swin-Unet paper takes over: 18 and 12 cases.
TRAIN_NUMBERS = (5, 6, 7, 9, 10, 21, 23, 24, 26, 27, 28, 30, 31, 33, 34, 37, 39, 40)
TEST_NUMBERS = (1, 2, 3, 4, 8, 22, 25, 29, 32, 35, 36, 38)
_FILE = re.compile(r"(img|label)(\d{4})\.nii(\.gz)?")


def find_files(root: Path) -> dict[str, dict[int, Path]]:
    """Return the images (`img`) and label maps (`label`) of a folder by their number.

    Raises:
        UserError: Two files for one number.
    """
    found: dict[str, dict[int, Path]] = defaultdict(dict)
    for path in walk(root):
        match = _FILE.fullmatch(path.name)
        if match is None or not path.is_file():
            continue
        other = found[match[1]].setdefault(int(match[2]), path)
        if other != path:
            raise UserError(
                path,
                expected="one file for every number",
                found=f"{other} as well",
                fix="Remove one of them, or give the folder of the right ones as --data.root.",
            )
    return found


def read_btcv(config: DataConfig, files: dict[str, dict[int, Path]]) -> Dataset:
    """List the cases; those without a label map are unlabelled.

    Organs that `data.classes` does not name become background.

    Raises:
        UserError: A label map without image, or an unknown organ.
    """
    classes = tuple(config.classes or CLASSES)
    images, labels = files["img"], files["label"]
    orphans = [labels[number].name for number in sorted(set(labels) - set(images))]
    if orphans:
        raise UserError(
            config.root or "data.root",
            expected="an image for every label map",
            found=f"none for {few(orphans)}",
            fix="Restore the images img0001.nii.gz, ..., or remove the label maps.",
        )
    cases = [
        Case(
            name=f"img{number:04d}",
            images=(path,),
            labels=(labels[number],) if number in labels else (),
            group=f"{number:04d}",
        )
        for number, path in sorted(images.items())
    ]
    split, notes = _published_split(sorted(labels))
    return Dataset(
        cases=tuple(cases),
        classes=dict(enumerate(classes, start=1)),
        channels=("CT",),
        split=split,
        label_values=label_values(classes),
        notes=tuple(notes),
    )


def label_values(classes: Sequence[str]) -> dict[int, int]:
    """Return value in the raw files to position in the classes, background included.

    Raises:
        UserError: A name that is no organ of BTCV, or an organ named twice.
    """
    names = [re.sub(r"[^a-z]+", "_", name.lower()).strip("_") for name in classes]
    unknown = [name for name in names if name not in ORGANS]
    if unknown or len(set(names)) < len(names):
        nearest = difflib.get_close_matches((unknown or names)[0], ORGANS, n=1)
        hint = f" Did you mean `{nearest[0]}`?" if unknown and nearest else ""
        raise UserError(
            "data.classes",
            expected=f"organs of BTCV, each once: {', '.join(ORGANS)}",
            found=f"`{few(unknown)}`" if unknown else str(list(classes)),
            fix=f"Correct the names.{hint}",
        )
    numbers = {name: number for number, name in enumerate(names, start=1)}
    return {0: 0, **{value: numbers.get(name, 0) for value, name in enumerate(ORGANS, start=1)}}


def _published_split(labelled: Sequence[int]) -> tuple[Split | None, list[str]]:
    """Return the published split of the labelled cases, None unless both sides have some."""
    sides = [[number for number in side if number in labelled] for side in _SIDES]
    if not all(sides):
        return None, ["the published 18/12 split does not apply: it has no cases on one side"]
    missing = [f"{n:04d}" for side in _SIDES for n in sorted(side) if n not in labelled]
    others = [f"{n:04d}" for n in labelled if not any(n in side for side in _SIDES)]
    notes = []
    if missing:
        notes.append(f"labelled cases of it are not there: {len(missing)} ({few(missing)})")
    if others:
        notes.append(f"labelled cases that are not in it are left out: {few(others)}")
    train, test = (tuple(f"img{number:04d}" for number in side) for side in sides)
    return Split(train, (), test), notes


_SIDES = (TRAIN_NUMBERS, TEST_NUMBERS)
