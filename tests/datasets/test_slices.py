import pickle
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
import pytest
import torch

from datasets import Case, Dataset
from datasets.augment import Augmentation
from datasets.cached import CachedCase
from datasets.sampling import SampleKey
from datasets.slices import SliceDataset, build_loader, build_slices
from swin_unet.config import Config, DataConfig, UserError
from swin_unet.imaging import Preprocessing
from swin_unet.imaging.flips import Flip

SIZE = (20, 24)
NUM_SLICES = (3, 1, 5)


def store(folder: Path, image: np.ndarray, label: np.ndarray) -> CachedCase:
    """Write slices (S, C, h, w) and (S, h, w) as NumPy does, and say what they are."""
    folder.mkdir(exist_ok=True)
    np.save(folder / "image.npy", image.astype(np.float16))
    np.save(folder / "label.npy", label)
    return CachedCase(
        name=folder.name,
        folder=folder,
        num_slices=len(image),
        num_channels=image.shape[1],
        size=(image.shape[2], image.shape[3]),
        label_dtype=str(label.dtype),
        slice_classes=tuple(tuple(np.unique(a[a > 0]).tolist()) for a in label),
    )


@pytest.fixture
def cases(tmp_path: Path) -> list[CachedCase]:
    generator = np.random.default_rng(0)
    return [
        store(
            tmp_path / f"case{index}",
            generator.normal(size=(num_slices, 2, *SIZE)),
            generator.integers(0, 9, (num_slices, *SIZE), np.uint8),
        )
        for index, num_slices in enumerate(NUM_SLICES)
    ]


def make(
    cases: Sequence[CachedCase],
    augmentation: Literal["default", "paper", "none"] = "none",
    **changes: Any,
) -> SliceDataset:
    options: dict[str, Any] = {"context_slices": 1, "fit": "resize", "image_size": SIZE, "seed": 0}
    options |= changes
    flips = (Flip(1, ((1, 2),)),) if augmentation == "default" else ()
    recipe = None
    if augmentation != "none":
        recipe = Augmentation(augmentation, options["image_size"], flips)
    return SliceDataset(cases, augmentation=recipe, **options)


def test_every_slice_has_an_index(cases: list[CachedCase]) -> None:
    dataset = make(cases)
    assert len(dataset) == sum(NUM_SLICES)
    samples = [dataset[0, index] for index in range(len(dataset))]
    assert [(sample["case"], sample["slice"]) for sample in samples] == [
        (case.name, number) for case in cases for number in range(case.num_slices)
    ]
    for sample in samples:
        case = cases[int(sample["case"][4:])]
        image = np.load(case.image_path)[sample["slice"]].astype(np.float32)
        assert sample["image"].dtype == torch.float32
        assert sample["label"].dtype == torch.int64
        np.testing.assert_array_equal(sample["image"].numpy(), image)
        np.testing.assert_array_equal(
            sample["label"].numpy(), np.load(case.label_path)[sample["slice"]]
        )


@pytest.mark.parametrize("index", [-1, 9])
def test_other_indices_are_refused(cases: list[CachedCase], index: int) -> None:
    with pytest.raises(IndexError):
        make(cases)[0, index]


def test_classes_are_listed_in_the_order_of_the_slices(cases: list[CachedCase]) -> None:
    dataset = make(cases)
    for index, classes in enumerate(dataset.slice_classes):
        values = np.unique(dataset[0, index]["label"].numpy())
        assert list(classes) == values[values > 0].tolist()


