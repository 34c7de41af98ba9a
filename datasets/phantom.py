"""Made-up data sets: `python -m datasets.phantom OUT`.

Every case is a deformed abdomen with the eight organs of the Synapse benchmark, in Hounsfield
units, with its own contrast phase, noise, partial volume, spacing, oblique affine and axis codes;
or, in the layout of ACDC, a heart in short-axis MRI. It needs no download and no licence, and is
written in every layout that the data sets of this package read.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from datasets.phantom_files import FORMATS, Order
from datasets.phantom_layouts import LAYOUTS, NAME
from swin_unet.config import UserError

# A layout's own description of the data set, or ours: by it a folder of ours is known again.
_MARKERS = ("dataset.json", "phantom.json")
# Pictures are cases of their own: without it a split would tear a patient.
_PICTURE_OPTIONS = r" --data.group_pattern 'phantom_\d+'"


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and write the data set."""
    arguments = _parser().parse_args(argv)
    out, layout = arguments.out, LAYOUTS[arguments.layout]
    test_cases = arguments.test_cases
    if test_cases is None:
        test_cases = min(2, layout.test_cases)
    if arguments.format is not None and arguments.layout != "folder":
        expected, fix = "no value unless --layout is folder", "Remove it."
        raise UserError("--format", expected=expected, found=arguments.format, fix=fix)
    write_phantoms(
        out,
        arguments.cases,
        test_cases,
        arguments.seed,
        tuple(arguments.size or layout.size),
        arguments.layout,
        arguments.format or "nifti",
    )
    print(f"{out}: {arguments.cases + test_cases} cases, {test_cases} of them without labels")
    options = layout.options + (_PICTURE_OPTIONS if arguments.format == "png" else "")
    print(f"to train on them: python train.py {options} --data.root {out}")
    return 0


def write_phantoms(
    out: Path,
    cases: int,
    test_cases: int,
    seed: int,
    size: tuple[int, ...],
    layout: str = "msd",
    file_format: str = "nifti",
) -> None:
    """Write a data set.

    Args:
        out: Folder to make; replaced when it holds nothing but phantoms.
        cases: Cases with labels, numbered from 1, or as the layout's benchmark does.
        test_cases: Cases without labels, in a folder of their own.
        seed: Case n of a seed and size is the same whatever the number of cases.
        size: Voxels to the patient's right, anterior and superior, where files may permute the
            axes; for the layout `acdc` columns, rows and slices.
        layout: One of LAYOUTS.
        file_format: One of FORMATS, for the layout `folder`.

    Raises:
        UserError: For counts or sizes out of bounds, or a folder with other things in it.
    """
    order = Order(cases, test_cases, seed, size, file_format)
    _check_numbers(order, layout)
    with _replaced_folder(out) as folder:
        LAYOUTS[layout].write(folder, order)
        if not (folder / _MARKERS[0]).exists():
            content = {"name": NAME, "layout": layout, "seed": seed, "licence": "CC0-1.0"}
            text = json.dumps(content, indent=2) + "\n"
            (folder / _MARKERS[1]).write_text(text, encoding="utf8")


@contextmanager
def _replaced_folder(out: Path) -> Iterator[Path]:
    """Give a temporary folder beside `out` that takes its place when the block succeeds."""
    _check_ours(out)
    try:
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.absolute().parent))
    except OSError as error:
        raise _unwritable(out, error) from error
    folder, previous = temporary / "new", temporary / "previous"
    try:
        folder.mkdir()
        yield folder
        if out.exists():
            os.replace(out, previous)
        os.replace(folder, out)
    except OSError as error:
        raise _unwritable(out, error) from error
    finally:
        shutil.rmtree(temporary)


def _unwritable(out: Path, error: OSError) -> UserError:
    found = error.strerror or str(error)
    return UserError(out, expected="a place to write", found=found, fix="Choose another folder.")


def _check_ours(out: Path) -> None:
    """Refuse a folder that holds anything but phantoms: it is about to be replaced."""
    if not out.exists():
        return
    fix = "Choose a new folder; this one is left alone."
    if not out.is_dir() or out.is_symlink():
        raise UserError(out, expected="a folder to make", found="something else", fix=fix)
    names = sorted(path.relative_to(out).as_posix() for path in out.rglob("*"))
    ours = _our_files(out)
    foreign = [name for name in names if ours is None or not ours.fullmatch(name)]
    if foreign:
        found = "another data set" if ours is None else foreign[0]
        raise UserError(out, expected="an empty or missing folder", found=found, fix=fix)


def _our_files(out: Path) -> re.Pattern[str] | None:
    """Return what matches the files of a folder of phantoms; None: it is no such folder."""
    for marker in _MARKERS:
        try:
            content = json.loads((out / marker).read_text(encoding="utf8"))
        except (OSError, ValueError):
            continue
        is_ours = isinstance(content, dict) and content.get("name") == NAME
        if is_ours and content.get("layout", "msd") in LAYOUTS:
            layout = LAYOUTS[content.get("layout", "msd")]
            return re.compile(f"{re.escape(marker)}|{layout.files}")
    return None


def _check_numbers(order: Order, name: str) -> None:
    layout = LAYOUTS[name]
    (fewest, most), size = layout.cases, layout.min_size
    rules = [
        ("--cases", f"{fewest} to {most}", order.cases, fewest <= order.cases <= most),
        (
            "--test-cases",
            f"0 to {layout.test_cases}" if layout.test_cases else "0",
            order.test_cases,
            0 <= order.test_cases <= layout.test_cases,
        ),
        ("--seed", "at least 0", order.seed, order.seed >= 0),
        ("--size", f"at least {size}", order.size, all(np.greater_equal(order.size, size))),
    ]
    for subject, expected, found, is_valid in rules:
        if not is_valid:
            expected = f"{expected} for the layout {name}"
            raise UserError(subject, expected=expected, found=str(found), fix="Correct it.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m datasets.phantom",
        description="Write made-up CT volumes of the abdomen, or MRI volumes of the heart, with "
        "label maps, in the layout of a known data set.",
    )
    add = parser.add_argument
    add("out", type=Path, help="folder to make")
    add("--layout", choices=LAYOUTS, default="msd", help="how it is arranged; acdc: hearts")
    add("--format", choices=FORMATS, help="files of --layout folder (default: nifti)")
    add("--cases", type=int, default=12, help="cases with labels (default: 12)")
    add(
        "--test-cases",
        type=int,
        help="cases without labels (default: 2, or 0 where the layout has none)",
    )
    add("--seed", type=int, default=0, help="same seed, same files (default: 0)")
    add(
        "--size",
        type=int,
        nargs=3,
        metavar=("RIGHT", "ANTERIOR", "SUPERIOR"),
        help="voxels along the patient's axes (default: 96 96 32); acdc: columns, rows and "
        "slices (default: 128 128 10)",
    )
    return parser


if __name__ == "__main__":
    from swin_unet.cli import run

    sys.exit(run(main))
