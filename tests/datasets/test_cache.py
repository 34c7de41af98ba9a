import errno
import json
import multiprocessing
import os
import shutil
import signal
import socket
import time
from dataclasses import replace
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from datasets import Case, Dataset, cache
from datasets.cache import build_cache
from datasets.cached import CachedCase
from swin_unet.config import DataConfig, UserError
from swin_unet.imaging import Preprocessing, read, read_labels

SHAPE = (6, 7, 8)
SETTINGS = Preprocessing.from_config(DataConfig(image_size=(10, 12)))


def save(path: Path, array: np.ndarray) -> Path:
    nib.save(nib.Nifti1Image(array, np.diag([-1.0, 1, 2, 1])), path)
    return path


def make_dataset(folder: Path, count: int = 2) -> Dataset:
    generator = np.random.default_rng(0)
    cases = []
    for index in range(count):
        image = generator.integers(-100, 900, SHAPE, dtype=np.int16)
        label = generator.integers(0, 3, SHAPE, dtype=np.uint8)
        paths = save(folder / f"{index}.nii", image), save(folder / f"{index}_label.nii", label)
        cases.append(Case(f"case{index}", paths[:1], paths[1:]))
    return Dataset(tuple(cases), {1: "liver", 2: "spleen"}, ("CT",))


def build(dataset: Dataset, folder: Path, settings: Preprocessing = SETTINGS) -> list[CachedCase]:
    return build_cache(dataset.cases, dataset, settings, folder / "cache", progress=False)


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "cache").iterdir())


@pytest.mark.parametrize("fit", ["resize", "crop"])
def test_slices_are_what_preprocessing_gives(tmp_path: Path, fit: str) -> None:
    dataset = make_dataset(tmp_path)
    settings = replace(SETTINGS, fit=fit, context_slices=3)
    for cached, case in zip(build(dataset, tmp_path, settings), dataset.cases, strict=True):
        prepared = replace(settings, context_slices=1).prepare(read(case.images[0]))
        images, labels = np.load(cached.image_path), np.load(cached.label_path)
        assert images.dtype == np.float16
        assert images.shape == (8, 1, *prepared.input_size)
        assert (cached.num_slices, cached.size) == (8, prepared.input_size)
        np.testing.assert_array_equal(images, prepared.slab(0, 8).half().numpy())
        working = prepared.to_working(read_labels(case.labels))
        assert labels.dtype == np.uint8
        np.testing.assert_array_equal(labels, prepared.labels_slab(working, 0, 8))
        assert cached.num_bytes == sum(
            path.stat().st_size for path in (cached.image_path, cached.label_path)
        )


@pytest.mark.parametrize("num_classes", [3, 300])
def test_slices_are_read_one_by_one(tmp_path: Path, num_classes: int) -> None:
    """Two channels; any rows of any slices are what NumPy reads of the whole files."""
    generator = np.random.default_rng(0)
    image, label = tmp_path / "image.nii", tmp_path / "label.nii"
    save(image, generator.integers(-100, 900, (*SHAPE, 2), dtype=np.int16))
    save(label, generator.integers(0, num_classes, SHAPE, dtype=np.uint16))
    classes = {value: f"class {value}" for value in range(1, num_classes)}
    dataset = Dataset((Case("case", (image,), (label,)),), classes, ("T1", "T2"))
    (cached,) = build(dataset, tmp_path)
    images, labels = np.load(cached.image_path), np.load(cached.label_path)
    assert cached.label_dtype == labels.dtype.name == ("uint8" if num_classes < 256 else "uint16")
    for start, stop, rows in [(0, 8, slice(0, 10)), (3, 6, slice(2, 9)), (7, 8, slice(0, 1))]:
        found = cached.read_images(start, stop, rows)
        assert found.dtype == np.float16
        np.testing.assert_array_equal(found, images[start:stop, :, rows])
        np.testing.assert_array_equal(cached.read_label(start, rows), labels[start, rows])


