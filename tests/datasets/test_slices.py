import pickle
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from datasets.cache import CachedCase
from datasets.slices import SliceDataset, SliceSampler
from swin_unet.config import UserError

SIZE = (20, 24)
NUM_SLICES = (3, 1, 5)


@pytest.fixture
def cases(tmp_path: Path) -> list[CachedCase]:
    generator = np.random.default_rng(0)
    cases = []
    for index, num_slices in enumerate(NUM_SLICES):
        folder = tmp_path / str(index)
        folder.mkdir()
        image = generator.normal(size=(num_slices, 2, *SIZE)).astype(np.float16)
        np.save(folder / "image.npy", image)
        np.save(folder / "label.npy", generator.integers(0, 9, (num_slices, *SIZE), np.uint8))
        cases.append(CachedCase(f"case{index}", folder, num_slices, SIZE))
    return cases


def make(cases: Sequence[CachedCase], **changes: Any) -> SliceDataset:
    options: dict[str, Any] = {
        "context_slices": 1,
        "fit": "resize",
        "image_size": SIZE,
        "augmentation": "none",
        "seed": 0,
    }
    return SliceDataset(cases, **(options | changes))


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


@pytest.mark.parametrize("context", [1, 3, 5])
def test_context_stays_in_the_case(cases: list[CachedCase], context: int) -> None:
    dataset = make(cases, context_slices=context)
    images = np.load(cases[2].image_path)
    for number in range(5):
        sample = dataset[0, 4 + number]["image"].numpy()
        wanted = [min(max(number + k - context // 2, 0), 4) for k in range(context)]
        np.testing.assert_array_equal(sample, np.concatenate([images[k] for k in wanted]))


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


def test_the_sampler_visits_every_slice_in_a_new_order() -> None:
    sampler = SliceSampler(50, seed=3)
    orders = []
    for epoch in (0, 1, 2):
        sampler.set_epoch(epoch)
        keys = list(sampler)
        assert {key[0] for key in keys} == {epoch}
        assert sorted(key[1] for key in keys) == list(range(50)) != [key[1] for key in keys]
        assert keys == list(sampler)
        orders.append(tuple(key[1] for key in keys))
    assert len(set(orders)) == 3
    assert len(sampler) == 50
    other = SliceSampler(50, seed=4)
    assert tuple(key[1] for key in other) != orders[0]


@pytest.mark.parametrize("start", [0, 2])
def test_processes_share_the_batches_of_one(start: int) -> None:
    def batches(num_replicas: int, rank: int) -> list[list[int]]:
        sampler = SliceSampler(23, 3, batch_size=6, num_replicas=num_replicas, rank=rank)
        sampler.set_epoch(4, start)
        indices = [index for _, index in sampler]
        size = sampler.local_batch_size
        return [indices[at : at + size] for at in range(0, len(indices), size)]

    whole = batches(1, 0)
    assert [len(batch) for batch in whole] == [6] * (3 - start)
    shares = [batches(3, rank) for rank in range(3)]
    assert [[*chain(*parts)] for parts in zip(*shares, strict=True)] == whole


@pytest.mark.parametrize(("num_slices", "batch_size"), [(50, 5), (3, 4)])
def test_batches_that_cannot_be_shared_are_refused(num_slices: int, batch_size: int) -> None:
    with pytest.raises(UserError, match=r"train\.batch_size: expected a multiple of the 2"):
        SliceSampler(num_slices, 0, batch_size=batch_size, num_replicas=2)


@pytest.mark.parametrize("augmentation", ["default", "none"])
def test_no_two_augmented_samples_are_alike(tmp_path: Path, augmentation: str) -> None:
    """All slices hold the same picture: only the seeds make a difference."""
    picture = np.random.default_rng(0).normal(size=(1, 1, 64, 64)).astype(np.float16)
    np.save(tmp_path / "image.npy", np.repeat(picture, 30, axis=0))
    np.save(tmp_path / "label.npy", np.zeros((30, 64, 64), np.uint8))
    case = CachedCase("case", tmp_path, 30, (64, 64))
    dataset = make([case], image_size=(64, 64), augmentation=augmentation)
    other_seed = make([case], image_size=(64, 64), augmentation=augmentation, seed=1)
    samples = [dataset[epoch, i]["image"] for epoch in range(3) for i in range(30)]
    samples += [other_seed[0, i]["image"] for i in range(30)]
    different = {sample.numpy().tobytes() for sample in samples}
    # A few slices meet no step at all and stay as they are.
    assert len(different) >= 110 if augmentation == "default" else len(different) == 1


def _collect(dataset: SliceDataset, num_workers: int, persistent: bool) -> list[Any]:
    sampler = SliceSampler(len(dataset), seed=0)
    loader = DataLoader(
        dataset,
        batch_size=2,
        sampler=sampler,
        num_workers=num_workers,
        persistent_workers=persistent,
    )
    batches = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        batches += list(loader)
    return batches


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize(("num_workers", "persistent"), [(1, False), (3, False), (1, True)])
def test_workers_change_nothing(
    cases: list[CachedCase], num_workers: int, persistent: bool
) -> None:
    dataset = make(cases, fit="crop", image_size=(16, 16), augmentation="default")
    expected = _collect(dataset, 0, False)
    found = _collect(dataset, num_workers, persistent)
    for one, other in zip(expected, found, strict=True):
        assert one["case"] == other["case"]
        assert torch.equal(one["slice"], other["slice"])
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["label"], other["label"])


def test_a_used_data_set_can_be_pickled(cases: list[CachedCase]) -> None:
    dataset = make(cases, augmentation="default")
    sample = dataset[0, 0]
    content = pickle.dumps(dataset)
    assert len(content) < 10_000
    assert torch.equal(pickle.loads(content)[0, 0]["image"], sample["image"])


def test_the_papers_recipe_needs_square_slices(cases: list[CachedCase]) -> None:
    with pytest.raises(UserError, match=r"a square data\.image_size.*\(20, 24\)"):
        make(cases, augmentation="paper")
    make(cases, fit="crop", image_size=(16, 16), augmentation="paper")[0, 0]