@pytest.mark.parametrize("context", [1, 3, 5])
@pytest.mark.parametrize("fit", ["resize", "crop"])
def test_context_stays_in_the_case(cases: list[CachedCase], context: int, fit: str) -> None:
    dataset = make(cases, context_slices=context, fit=fit)
    images = np.load(cases[2].image_path)
    for number in range(5):
        sample = dataset[0, 4 + number]["image"].numpy()
        wanted = [min(max(number + k - context // 2, 0), 4) for k in range(context)]
        np.testing.assert_array_equal(sample, np.concatenate([images[k] for k in wanted]))
    (alone,) = np.load(cases[1].image_path)  # a case of a single slice
    np.testing.assert_array_equal(dataset[0, 3]["image"].numpy(), np.tile(alone, (context, 1, 1)))


def test_crops_are_windows_of_the_slice(cases: list[CachedCase]) -> None:
    dataset = make(cases, fit="crop", image_size=(8, 10))
    image, label = np.load(cases[0].image_path)[1], np.load(cases[0].label_path)[1]
    windows = {
        image[:, top : top + 8, left : left + 10].astype("f4").tobytes(): (top, left)
        for top in range(13)
        for left in range(15)
    }
    places = []
    for epoch in range(300):
        sample = dataset[epoch, 1]
        top, left = windows[sample["image"].numpy().tobytes()]
        np.testing.assert_array_equal(
            sample["label"].numpy(), label[top : top + 8, left : left + 10]
        )
        places.append((top, left))
    assert {top for top, _ in places} == set(range(13))
    assert {left for _, left in places} == set(range(15))


@pytest.mark.parametrize("size", [(30, 24), (20, 31), (33, 35), (26, 10)])
def test_small_slices_are_continued_at_the_edge(
    cases: list[CachedCase], size: tuple[int, int]
) -> None:
    sample = make(cases, fit="crop", image_size=size)[0, 0]
    image, label = sample["image"].numpy(), sample["label"].numpy()
    assert image.shape == (2, *size)
    assert label.shape == size
    top = (size[0] - 20) // 2
    np.testing.assert_array_equal(image[:, :top], np.repeat(image[:, top : top + 1], top, axis=1))
    np.testing.assert_array_equal(label[:top], np.repeat(label[top : top + 1], top, axis=0))
    if size[1] >= 24:
        left = (size[1] - 24) // 2
        native = np.load(cases[0].image_path)[0]
        np.testing.assert_array_equal(image[:, top : top + 20, left : left + 24], native)


def test_an_augmented_crop_shows_the_slice_around_it(tmp_path: Path) -> None:
    """Each label value is a place: a turned crop still shows an affine map of the slice.

    Where the recipe's context is too small, its edge is repeated; that must be rare.
    """
    label = np.arange(128 * 128, dtype=np.uint16).reshape(1, 128, 128)
    case = store(tmp_path / "case", np.zeros((1, 1, 128, 128)), label)
    dataset = make([case], "default", fit="crop", image_size=(32, 32))
    places = np.column_stack([np.indices((32, 32)).reshape(2, -1).T, np.ones(32 * 32)])
    errors = []
    for position in range(200):
        found = dataset[SampleKey(0, 0, position, target=64 * 128 + 64)]["label"].numpy()
        sources = np.column_stack(np.divmod(found.ravel(), 128)).astype(float)
        fit, *_ = np.linalg.lstsq(places, sources)
        errors.append(np.abs(places @ fit - sources).max())
    is_affine = np.array(errors) < 0.8  # the nearest pixel is half a pixel off at most
    assert is_affine.mean() > 0.7  # a fifth is deformed elastically


@pytest.mark.parametrize("augmentation", ["none", "default"])
def test_samples_drawn_for_a_class_show_it(tmp_path: Path, augmentation: Any) -> None:
    """One pixel in a large slice: it is in every crop drawn for it, and rarely in another."""
    label = np.zeros((1, 90, 70), np.uint8)
    label[0, 11:13, 60:62] = 4
    case = store(tmp_path / "case", np.zeros((1, 1, 90, 70)), label)
    dataset = make([case], augmentation, fit="crop", image_size=(24, 24))
    hits = [
        [(dataset[0, 0, position, target]["label"] == 4).any().item() for position in range(60)]
        for target in (0, 4)
    ]
    assert sum(hits[0]) < 20
    assert sum(hits[1]) == 60


@pytest.mark.parametrize(("fit", "size"), [("resize", (64, 64)), ("crop", (48, 48))])
def test_every_sample_of_every_epoch_differs(tmp_path: Path, fit: str, size: Any) -> None:
    """All slices hold the same picture, and each comes several times in an epoch."""
    generator = np.random.default_rng(0)
    picture = np.repeat(generator.normal(size=(1, 1, 64, 64)), 10, axis=0)
    case = store(tmp_path / "case", picture, np.ones((10, 64, 64), np.uint8))
    seen: list[bytes] = []
    for seed in (0, 1):
        dataset = make([case], "default", fit=fit, image_size=size, seed=seed)
        for epoch in range(3):
            keys = [SampleKey(epoch, position % 10, position) for position in range(30)]
            seen += [dataset[key]["image"].numpy().tobytes() for key in keys]
    assert len(seen) == len(set(seen)) == 180
    plain = len(set(make_plain(case, size)))
    assert plain == 1 if fit == "resize" else plain > 20


def make_plain(case: CachedCase, size: tuple[int, int]) -> list[bytes]:
    """Return samples without augmentation: only crops differ."""
    fit = "resize" if size == case.size else "crop"
    dataset = make([case], "none", fit=fit, image_size=size)
    return [dataset[0, 0, position]["image"].numpy().tobytes() for position in range(30)]


def collect(dataset: SliceDataset, num_workers: int, epochs: Sequence[tuple[int, int]]) -> Any:
    """Return all batches of the (epoch, first batch) given."""
    loader, sampler = build_loader(
        dataset,
        batch_size=2,
        num_workers=num_workers,
        pin_memory=False,
        foreground_fraction=0.5,
    )
    batches = []
    for epoch, start in epochs:
        sampler.set_epoch(epoch, start)
        batches.append(list(loader))
    return batches


def assert_same_batches(found: Any, expected: Any) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one["case"] == other["case"]
        assert torch.equal(one["slice"], other["slice"])
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["label"], other["label"])


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("num_workers", [1, 4])
@pytest.mark.parametrize("augmentation", ["default", "paper"])
def test_workers_change_nothing(
    cases: list[CachedCase], num_workers: int, augmentation: Any
) -> None:
    """Persistent workers through three epochs, new ones for each, and none: the same samples."""
    dataset = make(cases, augmentation, fit="crop", image_size=(16, 16), context_slices=3)
    epochs = [(0, 0), (1, 0), (2, 0)]
    expected = collect(dataset, 0, epochs)
    persistent = collect(dataset, num_workers, epochs)
    for epoch in range(3):
        assert_same_batches(persistent[epoch], expected[epoch])
    (anew,) = collect(dataset, num_workers, [(2, 0)])
    assert_same_batches(anew, expected[2])
    images = [image.numpy().tobytes() for epoch in expected for b in epoch for image in b["image"]]
    assert len(images) == 3 * 8
    if augmentation == "default":  # the paper's recipe leaves a quarter as they are
        assert len(set(images)) == len(images)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_epoch_is_taken_up_in_the_middle(cases: list[CachedCase], num_workers: int) -> None:
    dataset = make(cases, "default", fit="crop", image_size=(16, 16))
    whole, rest, after = collect(dataset, num_workers, [(1, 0), (1, 3), (2, 0)])
    assert_same_batches(rest, whole[3:])
    assert_same_batches(after, collect(dataset, 0, [(2, 0)])[0])


def test_processes_share_the_batches(cases: list[CachedCase]) -> None:
    dataset = make(cases, "default")
    options: dict[str, Any] = {"batch_size": 4, "num_workers": 0, "pin_memory": False}
    alone, _ = build_loader(dataset, **options)
    shares = [build_loader(dataset, num_replicas=2, rank=r, **options)[0] for r in (0, 1)]
    assert len(alone) == len(shares[0]) == 2
    for whole, *parts in zip(alone, *shares, strict=True):
        assert torch.equal(torch.cat([part["image"] for part in parts]), whole["image"])
        assert torch.equal(torch.cat([part["label"] for part in parts]), whole["label"])


@pytest.mark.parametrize("value", [5, 255, 256, 60000])
def test_batches_hold_labels_of_any_size(tmp_path: Path, value: int) -> None:
    label = np.zeros((2, *SIZE), np.uint16)
    label[1, 3:5] = value
    dataset = make([store(tmp_path / "case", np.zeros((2, 1, *SIZE)), label)])
    loader, sampler = build_loader(dataset, batch_size=2, num_workers=1, pin_memory=False)
    (batch,) = loader
    assert batch["label"].dtype == torch.int64
    assert batch["image"].shape == (2, 1, *SIZE)
    order = [key.slice_index for key in sampler]
    np.testing.assert_array_equal(batch["label"].numpy(), label[order])


def test_a_used_data_set_can_be_pickled(cases: list[CachedCase]) -> None:
    dataset = make(cases, "default")
    sample = dataset[0, 0]
    content = pickle.dumps(dataset)
    assert len(content) < 10_000
    assert torch.equal(pickle.loads(content)[0, 0]["image"], sample["image"])


def nifti_cases(folder: Path) -> Dataset:
    """Write one case of two kidneys."""
    generator = np.random.default_rng(0)
    arrays = {"image": generator.normal(size=(20, 24, 3)), "label": np.zeros((20, 24, 3))}
    arrays["label"][4:7, 5:8], arrays["label"][14:17, 5:8] = 1, 2
    paths = {name: folder / f"{name}.nii" for name in arrays}
    for name, array in arrays.items():
        nib.save(nib.Nifti1Image(array.astype(np.int16), np.eye(4)), paths[name])
    case = Case("case", (paths["image"],), (paths["label"],))
    return Dataset((case,), {1: "left_kidney", 2: "right_kidney"}, ("CT",))


def test_the_configuration_makes_the_samples(tmp_path: Path) -> None:
    dataset = nifti_cases(tmp_path)
    data = DataConfig(
        image_size=(16, 16),
        context_slices=3,
        flip_axes=["left_right"],
        cache_dir=tmp_path / "cache",
    )
    preprocessing = Preprocessing.from_config(data)
    slices = build_slices(Config(seed=7, data=data), dataset, dataset.cases, preprocessing)
    assert (len(slices), slices.seed) == (3, 7)
    assert slices.slice_classes == [(1, 2)] * 3
    assert slices.augmentation is not None
    assert slices.augmentation.flips == (Flip(1, ((1, 2),)),)
    sample = slices[0, 1]
    assert sample["image"].shape == (3, 16, 16)
    assert sample["label"].shape == (16, 16)


def test_a_wrong_flip_is_refused_before_anything_is_cached(tmp_path: Path) -> None:
    dataset = nifti_cases(tmp_path)
    data = DataConfig(
        image_size=(16, 16), flip_axes=["superior_inferior"], cache_dir=tmp_path / "cache"
    )
    with pytest.raises(UserError, match="runs across the slices"):
        build_slices(Config(data=data), dataset, dataset.cases, Preprocessing.from_config(data))
    assert not (tmp_path / "cache").exists()


LOSING_ITS_PARENT = """
import os, signal, sys, threading, time
from types import SimpleNamespace
from datasets.slices import build_loader
from datasets.sampling import Samples

class Numbers(Samples):
    seed = 0
    slice_classes = [[]] * 4
    def __len__(self): return 4
    def __getitem__(self, key): return {"label": 0}

sys.modules["cv2"] = SimpleNamespace(setNumThreads=lambda number: time.sleep(1.5))
loader, _ = build_loader(Numbers(), batch_size=1, num_workers=2, pin_memory=False)
threading.Timer(0.7, os.kill, [os.getpid(), signal.SIGKILL]).start()
next(iter(loader))
"""


def test_workers_end_when_the_main_process_is_killed_while_they_start() -> None:
    process = subprocess.Popen([sys.executable, "-c", LOSING_ITS_PARENT], stdout=subprocess.PIPE)
    process.communicate(timeout=60)  # all who hold the pipe are gone
    assert process.returncode == -signal.SIGKILL
