from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from datasets import build_dataset
from datasets.cifar10 import write_stand_in
from datasets.pictures import build_pictures
from datasets.slices import build_loader
from swin_unet.config import Config, DataConfig, UserError
from swin_unet.imaging import Preprocessing


def configured(root, **changes):
    options = {
        "name": "cifar10",
        "root": root,
        "intensity": "window",
        "window": (0, 255),
        "image_size": (64, 48),
        "augmentation": "none",
    }
    return Config(seed=3, data=DataConfig(**{**options, **changes}))


def build(config, limit=20):
    dataset = build_dataset(config.data)
    preprocessing = Preprocessing.from_config(config.data)
    return build_pictures(config, dataset, dataset.cases[:limit], preprocessing)


@pytest.fixture
def folder(tmp_path):
    write_stand_in(tmp_path, 20)
    return tmp_path


def test_samples_are_resized_pictures_in_0_to_1_with_class_numbers_from_0(folder):
    pictures = build(configured(folder))
    content = np.fromfile(folder / "data_batch_1.bin", np.uint8).reshape(-1, 3073)
    for index in (0, 7):
        sample = pictures[0, index]
        assert sample["image"].shape == (3, 64, 48)
        assert sample["label"].item() == content[index, 0]
        planes = torch.from_numpy(content[index, 1:].reshape(1, 3, 32, 32)) / 255
        expected = torch.nn.functional.interpolate(
            planes, (64, 48), mode="bilinear", antialias=True
        )[0]
        assert torch.allclose(sample["image"], expected, atol=1e-6)


def test_batches_come_by_the_loader_of_slices(folder):
    pictures = build(configured(folder))
    loader, sampler = build_loader(pictures, batch_size=8, num_workers=0, pin_memory=False)
    sampler.set_epoch(1)
    batches = list(loader)
    assert [batch["image"].shape for batch in batches] == [(8, 3, 64, 48)] * 2
    assert all(batch["label"].dtype == torch.int64 for batch in batches)
    truth = {
        case.name: target - 1 for case, target in zip(pictures.cases, pictures.targets, strict=True)
    }
    for batch in batches:
        assert batch["label"].tolist() == [truth[name] for name in batch["case"]]


def test_augmentation_follows_seed_epoch_and_position(folder):
    pictures = build(configured(folder, augmentation="default", flip_axes=["left_right"]))
    first, again, later = (pictures[key]["image"] for key in ((0, 3, 5), (0, 3, 5), (1, 3, 5)))
    assert torch.equal(first, again)
    assert not torch.equal(first, later)


def test_a_picture_of_several_pages_is_refused(tmp_path):
    pages = [Image.fromarray(np.full((8, 8), v, np.uint8)) for v in (1, 2)]
    for name in "ab":
        (tmp_path / name).mkdir()
        pages[0].save(tmp_path / name / "1.tif", save_all=True, append_images=pages[1:])
    pictures = build(configured(tmp_path, name="image_folder"))
    with pytest.raises(UserError, match="a single picture"):
        pictures[0, 0]
