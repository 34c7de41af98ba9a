"""What infer.py may be given: message, exit code and nothing half-written, one row per fault.

Every row runs twice: alone (exit 2), and among good cases, which are done all the same (exit 3).
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

Words = tuple[str, ...]


def good(place: Any) -> nib.Nifti1Image:
    return nib.load(place.data / "imagesTr" / "phantom_002.nii.gz")


def save(place: Any, path: Path, array: np.ndarray) -> None:
    nib.save(nib.Nifti1Image(array, good(place).affine), path)


def with_shape(place: Any, path: Path, shape: tuple[int, ...]) -> None:
    """Write a header that promises another shape than the voxels have."""
    image = good(place)
    voxels = np.asarray(image.dataobj).tobytes(order="F")
    header = image.header.copy()
    header.set_data_shape(shape)
    header.set_data_offset(352)
    header["magic"] = b"n+1"
    plain = path.with_suffix("")
    with plain.open("wb") as file:
        header.write_to(file)
        file.write(voxels)
    shutil.move(plain, path)


def truncated(place: Any, path: Path) -> None:
    shutil.copy(place.data / "imagesTr" / "phantom_002.nii.gz", path)
    place.truncate(path)


def rgb(place: Any, path: Path) -> None:
    kind = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    save(place, path, np.zeros((8, 8, 4), kind))


def with_value(value: float) -> Callable[[Any, Path], None]:
    def make(place: Any, path: Path) -> None:
        voxels = np.asarray(good(place).dataobj).astype(np.float32)
        voxels[3, 4, 5] = value
        save(place, path, voxels)

    return make


# File name, how the fault is made, words of the message.
FAULTS: dict[str, tuple[str, Callable[[Any, Path], Any], Words]] = {
    "truncated": ("x.nii.gz", truncated, ("complete NIfTI file", "truncated", "again")),
    "empty": ("x.nii.gz", lambda place, path: path.touch(), ("NIfTI", "truncated")),
    "text named as a volume": (
        "x.nii",
        lambda place, path: path.write_text("no volume\n" * 99),
        ("NIfTI", "Copy or convert it"),
    ),
    "picture named as a volume": (
        "x.nrrd",
        lambda place, path: Image.new("L", (9, 9)).save(path, "PNG"),
        ("NRRD", "found"),
    ),
    "no slices": (
        "x.nii",
        lambda place, path: with_shape(place, path, (32, 32, 0)),
        ("x.nii", "found"),
    ),
    "huge in the header": (
        "x.nii",
        lambda place, path: with_shape(place, path, (30000, 30000, 30000)),
        ("54000000000000 bytes", "truncated", "again"),
    ),
    "4D": (
        "x.nii.gz",
        lambda place, path: save(place, path, np.zeros((8, 8, 4, 3), np.int16)),
        ("1 image channel", "found 3"),
    ),
    "5D": (
        "x.nii.gz",
        lambda place, path: save(place, path, np.zeros((8, 8, 4, 3, 2), np.int16)),
        ("5D data",),
    ),
    "RGB volume": ("x.nii.gz", rgb, ("colour voxels", "one grey value")),
    "RGB picture": (
        "x.png",
        lambda place, path: Image.new("RGB", (9, 9)).save(path),
        ("1 image channel", "found 3"),
    ),
    "NaN": ("x.nii.gz", with_value(np.nan), ("finite voxels", "NaN")),
    "infinite": ("x.nii.gz", with_value(-np.inf), ("finite voxels", "infinite")),
    "missing channel file": (
        "x_0000.nii.gz",
        lambda place, path: [
            save(place, path.with_name(f"x_000{n}.nii.gz"), np.zeros((8, 8, 4), np.int16))
            for n in range(2)
        ],
        ("1 image channel", "found 2"),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_alone(call, place, fault: str) -> None:
    name, make, words = FAULTS[fault]
    folder = place.folder / "fault"
    folder.mkdir()
    make(place, folder / name)
    before = place.files()
    call("infer", *place.infer(input=folder)).assert_refused(str(folder / name), *words)
    assert place.files() == before
    assert not list(place.output.rglob("*"))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_among_good_cases(call, place, fault: str) -> None:
    name, make, words = FAULTS[fault]
    make(place, place.data / "imagesTr" / name)
    for number in (4, 5):
        place.image(number).unlink()
    outcome = call("infer", *place.infer(input=place.data / "imagesTr"))
    assert outcome.code == 3, outcome.stderr
    assert "Traceback" not in outcome.stderr
    lines = [line for line in outcome.stderr.splitlines() if "error: " in line]
    assert len(lines) == 1
    assert all(word in lines[0] for word in (str(place.data / "imagesTr" / name), *words))
    written = {path.name for path in place.output.rglob("*")}
    assert written == {*(f"phantom_00{number}.nii.gz" for number in (1, 2, 3)), "run.json"}


def test_a_file_without_permission(call, place, monkeypatch) -> None:
    path = place.image()
    path.chmod(0)
    if os.access(path, os.R_OK):  # this user may read anything
        plain_open = Path.open

        def refuse(self: Path, *arguments: Any, **options: Any) -> Any:
            if self == path:
                raise PermissionError(13, "Permission denied")
            return plain_open(self, *arguments, **options)

        monkeypatch.setattr(Path, "open", refuse)
    outcome = call("infer", *place.infer())
    outcome.assert_refused(str(path), "a readable file", "no permission", "Change its permissions")
    assert not list(place.output.rglob("*"))


def test_one_slice_is_a_volume(call, place) -> None:
    image = good(place)
    nib.save(image.slicer[:, :, 5:6], place.folder / "one.nii.gz")
    assert call("infer", *place.infer(input=place.folder / "one.nii.gz")).code == 0
    labels = nib.load(place.output / "one.nii.gz")
    assert labels.shape == (*image.shape[:2], 1)
    source = nib.load(place.folder / "one.nii.gz")
    np.testing.assert_array_equal(labels.affine, source.affine)


def test_one_pixel_is_a_volume(call, place) -> None:
    save(place, place.folder / "one.nii.gz", np.full((1, 1, 1), 40, np.int16))
    assert call("infer", *place.infer(input=place.folder / "one.nii.gz")).code == 0
    assert nib.load(place.output / "one.nii.gz").shape == (1, 1, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="a folder that nobody may write to")
def test_a_read_only_place_is_refused(call, place) -> None:
    output = Path("/sys/segmented")  # not even by root
    outcome = call("infer", *place.infer(output=output))
    outcome.assert_refused(str(output), "a place to write to", "elsewhere")
    assert not output.exists()


@pytest.mark.parametrize("option", ["--entropy", "--probabilities"])
def test_a_full_disk_leaves_no_piece_of_a_map(call, place, option: str) -> None:
    from tests.e2e.test_bad_files import file_size_limit

    with file_size_limit(4000):
        outcome = call("infer", *place.infer(), option)
    outcome.assert_refused(str(place.output / option[2:]), "a place to write to")
    assert not [path for path in place.output.rglob("*") if path.is_file()]
