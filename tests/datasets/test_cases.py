from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from datasets import Case, Dataset, choose_plane, load_case
from swin_unet.config import UserError

CLASSES = {1: "one", 2: "two"}
DATASET = Dataset((), CLASSES, ("MR",))


def save(path: Path, array: np.ndarray) -> Path:
    nib.save(nib.Nifti1Image(array, np.eye(4)), path)
    return path


def image(shape: tuple[int, ...] = (4, 5, 6)) -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape).astype(np.int16)


def label(shape: tuple[int, ...] = (4, 5, 6)) -> np.ndarray:
    return (np.arange(np.prod(shape)).reshape(shape) % 3).astype(np.uint8)


@pytest.mark.parametrize("num_files", [0, 1, 2])
def test_a_case_is_loaded(tmp_path: Path, num_files: int) -> None:
    if num_files:
        files = tuple(save(tmp_path / f"{i}.nii", image()) for i in range(num_files))
    else:
        files = (save(tmp_path / "a.nii.gz", image((4, 5, 6, 2))),)
    case = Case("a", files, (save(tmp_path / "label.nii.gz", label()),))
    channels = tuple("ab"[: num_files or 2])
    loaded, reference = load_case(case, Dataset((case,), CLASSES, channels))
    assert loaded.num_channels == (num_files or 2)
    np.testing.assert_array_equal(reference.array, label())


def truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def not_finite(path: Path) -> None:
    array = image().astype(np.float32)
    array[0, 0, 0] = np.nan
    save(path, array)


def two_dimensional(path: Path) -> None:
    save(path, image((4, 5)))


def two_channels(path: Path) -> None:
    save(path, image((4, 5, 6, 2)))


def large_label(path: Path) -> None:
    save(path, label() + np.uint8(1))


def other_grid(path: Path) -> None:
    save(path, label((4, 5, 7)))


@pytest.mark.parametrize(
    ("name", "damage", "expected", "found", "fix"),
    [
        ("image", Path.unlink, "a file", "nothing there", "Check the path"),
        ("label", Path.unlink, "a file", "nothing there", "Check the path"),
        ("image", truncate, "a complete NIfTI file", "a truncated", "Copy or convert it again."),
        ("label", truncate, "a complete NIfTI file", "a truncated", "Copy or convert it again."),
        ("image", two_dimensional, "a 3D volume", "2D data of shape (4, 5)", "Stack 2D slices"),
        ("image", two_channels, "1 channel(s)", "2 (shape (4, 5, 6, 2))", "list of channels"),
        ("image", not_finite, "finite voxels", "1 of 120", "Replace them"),
        ("label", two_channels, "a 3D label map", "4D data", "Split it"),
        ("label", large_label, "label values from 0 to 2", "40 voxels with 3", "list of classes"),
        ("label", other_grid, "the grid of", "(4, 5, 7) instead of (4, 5, 6)", "Resample"),
    ],
)
def test_a_fault_of_a_file_names_it_and_the_way_out(
    tmp_path: Path, name: str, damage: object, expected: str, found: str, fix: str
) -> None:
    files = {
        "image": save(tmp_path / "image.nii.gz", image()),
        "label": save(tmp_path / "label.nii.gz", label()),
    }
    damage(files[name])
    with pytest.raises(UserError) as caught:
        load_case(Case("a", (files["image"],), (files["label"],)), DATASET)
    message = str(caught.value)
    assert message.startswith(f"{files[name]}: expected {expected}")
    assert found in message.partition(", found ")[2]
    assert fix in message


def test_a_case_without_label_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a: expected a label map, found none"):
        load_case(Case("a", (tmp_path / "a.nii",)), DATASET)


def test_the_plane_lies_across_the_thick_axis_of_most_cases(tmp_path: Path) -> None:
    spacings = {"a": (1, 5, 1), "b": (2, 8, 2), "c": (1, 1, 1), "d": (6, 1, 1)}
    cases = []
    for name, spacing_mm in spacings.items():
        path = tmp_path / f"{name}.nii.gz"
        nib.save(nib.Nifti1Image(image(), np.diag([*spacing_mm, 1])), path)
        cases.append(Case(name, (path,)))
    assert choose_plane(cases[:2]) == ("coronal", [])
    assert choose_plane(cases[:3]) == ("coronal", ["c"])
    assert choose_plane([cases[3]]) == ("sagittal", [])
