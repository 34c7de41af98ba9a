from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from swin_unet import checkpoint
from swin_unet.class_metrics import score_classes
from swin_unet.classifying import SliceClassifier
from swin_unet.config import (
    Config,
    DataConfig,
    InferenceConfig,
    ModelConfig,
    TrainConfig,
    UserError,
)
from swin_unet.imaging import Preprocessing, Volume
from swin_unet.training.build import build_network
from swin_unet.training.classification import ClassificationData, ClassificationTask, occurring
from swin_unet.training.engine import Trainer
from swin_unet.training.record import read_rows
from swin_unet.training.results import finish
from swin_unet.training.state import seed_everything

MODEL = ModelConfig(
    name="swin_classifier", embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4
)
DATA = DataConfig(intensity="window", window=(0.0, 1.0), image_size=(16, 16))
TRAIN = TrainConfig(
    epochs=15, batch_size=4, optimizer="adamw", learning_rate=5e-3, device="cpu", schedule="cosine"
)
NAMES = ("left", "right", "corner")


def map_of(number):
    """A label map: class 1 on the left, 2 on the right, 3 in a corner, as the bits say."""
    label = np.zeros((16, 16), np.uint8)
    for bit, place in enumerate([np.s_[4:12, :6], np.s_[4:12, 10:], np.s_[14:, 14:]]):
        if number >> bit & 1:
            label[place] = bit + 1
    return label


def volume_of(number):
    """The maps `number` and 7 - number as two slices, in an orientation that shows them as is."""
    maps = np.stack([map_of(number), map_of(7 - number)], axis=-1).transpose(1, 0, 2)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    return Volume((maps > 0).astype(np.float32), affine), Volume(maps, affine)


def picture_of(name):
    kind = int(name[-1])
    picture, _ = volume_of(1 << kind)
    return Volume(picture.array[:, :, :1], picture.affine, has_spacing=False), kind


def multi_samples():
    maps = torch.from_numpy(np.stack([map_of(number) for number in range(8)] * 2)).long()
    return [{"image": (m > 0).float()[None], "label": m} for m in maps]


def single_samples():
    maps = [map_of(1 << kind) for kind in (0, 1, 2)] * 4
    return [
        {"image": torch.from_numpy(m > 0).float()[None], "label": torch.tensor(i % 3)}
        for i, m in enumerate(maps)
    ]


def task(*, multi_label=True, model=None, names=("case1", "case2"), train=TRAIN):
    data_name = "decathlon" if multi_label else "image_folder"
    data = DataConfig(**{**vars(DATA), "name": data_name})
    config = Config(task="classification", model=MODEL, data=data, train=train)
    seed_everything(0)
    network, description = build_network(config, 1, 3)
    data = ClassificationData(
        loader=DataLoader(multi_samples() if multi_label else single_samples(), batch_size=4),
        set_epoch=lambda epoch, start: None,
        validation=names,
        test=names,
        preprocessing=Preprocessing.from_config(config.data),
        num_channels=1,
        classes=NAMES,
        load_case=(lambda name: volume_of(int(name[-1]))) if multi_label else picture_of,
        multi_label=multi_label,
    )
    return ClassificationTask(model or network, data, config), config, description


class Fixed(nn.Module):
    """Logits by the mean brightness of the left, the right and the corner."""

    def __init__(self, scale=20.0):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, image):
        parts = [image[:, 0, 4:12, :6], image[:, 0, 4:12, 10:], image[:, 0, 14:, 14:]]
        return self.scale * (torch.stack([part.mean(dim=(1, 2)) for part in parts], 1) - 0.5)


def test_what_occurs_is_found_pixel_by_pixel():
    maps = torch.from_numpy(np.stack([map_of(number) for number in range(8)]))
    expected = [[float(number >> bit & 1) for bit in range(3)] for number in range(8)]
    assert occurring(maps, 3).tolist() == expected
    one = torch.zeros(1, 9, 9, dtype=torch.int64)
    one[0, 8, 8] = 2
    assert occurring(one, 3).tolist() == [[0, 1, 0]]


def test_losses_are_cross_entropies():
    torch.manual_seed(0)
    multi = task(model=Fixed(scale=1.0))[0]
    batch = next(iter(multi.data.loader))
    logits = multi.model(batch["image"])
    truth = torch.tensor([[float(n >> bit & 1) for bit in range(3)] for n in range(4)])
    p = logits.sigmoid()
    expected = -(truth * p.log() + (1 - truth) * (1 - p).log()).mean()
    assert torch.allclose(multi.loss(batch)["loss"], expected, rtol=1e-4)
    smooth = TrainConfig(label_smoothing=0.1)
    single = task(multi_label=False, model=Fixed(scale=1.0), train=smooth)[0]
    batch = next(iter(single.data.loader))
    wanted = F.one_hot(batch["label"], 3) * 0.9 + 0.1 / 3
    expected = -(wanted * single.model(batch["image"]).log_softmax(1)).sum(1).mean()
    assert torch.allclose(single.loss(batch)["loss"], expected, rtol=1e-4)


