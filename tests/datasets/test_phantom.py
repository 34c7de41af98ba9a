"""The phantom: layout, determinism, anatomy, and what it refuses to overwrite."""

from __future__ import annotations

import filecmp
import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from datasets.abdomen import CLASSES
from datasets.phantom import main, write_phantoms
from datasets.phantom_ct import MIN_SIZE, make_case
from swin_unet.config import UserError

SMALL = (48, 40, 16)
LABELS = {name: value for value, name in enumerate(CLASSES, start=1)}


def _centres_mm(label: nib.Nifti1Image) -> dict[str, np.ndarray]:
    """Return each organ's centre in RAS mm, from the affine alone."""
    array = np.asarray(label.dataobj)
    return {
        name: nib.affines.apply_affine(label.affine, np.argwhere(array == value).mean(axis=0))
        for name, value in LABELS.items()
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("phantom") / "data"
    write_phantoms(out, cases=6, test_cases=2, seed=3, size=SMALL)
    return out


def test_layout_is_that_of_the_decathlon(folder: Path) -> None:
    content = json.loads((folder / "dataset.json").read_text())
    assert content["labels"]["0"] == "background"
    assert [content["labels"][str(value)] for value in range(1, 9)] == list(CLASSES)
    assert (content["numTraining"], content["numTest"]) == (6, 2)
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*.nii.gz")}
    listed = [path for pair in content["training"] for path in pair.values()] + content["test"]
    assert {path.removeprefix("./") for path in listed} == files
    assert len(files) == 6 + 6 + 2


def test_image_and_label_are_on_one_grid(folder: Path) -> None:
    for path in sorted((folder / "imagesTr").iterdir()):
        image, label = nib.load(path), nib.load(folder / "labelsTr" / path.name)
        assert image.get_data_dtype() == np.int16
        assert label.get_data_dtype() == np.uint8
        assert image.shape == label.shape
        assert sorted(image.shape) == sorted(SMALL)
        np.testing.assert_array_equal(image.affine, label.affine)
        np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-3)


def test_geometry_varies_between_cases(folder: Path) -> None:
    affines = [nib.load(path).affine for path in sorted((folder / "imagesTr").iterdir())]
    assert len({nib.aff2axcodes(affine) for affine in affines}) >= 4
    assert len({tuple(nib.affines.voxel_sizes(affine).round(3)) for affine in affines}) == 6
    assert all(nib.affines.obliquity(affine).max() > 0.01 for affine in affines)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), number=st.integers(1, 999))
def test_every_case_has_all_organs_in_their_places(seed: int, number: int) -> None:
    _, label = make_case(seed, number, MIN_SIZE)
    assert set(np.unique(label.dataobj)) == set(range(9))
    centre = _centres_mm(label)
    right, anterior, superior = range(3)
    assert centre["left_kidney"][right] < centre["aorta"][right] < centre["right_kidney"][right]
    assert centre["spleen"][right] < centre["stomach"][right] < centre["liver"][right]
    assert centre["left_kidney"][anterior] < centre["pancreas"][anterior]
    assert centre["right_kidney"][anterior] < centre["gallbladder"][anterior]
    assert centre["right_kidney"][superior] < centre["liver"][superior]


def test_image_is_in_hounsfield_units() -> None:
    image, label = make_case(0, 1, (64, 64, 24))
    hu, organs = np.asarray(image.dataobj), np.asarray(label.dataobj)
    assert hu.min() >= -1024
    corners = hu[np.ix_(*[[0, 1, -2, -1]] * 3)]
    assert abs(np.median(corners) + 1000) < 15
    assert -30 < np.median(hu[organs == LABELS["gallbladder"]]) < 60
    assert 30 < np.median(hu[organs == LABELS["liver"]]) < 150
    assert hu.max() > 300, "no bone"
    assert -140 < np.percentile(hu[(hu > -500) & (organs == 0)], 20) < -60, "no fat"


