from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from datasets import build_dataset, make_split
from datasets.cases import load_image
from swin_unet.config import Config, DataConfig, UserError


def save(path, colours=True, size=(12, 10)):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0], 3) if colours else (size[1], size[0])
    pixels = np.random.default_rng(len(str(path))).integers(256, size=shape).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def build(root, **options):
    return build_dataset(DataConfig(name="image_folder", root=root, **options))


def test_folders_are_classes(tmp_path):
    for name in ("b/1.png", "b/2.jpg", "a/1.png", "a/x.txt", ".git/3.png"):
        save(tmp_path / name) if not name.endswith("txt") else (tmp_path / name).write_text("x")
    dataset = build(tmp_path)
    assert dataset.classes == {1: "a", 2: "b"}
    assert dataset.targets == {"a/1": 1, "b/1": 2, "b/2": 2}
    assert dataset.channels == ("red", "green", "blue")
    assert dataset.split is None


def test_parts_are_the_split(tmp_path):
    for part, number in (("train", 6), ("test", 2)):
        for index in range(number):
            save(tmp_path / part / "ab"[index % 2] / f"{index}.png")
    dataset = build(tmp_path)
    split = make_split(dataset, Config(data=DataConfig(name="image_folder", val_fraction=0.2)))
    assert split.test == ("test/a/0", "test/b/1")
    assert (len(split.train), len(split.val)) == (5, 1)


def test_grey_pictures_among_coloured_ones_get_three_channels(tmp_path):
    grey = save(tmp_path / "a/1.png", colours=False)
    save(tmp_path / "b/1.png")
    dataset = build(tmp_path)
    volume = load_image(dataset.cases[0], dataset)
    assert volume.array.shape == (12, 10, 1, 3)
    assert all(np.array_equal(volume.array[:, :, 0, c], grey.T) for c in range(3))
    save(tmp_path / "b/1.png", colours=False)
    assert build(tmp_path).channels == ("grey",)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a/1.png"], "a folder per class, two at least, found a"),
        (["x.png"], "a folder per class, two at least, found none"),
        (["a/1.png", "a/1.jpg", "b/1.png"], "two that differ by their ending"),
        (["train/a/1.png", "train/b/1.png", "val/c/1.png"], "the classes of .*: a, b, found c"),
        (["a/1.png", "b/1.txt"], "pictures in every class, found none in b"),
    ],
)
def test_faults_are_told(tmp_path, names, message):
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("") if name.endswith("txt") else save(tmp_path / name)
    with pytest.raises(UserError, match=message):
        build(tmp_path)


def test_other_classes_than_configured_are_refused(tmp_path):
    save(tmp_path / "a/1.png")
    save(tmp_path / "b/1.png")
    assert build(tmp_path, classes=["a", "b"]).classes == {1: "a", 2: "b"}
    with pytest.raises(UserError, match=r"\['b', 'a'\] of data.classes"):
        build(tmp_path, classes=["b", "a"])
