"""A made-up abdominal CT data set: `python -m datasets.phantom OUT`.

Every case is a deformed abdomen with the eight organs of the Synapse benchmark, in Hounsfield
units, with its own contrast phase, noise, partial volume, spacing, oblique affine and axis codes.
It needs no download and no licence.
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

import nibabel as nib
import numpy as np
from nibabel.orientations import inv_ornt_aff
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from datasets.abdomen import CLASSES, draw_abdomen
from swin_unet.config import UserError

MIN_SIZE = (32, 32, 12)
_NAME = "Swin-UNet phantom"
_OUR_FILES = re.compile(r"dataset\.json|(imagesTr|labelsTr|imagesTs)(/phantom_\d+\.nii\.gz)?")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and write the data set."""
    arguments = _parser().parse_args(argv)
    size = tuple(arguments.size)
    write_phantoms(arguments.out, arguments.cases, arguments.test_cases, arguments.seed, size)
    total = arguments.cases + arguments.test_cases
    print(f"{arguments.out}: {total} cases, {arguments.test_cases} of them without labels")
    return 0


def write_phantoms(
    out: Path, cases: int, test_cases: int, seed: int, size: tuple[int, ...]
) -> None:
    """Write a data set in the layout of the Medical Segmentation Decathlon.

    Args:
        out: Folder to make; replaced when it holds nothing but phantoms.
        cases: Cases with labels, `imagesTr` and `labelsTr`, numbered from 1.
        test_cases: Cases without labels, `imagesTs`, numbered after them.
        seed: Case n of a seed and size is the same whatever the number of cases.
        size: Voxels to the patient's right, anterior and superior; files permute the axes.

    Raises:
        UserError: For counts or sizes too small, or a folder with other things in it.
    """
    _check_numbers(cases, test_cases, seed, size)
    with _replaced_folder(out) as folder:
        for name in ("imagesTr", "labelsTr", "imagesTs"):
            (folder / name).mkdir()
        for number in range(1, cases + test_cases + 1):
            image, label = make_case(seed, number, size)
            has_label = number <= cases
            part = "imagesTr" if has_label else "imagesTs"
            nib.save(image, folder / part / f"{_case_name(number)}.nii.gz")
            if has_label:
                nib.save(label, folder / "labelsTr" / f"{_case_name(number)}.nii.gz")
        content = json.dumps(_description(cases, test_cases, seed), indent=2)
        (folder / "dataset.json").write_text(content + "\n", encoding="utf8")


def make_case(
    seed: int, number: int, size: tuple[int, ...]
) -> tuple[nib.Nifti1Image, nib.Nifti1Image]:
    """Make one case.

    Args:
        seed: Of the data set.
        number: Of the case.
        size: Voxels to the patient's right, anterior and superior.

    Returns:
        The image in HU, int16, and its label map, uint8, on one grid.
    """
    rng = np.random.default_rng([seed, number])
    field_mm = np.array([*[rng.uniform(260, 340)] * 2, rng.uniform(140, 185)])
    spacing_mm = np.array([*[field_mm[0] / max(size[:2])] * 2, field_mm[2] / size[2]])
    rotation = Rotation.from_euler("xyz", rng.uniform(-8, 8, 3), degrees=True).as_matrix()
    scale_mm = spacing_mm * size * [rng.uniform(0.43, 0.47), rng.uniform(0.34, 0.40), 0.5]
    points = _patient_points(size, rotation * spacing_mm / scale_mm[:, None])
    hu, label = draw_abdomen(points, rng)
    hu = _acquire(hu, rng)
    affine = np.eye(4)
    affine[:3, :3] = rotation * spacing_mm
    affine[:3, 3] = rng.uniform(-200, 200, 3)
    axes = np.stack([rng.permutation(3), rng.choice([-1, 1], 3)], axis=1)
    return _on_axes(hu, affine, axes), _on_axes(label, affine, axes)


