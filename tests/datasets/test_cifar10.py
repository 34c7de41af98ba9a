from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from datasets import build_dataset, make_split
from datasets.cases import load_image
from datasets.cifar10 import NAMES, TRAIN_FILES, main, read_picture, write_batch, write_stand_in
from swin_unet.config import Config, DataConfig, UserError
from swin_unet.imaging import read_image


@pytest.fixture
def folder(tmp_path):
    write_stand_in(tmp_path / "cifar", 20)
    return tmp_path / "cifar"


def config(root):
    return DataConfig(name="cifar10", root=root)


def test_records_are_laid_out_as_published(tmp_path):
    """<1 x label><3072 x pixel>: red, green, blue, each row by row."""
    pictures = np.random.default_rng(0).integers(256, size=(3, 32, 32, 3)).astype(np.uint8)
    write_batch(tmp_path / "data_batch_1.bin", pictures, np.array([7, 0, 9]))
    content = (tmp_path / "data_batch_1.bin").read_bytes()
    assert len(content) == 3 * 3073
    record = content[3073:]
    assert record[0] == 0
    for channel, row, column in [(0, 0, 0), (0, 0, 31), (1, 5, 17), (2, 31, 30)]:
        assert record[1 + 1024 * channel + 32 * row + column] == pictures[1, row, column, channel]


def test_pictures_and_classes_are_those_written(tmp_path):
    write_stand_in(tmp_path, 10)
    random = np.random.default_rng(1)
    pictures = random.integers(256, size=(4, 32, 32, 3)).astype(np.uint8)
    write_batch(tmp_path / "data_batch_3.bin", pictures, np.array([3, 1, 9, 0]))
    dataset = build_dataset(config(tmp_path))
    cases = [case for case in dataset.cases if case.name.startswith("data_batch_3")]
    assert [dataset.targets[case.name] for case in cases] == [4, 2, 10, 1]
    assert dataset.classes[4] == "cat"
    for case, picture in zip(cases, pictures, strict=True):
        Image.fromarray(picture).save(tmp_path / "as.png")
        like_png, ours = read_image([tmp_path / "as.png"]), load_image(case, dataset)
        assert np.array_equal(ours.array, like_png.array)
        assert np.array_equal(ours.affine, like_png.affine)
        assert ours.has_spacing == like_png.has_spacing


def test_the_split_is_the_published_one_with_validation_drawn(folder):
    dataset = build_dataset(config(folder))
    assert len(dataset.cases) == 120
    split = make_split(dataset, Config(data=DataConfig(name="cifar10", val_fraction=0.1)))
    assert len(split.test) == 20
    assert all(name.startswith("test_batch") for name in split.test)
    assert (len(split.train), len(split.val)) == (90, 10)


def test_the_folder_of_the_archive_is_found(tmp_path):
    write_stand_in(tmp_path / "cifar-10-batches-bin", 10)
    assert len(build_dataset(config(tmp_path)).cases) == 60


def test_classes_of_the_stand_in_can_be_told_apart(folder):
    """By the mean colour and the direction of the stripes, each as a whole."""
    dataset = build_dataset(config(folder))
    features, labels = [], []
    for case in dataset.cases:
        pixels = read_picture(case).array[:, :, 0].astype(float)
        spectrum = np.abs(np.fft.fft2(pixels.mean(axis=2) - pixels.mean()))[:6, :]
        features.append(np.concatenate([pixels.mean(axis=(0, 1)) * 20, spectrum.ravel() / 50]))
        labels.append(dataset.targets[case.name])
    features, labels = np.array(features), np.array(labels)
    means = np.array([features[:100][labels[:100] == k].mean(axis=0) for k in range(1, 11)])
    distances = np.linalg.norm(features[100:, None] - means, axis=2)
    assert (distances.argmin(axis=1) + 1 == labels[100:]).mean() > 0.5


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.unlink(), "data_batch_2.bin"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "records of 3073 bytes"),
        (lambda path: path.write_bytes(b""), "found 0 bytes"),
        (lambda path: path.write_bytes(b"\x32" * 3073), "class 50, as CIFAR-100 has"),
    ],
)
def test_faults_are_told(folder, spoil, message):
    spoil(folder / "data_batch_2.bin")
    with pytest.raises(UserError, match=message):
        build_dataset(config(folder))


def test_a_file_that_shrinks_later_is_told(folder):
    dataset = build_dataset(config(folder))
    path = folder / TRAIN_FILES[0]
    path.write_bytes(path.read_bytes()[:3073])
    with pytest.raises(UserError, match="no record 1"):
        load_image(dataset.cases[1], dataset)


def test_the_command_writes_files_or_folders(tmp_path, capsys):
    assert main([str(tmp_path / "files"), "--pictures", "10"]) == 0
    assert (tmp_path / "files" / "batches.meta.txt").read_text().split() == list(NAMES)
    assert main([str(tmp_path / "folders"), "--pictures", "20", "--as_folders"]) == 0
    assert len(list((tmp_path / "folders" / "frog").glob("*.png"))) == 2
    assert "made-up" in capsys.readouterr().out
    with pytest.raises(UserError, match="at least 10"):
        main([str(tmp_path), "--pictures", "3"])