def test_the_classes_of_each_slice_are_known(tmp_path: Path) -> None:
    label = np.zeros(SHAPE, np.uint8)
    label[2:, 3:, 1:5], label[:2, :3, 4:7] = 2, 1
    dataset = make_dataset(tmp_path, 1)
    save(dataset.cases[0].labels[0], label)
    (cached,) = build(dataset, tmp_path)
    assert cached.slice_classes == ((), (2,), (2,), (2,), (1, 2), (1,), (1,), ())
    assert build(dataset, tmp_path) == [cached]  # also when it is read back


def test_an_entry_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = make_dataset(tmp_path)
    first = build(dataset, tmp_path)
    monkeypatch.setattr(cache, "load_case", None)
    assert build(dataset, tmp_path) == first
    assert build(dataset, tmp_path, replace(SETTINGS, context_slices=5)) == first


@pytest.mark.parametrize("which", ["image", "label"])
@pytest.mark.parametrize("change", ["content", "time"])
def test_a_changed_file_is_cached_anew(tmp_path: Path, which: str, change: str) -> None:
    dataset = make_dataset(tmp_path)
    first = build(dataset, tmp_path)
    case = dataset.cases[0]
    path = case.images[0] if which == "image" else case.labels[0]
    assert path is not None
    if change == "content":
        save(path, np.zeros(SHAPE, np.int16))
    else:
        os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    second = build(dataset, tmp_path)
    assert second[0].folder != first[0].folder
    assert second[1] == first[1]
    if change == "content":
        name = f"{which}.npy"
        assert not np.load(second[0].folder / name).any()


@pytest.mark.parametrize(
    "change",
    [
        {"plane": "coronal"},
        {"intensity": "percentile"},
        {"intensity": "window", "window": (0.0, 1.0), "percentiles": None},
        {"percentiles": (1.0, 99.0)},
        {"fit": "crop"},
        {"fit": "crop", "spacing_mm": (2.0, 2.0)},
        {"image_size": (12, 10)},
    ],
)
def test_every_option_makes_an_entry_of_its_own(tmp_path: Path, change: dict) -> None:
    dataset = make_dataset(tmp_path, 1)
    first, second = build(dataset, tmp_path), build(dataset, tmp_path, replace(SETTINGS, **change))
    assert first[0].folder != second[0].folder
    assert first == build(dataset, tmp_path)


def test_another_number_of_classes_checks_the_labels_again(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, 1)
    build(dataset, tmp_path)
    with pytest.raises(UserError, match="label values from 0 to 1"):
        build(replace(dataset, classes={1: "liver"}), tmp_path)


@pytest.mark.parametrize("damage", ["image.npy", "label.npy", "meta.json", "short", "json"])
def test_a_damaged_entry_is_built_again(tmp_path: Path, damage: str) -> None:
    dataset = make_dataset(tmp_path, 1)
    (first,) = build(dataset, tmp_path)
    expected = np.load(first.image_path)
    if damage == "short":
        first.image_path.write_bytes(first.image_path.read_bytes()[:-1])
    elif damage == "json":
        (first.folder / "meta.json").write_text("{")
    else:
        (first.folder / damage).unlink()
    assert build(dataset, tmp_path) == [first]
    np.testing.assert_array_equal(np.load(first.image_path), expected)


def test_bad_data_stop_the_build_and_leave_nothing(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path)
    path = save(tmp_path / "1.nii", np.full(SHAPE, np.nan, np.float32))
    with pytest.raises(UserError, match="NaN") as caught:
        build(dataset, tmp_path)
    assert str(path) in str(caught.value)
    assert [name.partition("-")[0] for name in entries(tmp_path)] == ["case0"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path)
    (tmp_path / "1_label.nii").unlink()
    with pytest.raises(UserError, match=r"1_label\.nii: expected a file of the data set, found No"):
        build(dataset, tmp_path)


