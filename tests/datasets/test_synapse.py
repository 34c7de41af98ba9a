import json
import subprocess
import sys
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, inv_ornt_aff

from datasets import Dataset, build_dataset, load_case
from datasets.synapse import main
from swin_unet.cli import run
from swin_unet.config import DataConfig, UserError
from swin_unet.imaging import Preprocessing

# Number of the case to how its files are stored; 0008 and 0035 are test cases.
STORED = {5: "LAS", 10: "PIR", 21: "RAS", 8: "LPS", 35: "SRA"}
TEST = (8, 35)
CLASSES = ["aorta", "gallbladder", "left_kidney", "right_kidney", "liver", "pancreas", "spleen",
           "stomach"]  # fmt: skip
# Of those, the values in the raw files.
RAW_VALUES = [8, 4, 3, 2, 6, 11, 1, 7]
SPACING = (0.8, 0.7, 3.0)


def make_raw(root: Path, shape: tuple[int, int, int] = (7, 6, 5)) -> None:
    """Write volumes whose axes lie as STORED says, slightly oblique."""
    for number, codes in STORED.items():
        rng = np.random.default_rng(number)
        hu = rng.integers(-1024, 1500, shape).astype(np.int16)
        if number == 10:  # a volume whose values do not fill the window
            hu = np.clip(hu, 0, 100)
        label = rng.integers(0, 14, shape).astype(np.uint8)
        affine = np.diag([*SPACING, 1.0])
        angle = 0.1 if number == 21 else 0.0
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        affine[:2, :2] = turn @ affine[:2, :2]
        ornt = nib.orientations.ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
        for folder, name, array in (("img", "img", hu), ("label", "label", label)):
            stored = nib.apply_orientation(array, ornt)
            image = nib.Nifti1Image(stored, affine @ inv_ornt_aff(ornt, shape))
            path = root / "RawData" / "Training" / folder / f"{name}{number:04d}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nib.save(image, path)