def _patient_points(size: tuple[int, ...], matrix: np.ndarray) -> np.ndarray:
    """Return the coordinates (3, X, Y, Z) of all voxels in half body widths, depths, heights."""
    axes = [np.arange(count, dtype=np.float32) - (count - 1) / 2 for count in size]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"))
    return np.einsum("ij,j...->i...", matrix.astype(np.float32), grid)


def _acquire(hu: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur over voxel borders, add texture and noise, and round to int16."""
    blurred = gaussian_filter(hu, (0.6, 0.6, 0.4))
    texture = gaussian_filter(rng.standard_normal(hu.shape, np.float32), 2)
    noise = gaussian_filter(rng.standard_normal(hu.shape, np.float32), (0.5, 0.5, 0))
    blurred += np.float32(6 / texture.std()) * texture * (hu > -500)
    blurred += np.float32(rng.uniform(8, 16) / noise.std()) * noise
    return np.clip(np.rint(blurred), -1024, 3071).astype(np.int16)


def _on_axes(array: np.ndarray, affine: np.ndarray, axes: np.ndarray) -> nib.Nifti1Image:
    """Store the array (right, anterior, superior) with permuted and flipped axes."""
    turned = nib.apply_orientation(array, axes)
    image = nib.Nifti1Image(turned, affine @ inv_ornt_aff(axes, array.shape))
    image.set_sform(image.affine, code=1)
    image.set_qform(image.affine, code=1)
    image.header.set_xyzt_units("mm")
    return image


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
    foreign = [name for name in names if not _OUR_FILES.fullmatch(name)]
    if names and (foreign or not _describes_phantoms(out / "dataset.json")):
        found = foreign[0] if foreign else "another data set"
        raise UserError(out, expected="an empty or missing folder", found=found, fix=fix)


def _describes_phantoms(path: Path) -> bool:
    try:
        content = json.loads(path.read_text(encoding="utf8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("name") == _NAME


def _check_numbers(cases: int, test_cases: int, seed: int, size: tuple[int, ...]) -> None:
    rules = [
        ("--cases", "at least 1", cases, cases >= 1),
        ("--test-cases", "at least 0", test_cases, test_cases >= 0),
        ("--seed", "at least 0", seed, seed >= 0),
        ("--size", f"at least {MIN_SIZE}", size, all(np.greater_equal(size, MIN_SIZE))),
    ]
    for subject, expected, found, is_valid in rules:
        if not is_valid:
            raise UserError(subject, expected=expected, found=str(found), fix="Correct it.")


def _case_name(number: int) -> str:
    return f"phantom_{number:03d}"


def _description(cases: int, test_cases: int, seed: int) -> dict[str, object]:
    """Return the content of dataset.json in the Decathlon's dialect."""
    names = [f"{_case_name(number)}.nii.gz" for number in range(1, cases + test_cases + 1)]
    return {
        "name": _NAME,
        "description": f"Generated abdominal CT with eight organs, seed {seed}",
        "licence": "CC0-1.0",
        "tensorImageSize": "3D",
        "modality": {"0": "CT"},
        "labels": {str(value): name for value, name in enumerate(("background", *CLASSES))},
        "numTraining": cases,
        "numTest": test_cases,
        "training": [
            {"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in names[:cases]
        ],
        "test": [f"./imagesTs/{name}" for name in names[cases:]],
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m datasets.phantom",
        description="Write made-up abdominal CT volumes with labels of eight organs.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("out", type=Path, help="folder to make, in Decathlon layout")
    parser.add_argument("--cases", type=int, default=12, help="cases with labels")
    parser.add_argument("--test-cases", type=int, default=2, help="cases without labels")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same files")
    parser.add_argument(
        "--size",
        type=int,
        nargs=3,
        default=(96, 96, 32),
        metavar=("RIGHT", "ANTERIOR", "SUPERIOR"),
        help="voxels along the patient's axes",
    )
    return parser


if __name__ == "__main__":
    from swin_unet.cli import run

    sys.exit(run(main))