def test_a_full_disk_is_the_users_to_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(prepared: object, label: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(cache, "_write_labels", write)
    with pytest.raises(UserError, match=r"cache: expected a place to write .* Free some space"):
        build(make_dataset(tmp_path), tmp_path)
    assert entries(tmp_path) == []


def test_the_size_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = make_dataset(tmp_path)
    build_cache(dataset.cases, dataset, SETTINGS, tmp_path / "cache")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("2 cases, 16 slices, 0.0 MB cached in ")


def _build_when_told(folder: Path, barrier: Barrier) -> None:
    """Build in step with another process, without the seconds that preprocessing takes to load."""
    cache._build_case = lambda *arguments: _build_quickly(*arguments, barrier)
    build(_listed(folder), folder)


def _build_quickly(
    case: Case, dataset: Dataset, settings: Preprocessing, folder: Path, barrier: Barrier
) -> None:
    for name in cache.FILES[:2]:
        np.save(folder / name, np.zeros((8, 2, 2), np.uint8))
    sizes = {name: (folder / name).stat().st_size for name in cache.FILES[:2]}
    meta = {"num_slices": 8, "size": [2, 2], "num_channels": 1, "label_dtype": "uint8"}
    meta |= {"bytes": sizes, "slice_classes": [[]] * 8}
    (folder / "meta.json").write_text(json.dumps(meta))
    barrier.wait(60)  # both have built this case and publish it now


def _listed(folder: Path) -> Dataset:
    cases = tuple(
        Case(f"case{index}", (folder / f"{index}.nii",), (folder / f"{index}_label.nii",))
        for index in range(2)
    )
    return Dataset(cases, {1: "liver", 2: "spleen"}, ("CT",))


def test_two_processes_at_once_make_one_entry_per_case(tmp_path: Path) -> None:
    make_dataset(tmp_path)
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    workers = [context.Process(target=_build_when_told, args=(tmp_path, barrier)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0]
    names = entries(tmp_path)
    assert [name.partition("-")[0] for name in names] == ["case0", "case1"]
    assert [cached.folder.name for cached in build(_listed(tmp_path), tmp_path)] == names
    for name in names:
        assert len(np.load(tmp_path / "cache" / name / "label.npy")) == 8


def test_the_faster_process_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process publishes the entry while ours is under way."""
    dataset = make_dataset(tmp_path, 1)
    (theirs,) = build(dataset, tmp_path)
    aside = theirs.folder.rename(tmp_path / "aside")
    build_case = cache._build_case

    def build_slowly(*arguments: object) -> None:
        build_case(*arguments)
        shutil.copytree(aside, theirs.folder)

    monkeypatch.setattr(cache, "_build_case", build_slowly)
    assert build(dataset, tmp_path) == [theirs]
    assert entries(tmp_path) == [theirs.folder.name]


def _build_forever(folder: Path, started: Event) -> None:
    def wait(case: Case, dataset: Dataset, settings: Preprocessing, folder: Path) -> None:
        (folder / "image.npy").write_bytes(b"half")
        started.set()
        time.sleep(600)

    cache._build_case = wait
    build(_listed(folder), folder)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a kill that cannot be caught")
def test_a_killed_build_leaves_no_entry_and_is_cleaned_up(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path)
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    worker = context.Process(target=_build_forever, args=(tmp_path, started))
    worker.start()
    try:
        assert started.wait(120)
        (leftover,) = entries(tmp_path)
        assert leftover.startswith(".building-")
        build(replace(dataset, cases=dataset.cases[1:]), tmp_path)
        assert leftover in entries(tmp_path)  # its owner is alive
    finally:
        worker.kill()
        worker.join()
    build(dataset, tmp_path)
    assert [name.partition("-")[0] for name in entries(tmp_path)] == ["case0", "case1"]


@pytest.mark.parametrize(("days", "kept"), [(0.5, True), (2, False)])
def test_leftovers_of_other_machines_go_after_a_day(
    tmp_path: Path, days: float, kept: bool
) -> None:
    folder = tmp_path / "cache" / f".building-not-{socket.gethostname()}-12-abcdef"
    folder.mkdir(parents=True)
    modified = time.time() - days * 86400
    os.utime(folder, (modified, modified))
    build(make_dataset(tmp_path, 1), tmp_path)
    assert folder.exists() == kept