def expected(root: Path, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Recompute a prepared volume (slices, rows, columns) from the raw files by NumPy alone."""
    arrays = []
    for folder, name in (("img", "img"), ("label", "label")):
        path = root / "RawData" / "Training" / folder / f"{name}{number:04d}.nii.gz"
        right_anterior_superior = np.asarray(nib.as_closest_canonical(nib.load(path)).dataobj)
        # slices upwards; in a slice rows downwards to the back, columns to the patient's left
        arrays.append(right_anterior_superior[::-1, ::-1, :].transpose(2, 1, 0))
    hu = np.minimum(np.maximum(arrays[0].astype(np.float64), -125), 275)
    image = (hu - hu.min()) / (hu.max() - hu.min())
    label = np.zeros_like(arrays[1])
    for position, value in enumerate(RAW_VALUES, start=1):
        label[arrays[1] == value] = position
    return image, label


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("raw")
    make_raw(root)
    return root


@pytest.fixture(scope="module")
def out(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out") / "Synapse"
    assert main(["prepare", str(raw), str(folder)]) == 0
    return folder


def read(root: Path) -> Dataset:
    return build_dataset(DataConfig(name="synapse", root=root, classes=CLASSES))


def test_prepared_slices_equal_an_independent_computation(raw: Path, out: Path) -> None:
    for number in sorted(set(STORED) - set(TEST)):
        image, label = expected(raw, number)
        files = sorted((out / "train_npz").glob(f"case{number:04d}_slice*.npz"))
        assert [path.name for path in files] == [
            f"case{number:04d}_slice{index:03d}.npz" for index in range(len(image))
        ]
        for index, path in enumerate(files):
            content = np.load(path)
            assert content["image"].dtype == np.float32
            np.testing.assert_allclose(content["image"], image[index], atol=1e-6)
            np.testing.assert_array_equal(content["label"], label[index])


def test_prepared_volumes_equal_an_independent_computation(raw: Path, out: Path) -> None:
    for number in TEST:
        image, label = expected(raw, number)
        with h5py.File(out / "test_vol_h5" / f"case{number:04d}.npy.h5") as file:
            assert file["image"].dtype == np.float32
            np.testing.assert_allclose(file["image"][:], image, atol=1e-6)
            np.testing.assert_array_equal(file["label"][:], label)
            np.testing.assert_allclose(file["spacing"][:], SPACING[::-1], rtol=1e-5)


def test_lists_and_description_are_written(out: Path) -> None:
    lists = out / "lists" / "lists_Synapse"
    train = (lists / "train.txt").read_text().split()
    assert train == sorted(path.stem for path in (out / "train_npz").iterdir())
    assert (lists / "test_vol.txt").read_text().split() == ["case0008", "case0035"]
    assert len((lists / "all.lst").read_text().split()) == len(STORED)
    description = json.loads((out / "prepared.json").read_text())
    assert description["classes"] == CLASSES
    assert description["window_hu"] == [-125, 275]
    assert sorted(path.name for path in out.parent.iterdir()) == ["Synapse"]


def test_our_reader_reads_what_was_prepared(raw: Path, out: Path) -> None:
    dataset = read(out)
    assert dataset.split is not None
    assert dataset.split.train == ("case0005", "case0010", "case0021")
    assert dataset.split.test == ("case0008", "case0035")
    for case in dataset.cases:
        image, label = load_case(case, dataset)
        wanted, wanted_label = expected(raw, int(case.group or 0))
        np.testing.assert_allclose(image.array.transpose(2, 1, 0), wanted, atol=1e-6)
        np.testing.assert_array_equal(label.array.transpose(2, 1, 0), wanted_label)
        np.testing.assert_allclose(image.spacing_mm, SPACING, rtol=1e-5)


def test_prepared_and_raw_data_give_the_network_the_same(raw: Path, out: Path) -> None:
    """Where a volume fills the window, as a whole CT does."""
    config = DataConfig(intensity="window", window=(-125.0, 275.0), image_size=(12, 10))
    from_raw = Preprocessing.from_config(config)
    scaled = Preprocessing.from_config(
        DataConfig(intensity="window", window=(0.0, 1.0), image_size=(12, 10))
    )
    raw_set, prepared_set = read(raw), read(out)
    for number in (5, 8, 35):
        pairs = []
        for dataset, settings in ((raw_set, from_raw), (prepared_set, scaled)):
            (case,) = (case for case in dataset.cases if case.group == f"{number:04d}")
            image, label = load_case(case, dataset)
            prepared = settings.prepare(image)
            pairs.append((prepared.slab(0, prepared.num_slices), prepared.to_working(label)))
        np.testing.assert_allclose(pairs[0][0], pairs[1][0], atol=1e-5)
        np.testing.assert_array_equal(pairs[0][1], pairs[1][1])


def test_other_organs_can_be_prepared(raw: Path, tmp_path: Path) -> None:
    main(["prepare", str(raw), str(tmp_path / "out"), "--classes", "liver", "esophagus"])
    content = np.load(tmp_path / "out" / "train_npz" / "case0005_slice000.npz")
    path = raw / "RawData" / "Training" / "label" / "label0005.nii.gz"
    stored = np.asarray(nib.as_closest_canonical(nib.load(path)).dataobj)
    first = stored[::-1, ::-1, 0].T
    np.testing.assert_array_equal(content["label"], (first == 6) * 1 + (first == 5) * 2)


def test_an_existing_folder_is_left_alone(raw: Path, out: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    with pytest.raises(UserError, match="a folder to make, found one that is there already"):
        main(["prepare", str(raw), str(out)])
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_a_fault_leaves_nothing_behind(tmp_path: Path) -> None:
    make_raw(tmp_path / "raw")
    damaged = tmp_path / "raw" / "RawData" / "Training" / "label" / "label0035.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:50])
    with pytest.raises(UserError, match="truncated or damaged"):
        main(["prepare", str(tmp_path / "raw"), str(tmp_path / "out")])
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


@pytest.mark.parametrize(
    ("numbers", "found"), [((), "an empty folder"), ((5, 10), "found img0005, img0010")]
)
def test_too_few_raw_cases_are_refused(
    tmp_path: Path, raw: Path, numbers: tuple[int, ...], found: str
) -> None:
    folder = tmp_path / "raw"
    folder.mkdir()
    for number in numbers:
        for path in raw.rglob(f"*{number:04d}.nii.gz"):
            (folder / path.name).write_bytes(path.read_bytes())
    with pytest.raises(UserError) as caught:
        main(["prepare", str(folder), str(tmp_path / "out")])
    assert found in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_prepared_files_are_no_raw_data(out: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"img0001\.nii\.gz, .*found none"):
        main(["prepare", str(out), str(tmp_path / "again")])


def test_neither_layout_says_what_is_expected(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").touch()
    with pytest.raises(UserError, match="raw BTCV or TransUNet's files, found neither") as caught:
        read(tmp_path)
    assert "https://www.synapse.org" in str(caught.value)


def test_the_command_runs_without_a_word_too_many(raw: Path, out: Path) -> None:
    command = [sys.executable, "-m", "datasets.synapse", "prepare", str(raw), str(out)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, encoding="utf8", check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {out}: expected a folder to make")
    assert run(lambda: main(["prepare", str(raw), str(out)])) == 2