def test_thresholds_do_not_find_the_organs() -> None:
    """Even the best rule from smoothed HU to label, fitted on the case itself, falls far short."""
    image, label = make_case(0, 1, (64, 64, 24))
    smooth = gaussian_filter(np.asarray(image.dataobj, np.float32), 0.7)
    bins = (np.clip(smooth, -200, 400) // 10).astype(int) + 20
    organs = np.asarray(label.dataobj)
    counts = np.zeros((bins.max() + 1, 9))
    np.add.at(counts, (bins.ravel(), organs.ravel()), 1)
    predicted = (counts / counts.sum(axis=0)).argmax(axis=1)[bins]
    scores = [
        2
        * ((predicted == value) & (organs == value)).sum()
        / ((predicted == value).sum() + (organs == value).sum())
        for value in LABELS.values()
    ]
    assert np.mean(scores) < 0.4


def test_case_depends_on_seed_and_number_only(folder: Path, tmp_path: Path) -> None:
    write_phantoms(tmp_path / "more", cases=7, test_cases=0, seed=3, size=SMALL)
    names = [f"imagesTr/phantom_{number:03d}.nii.gz" for number in range(1, 7)]
    match, *_ = filecmp.cmpfiles(folder, tmp_path / "more", names, shallow=False)
    assert match == names
    moved = (tmp_path / "more/imagesTr/phantom_007.nii.gz").read_bytes()
    assert moved == (folder / "imagesTs/phantom_007.nii.gz").read_bytes()
    first, other = make_case(3, 1, SMALL)[0], make_case(4, 1, SMALL)[0]
    assert not np.array_equal(first.affine, other.affine)


def test_replaces_its_own_folder(tmp_path: Path) -> None:
    out = tmp_path / "data"
    out.mkdir()
    write_phantoms(out, cases=2, test_cases=1, seed=0, size=MIN_SIZE)
    write_phantoms(out, cases=1, test_cases=0, seed=0, size=MIN_SIZE)
    assert sorted(path.name for path in out.rglob("*.nii.gz")) == ["phantom_001.nii.gz"] * 2
    assert [path.name for path in tmp_path.iterdir()] == ["data"], "something was left behind"


@pytest.mark.parametrize("name", ["notes.txt", "imagesTr/mine.nii.gz", "dataset.json"])
def test_refuses_a_folder_with_other_things(tmp_path: Path, name: str) -> None:
    precious = tmp_path / "data" / name
    precious.parent.mkdir(parents=True)
    precious.write_text('{"name": "Task09_Spleen"}')
    with pytest.raises(UserError, match="empty or missing folder"):
        write_phantoms(tmp_path / "data", cases=1, test_cases=0, seed=0, size=MIN_SIZE)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [precious]
    assert "Task09" in precious.read_text()


def test_refuses_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("mine")
    with pytest.raises(UserError, match="something else"):
        write_phantoms(tmp_path / "data", cases=1, test_cases=0, seed=0, size=MIN_SIZE)
    with pytest.raises(UserError, match="a place to write"):
        write_phantoms(tmp_path / "data/inside", cases=1, test_cases=0, seed=0, size=MIN_SIZE)
    assert (tmp_path / "data").read_text() == "mine"


def test_a_failure_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "data"
    write_phantoms(out, cases=1, test_cases=0, seed=0, size=MIN_SIZE)
    before = (out / "dataset.json").read_bytes()

    def fill_the_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nib, "save", fill_the_disk)
    with pytest.raises(UserError, match="No space left"):
        write_phantoms(out, cases=2, test_cases=0, seed=1, size=MIN_SIZE)
    assert (out / "dataset.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize(
    ("flags", "subject"),
    [
        (["--cases", "0"], "--cases"),
        (["--test-cases", "-1"], "--test-cases"),
        (["--seed", "-1"], "--seed"),
        (["--size", "96", "96", "4"], "--size"),
        (["--layout", "acdc", "--size", "96", "96", "2"], "--size"),
        (["--layout", "btcv", "--cases", "31"], "--cases"),
        (["--layout", "transunet", "--cases", "2"], "--cases"),
        (["--layout", "transunet", "--test-cases", "1"], "--test-cases"),
        (["--layout", "acdc", "--test-cases", "1"], "--test-cases"),
        (["--layout", "msd", "--format", "png"], "--format"),
    ],
)
def test_impossible_numbers_are_refused(tmp_path: Path, flags: list[str], subject: str) -> None:
    with pytest.raises(UserError, match=subject):
        main([str(tmp_path / "data"), *flags])
    assert not (tmp_path / "data").exists()


def test_command_reports_a_user_error_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    command = [sys.executable, "-m", "datasets.phantom", str(tmp_path), "--cases", "1"]
    done = subprocess.run(command, capture_output=True, encoding="utf8", check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
