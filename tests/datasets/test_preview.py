import json
import os
from pathlib import Path
from typing import Any

import matplotlib.image
import nibabel as nib
import numpy as np
import pytest
import yaml

from datasets import build_dataset, make_split
from datasets.preview import Sample, draw_sheet, main, sample_pictures, training_samples
from datasets.slices import build_loader, build_slices
from swin_unet.cli import run
from swin_unet.config import Config, DataConfig, TrainConfig
from swin_unet.imaging import Preprocessing
from swin_unet.overlays import class_colour, overlay, to_grey

CLASSES = {1: "left_kidney", 2: "right_kidney"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a data set of four cases with two channels."""
    folder = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir()
    for number in range(4):
        image = generator.normal(size=(30, 26, 5, 2)).cumsum(0).astype(np.float32)
        label = np.zeros((30, 26, 5), np.uint8)
        label[4:9, 10:16], label[20:26, 10:16] = 1, 2
        nib.save(nib.Nifti1Image(image, np.eye(4)), folder / "imagesTr" / f"case{number}.nii.gz")
        nib.save(nib.Nifti1Image(label, np.eye(4)), folder / "labelsTr" / f"case{number}.nii.gz")
    names = [f"case{number}.nii.gz" for number in range(4)]
    content = {
        "modality": {"0": "T1", "1": "T2"},
        "labels": {"0": "background", **{str(value): name for value, name in CLASSES.items()}},
        "training": [{"image": f"imagesTr/{n}", "label": f"labelsTr/{n}"} for n in names],
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def options(root: Path) -> dict[str, Any]:
    return {
        "root": root,
        "plane": "auto",
        "context_slices": 3,
        "fit": "crop",
        "image_size": (24, 20),
        "flip_axes": ["left_right"],
        "foreground_fraction": 0.5,
        "cache_dir": root / "cache",
    }


def test_samples_are_those_of_the_training_loader(root: Path) -> None:
    config = Config(seed=3, data=DataConfig(**options(root)), train=TrainConfig(batch_size=4))
    samples, classes = training_samples(config, 7, epoch=2)
    dataset = build_dataset(config.data)
    names = make_split(dataset, config).train
    cases = [case for case in dataset.cases if case.name in names]
    # The axes have the same spacing: `auto` is axial.
    slices = build_slices(config, dataset, cases, Preprocessing.from_config(config.data, "axial"))
    loader, sampler = build_loader(
        slices, batch_size=4, num_workers=0, pin_memory=False, foreground_fraction=0.5
    )
    sampler.set_epoch(2)
    batches = list(loader)
    images = np.concatenate([batch["image"].numpy() for batch in batches])
    labels = np.concatenate([batch["label"].numpy() for batch in batches])
    titles = [
        f"{name}, slice {number}"
        for batch in batches
        for name, number in zip(batch["case"], batch["slice"], strict=True)
    ]
    assert classes == CLASSES
    assert [sample.title for sample in samples] == titles[:7]
    for sample, image, label in zip(samples, images, labels, strict=False):
        np.testing.assert_array_equal(sample.image, image[2:4])  # of the middle slice
        np.testing.assert_array_equal(sample.label, label)


def test_the_command_draws_them(root: Path, tmp_path: Path, capsys: Any) -> None:
    config_path = tmp_path / "mine.yaml"
    data = {
        key: str(value) if isinstance(value, Path) else value
        for key, value in options(root).items()
    }
    data["image_size"] = [24, 20]
    config_path.write_text(yaml.safe_dump({"data": data}))
    path = tmp_path / "new" / "sheet.png"
    arguments = ["--config", str(config_path), "--samples", "5", "--epoch", "1"]
    assert main([*arguments, "--output", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: 5 samples of epoch 1\n"
    sheet = matplotlib.image.imread(path)
    assert sheet.shape[0] > 100
    assert len(np.unique(sheet.reshape(-1, sheet.shape[2]), axis=0)) > 50
    assert os.listdir(path.parent) == ["sheet.png"]


def samples() -> list[Sample]:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, (5, 12, 10))
    images = generator.random((5, 2, 12, 10)).astype(np.float32)
    images[0] *= 0.1  # a dark one stays dark
    return [
        Sample(f"case {number}", image, label)
        for number, (image, label) in enumerate(zip(images, labels, strict=True))
    ]


def test_a_picture_has_all_channels_and_the_labels_on_the_first() -> None:
    drawn = samples()
    pictures = sample_pictures(drawn)
    lows = np.min([sample.image for sample in drawn], axis=(0, 2, 3)).tolist()
    highs = np.max([sample.image for sample in drawn], axis=(0, 2, 3)).tolist()
    for sample, picture in zip(drawn, pictures, strict=True):
        first, second = (
            to_grey(pixels, (low, high))
            for pixels, low, high in zip(sample.image, lows, highs, strict=True)
        )
        expected = np.concatenate([first, second, overlay(first, sample.label)], axis=1)
        np.testing.assert_array_equal(picture, expected)
    assert pictures[0][:, :20].max() < 30
    assert pictures[1][:, :20].max() > 200


def test_the_sheet_shows_each_picture_its_title_and_the_classes() -> None:
    drawn = samples()
    figure = draw_sheet(drawn, {1: "liver", 2: "spleen", 3: "never seen"}, "headline")
    axes = [item for item in figure.axes if item.images]
    assert [item.get_title() for item in axes] == [sample.title for sample in drawn]
    for item, picture in zip(axes, sample_pictures(drawn), strict=True):
        np.testing.assert_array_equal(item.images[0].get_array(), picture)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["liver", "spleen"]
    colours = [patch.get_facecolor()[:3] for patch in legend.get_patches()]
    np.testing.assert_allclose(colours, [class_colour(1), class_colour(2)])
    assert all(not item.axison for item in figure.axes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--samples", "0"], "--samples: expected at least 1, found 0"),
        (["--epoch", "-1"], "--epoch: expected at least 0, found -1"),
        (["--output", "sheet.jpg"], "--output: expected a name that ends in .png, found sheet.jpg"),
        (["--smaples", "3"], "found `--smaples`. Correct it. Did you mean `--samples`?"),
        (["--samples", "many"], "found"),
        (["--data.flip_axes", "[superior_inferior]", "--data.plane", "axial"], "runs across"),
        (["--data.image_size", "[20, 24]", "--data.augmentation", "paper"], "a square"),
        (["--output", "file/sheet.png"], "file: expected a folder, found a file"),
    ],
)
def test_wrong_calls_end_with_one_line_and_no_file(
    root: Path, tmp_path: Path, capsys: Any, monkeypatch: Any, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    usual = ["--data.root", str(root), "--data.cache_dir", "cache", "--output_dir", "run"]
    assert run(lambda: main([*usual, *arguments])) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err
    assert not list(tmp_path.rglob("*.png"))
    assert not (tmp_path / "cache").exists()
