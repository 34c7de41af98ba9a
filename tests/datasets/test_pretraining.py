from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from datasets import build_dataset, make_split, pairing_table
from datasets.phantom import write_phantoms
from datasets.pretraining import MaskedSlices, make_pretraining_split, without_labels
from datasets.slices import build_loader, build_slices
from swin_unet.config import Config, DataConfig
from swin_unet.imaging import Preprocessing


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Five labelled cases and two without labels, imagesTs."""
    root = tmp_path_factory.mktemp("data")
    write_phantoms(root / "set", cases=5, test_cases=2, seed=0, size=(32, 32, 12))
    data = DataConfig(
        root=root / "set",
        cache_dir=root / "cache",
        intensity="window",
        window=(-125, 275),
        image_size=(32, 32),
        augmentation="none",
        val_fraction=0.2,
        test_fraction=0.2,
    )
    return Config(seed=4, data=data)


def masked(config):
    dataset = build_dataset(config.data)
    split = make_pretraining_split(dataset, config)
    images = without_labels(dataset)
    cases = [case for case in images.cases if case.name in split.train]
    slices = build_slices(config, images, cases, Preprocessing.from_config(config.data))
    return MaskedSlices(slices, tokens=(8, 8), tokens_per_patch=2, ratio=0.6)


def test_unlabelled_cases_train_and_those_of_a_later_test_do_not(config):
    dataset = build_dataset(config.data)
    fine_tuning = make_split(dataset, config)
    split = make_pretraining_split(dataset, config)
    assert (split.val, split.test) == (fine_tuning.val, fine_tuning.test)
    unlabelled = {case.name for case in dataset.cases if not case.labels}
    assert len(unlabelled) == 2
    assert set(split.train) == {*fine_tuning.train, *unlabelled}


def test_without_any_labels_all_cases_are_split(config):
    dataset = build_dataset(config.data)
    bare = replace(dataset, cases=tuple(replace(case, labels=()) for case in dataset.cases))
    split = make_pretraining_split(bare, config)
    assert sorted([*split.train, *split.val, *split.test]) == [case.name for case in bare.cases]
    assert (len(split.val), len(split.test)) == (1, 1)


def test_the_overview_says_that_labels_are_not_read(config):
    dataset = build_dataset(config.data)
    assert any("without a label map" in note for note in dataset.notes)
    images = without_labels(dataset)
    assert not any("without a label map" in note for note in images.notes)
    table = pairing_table(images)
    assert table.count("(not read)") == len(dataset.cases)
    assert "7 cases, none of whose labels is read" in table


def test_label_maps_are_not_read(config, tmp_path):
    """A broken one does not matter, and the cache is not that of the labelled slices."""
    data = replace(config.data, cache_dir=tmp_path)
    dataset = build_dataset(data)
    for case in dataset.cases:
        for path in case.labels:
            assert path.is_file()
    broken = replace(
        dataset, cases=tuple(replace(c, labels=(c.images[0].parent,)) for c in dataset.cases)
    )
    slices = build_slices(
        replace(config, data=data),
        without_labels(broken),
        without_labels(broken).cases[:1],
        Preprocessing.from_config(data),
    )
    assert len(slices) == 12
    assert all(not sample["label"].any() for sample in (slices[0, i] for i in range(12)))


def test_samples_have_masks_of_their_own_that_change_every_epoch(config):
    slices = masked(config)
    samples = [slices[0, index, index] for index in range(len(slices))]
    assert {tuple(sample) for sample in samples} == {("image", "case", "slice", "mask")}
    assert all(sample["mask"].sum() == 4 * int(np.ceil(0.6 * 16)) for sample in samples)
    distinct = {tuple(sample["mask"].flatten().tolist()) for sample in samples}
    assert len(distinct) > 0.8 * len(samples)
    assert torch.equal(slices[0, 3, 3]["mask"], samples[3]["mask"])
    assert not torch.equal(slices[1, 3, 3]["mask"], samples[3]["mask"])


def test_batches_have_images_and_masks(config):
    loader, sampler = build_loader(masked(config), batch_size=4, num_workers=0, pin_memory=False)
    sampler.set_epoch(0)
    for batch in loader:
        assert batch["image"].shape == (4, 1, 32, 32)
        assert batch["mask"].shape == (4, 8, 8)
        assert "label" not in batch