@pytest.mark.parametrize("multi_label", [True, False])
def test_a_network_that_is_right_has_perfect_scores(multi_label):
    names = ("case1", "case2", "case6") if multi_label else ("a0", "b1", "c2", "d1", "e0")
    right = task(multi_label=multi_label, model=Fixed(), names=names)[0]
    calls = []
    validation = right.validate(right.model, lambda: calls.append(1))
    assert len(calls) == len(names)
    assert validation.score == 1
    assert validation.summary["num_samples"] == (2 * len(names) if multi_label else len(names))
    assert validation.summary["accuracy"] == 1
    metric = "f1" if multi_label else "accuracy"
    assert validation.values == {f"{metric}/{name}": 1 for name in ("mean", *NAMES)}
    assert validation.pictures["confusion"].shape[2] == 3


def test_scores_are_those_of_the_slices_whatever_the_batches():
    """Volumes of two slices in batches of 1, 2 and 5, against all slices at once."""
    scored, config, _ = task(names=("case0", "case3", "case5"))
    expected = []
    for name in scored.data.validation:
        image, label = volume_of(int(name[-1]))
        slices = torch.from_numpy(image.array.transpose(2, 1, 0))[:, None]
        with torch.no_grad():
            probabilities = scored.model.eval()(slices).sigmoid().numpy()
        maps = torch.from_numpy(label.array.transpose(2, 1, 0).copy())
        expected.append((occurring(maps, 3).numpy(), probabilities))
    truth, probabilities = (np.concatenate(parts) for parts in zip(*expected, strict=True))
    reference = score_classes(truth, probabilities, NAMES, multi_label=True)
    for size in (1, 2, 5):
        scored.config = replace(config, inference=InferenceConfig(batch_size=size))
        found, _ = scored.score(scored.model, scored.data.validation, lambda: None)
        for name in NAMES:
            assert found["per_class"][name] == pytest.approx(reference["per_class"][name])
        assert found["confusion"] == reference["confusion"]


@pytest.mark.parametrize("multi_label", [True, False])
def test_it_learns_and_infers_by_the_engine(tmp_path, multi_label):
    names = ("case1", "case2", "case5") if multi_label else ("a0", "b1", "c2")
    learner, config, description = task(multi_label=multi_label, names=names)
    trainer = Trainer(config, learner, tmp_path, model_description=description, precision="fp32")
    trainer.train()
    finish(trainer)
    rows = read_rows(tmp_path / "metrics.csv")
    metric = "f1" if multi_label else "accuracy"
    assert rows[-1]["train/loss"] < 0.7 * rows[0]["train/loss"]
    best = checkpoint.load(tmp_path / "best.pt")
    assert best["best_score"] == max(row[f"{metric}/mean"] for row in rows) > 0.6
    assert best["multi_label"] == multi_label
    for part in ("validation", "test"):
        assert (tmp_path / f"{part}_confusion.png").read_bytes().startswith(b"\x89PNG")
    classifier = SliceClassifier.load(tmp_path / "best.pt", device="cpu")
    image = learner.data.load_case(names[0])[0]
    probabilities = classifier.classify(image)
    assert probabilities.shape == (image.shape[2], 3)
    if not multi_label:
        assert probabilities.sum(axis=1) == pytest.approx(1)


def test_other_checkpoints_and_channels_are_refused(tmp_path):
    learner, config, description = task()
    content = {
        "model_description": description,
        "model": learner.model.state_dict(),
        "preprocessing": learner.data.preprocessing.to_dict(),
        "classes": list(NAMES),
        "multi_label": True,
        "config": {"task": "simmim", "inference": vars(config.inference)},
    }
    checkpoint.save(tmp_path / "other.pt", content)
    with pytest.raises(UserError, match="found one of task simmim"):
        SliceClassifier.load(tmp_path / "other.pt")
    checkpoint.save(
        tmp_path / "good.pt",
        {**content, "config": {**content["config"], "task": "classification"}},
    )
    classifier = SliceClassifier.load(tmp_path / "good.pt", device="cpu")
    image = volume_of(1)[0]
    two = Volume(np.stack([image.array] * 2, axis=-1), image.affine)
    with pytest.raises(UserError, match=r"1 image channel\(s\), as in training, found 2"):
        classifier.classify(two)


def test_a_grey_picture_is_shown_to_a_network_of_colours():
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    classifier = SliceClassifier(
        network,
        Preprocessing.from_config(DATA),
        num_channels=3,
        classes=("a", "b"),
        multi_label=False,
    )
    grey = picture_of("a0")[0]
    colours = Volume(np.stack([grey.array] * 3, axis=-1), grey.affine, has_spacing=False)
    assert np.array_equal(classifier.classify(grey), classifier.classify(colours))
    with pytest.raises(UserError, match="3 image channel"):  # a volume is no picture
        classifier.classify(Volume(grey.array, grey.affine))


def test_an_example_batch_takes_a_step():
    for multi_label in (True, False):
        learner = task(multi_label=multi_label)[0]
        assert learner.loss(learner.example(2))["loss"].isfinite()
