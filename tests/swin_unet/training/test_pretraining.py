from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from swin_unet import SwinUNet, checkpoint
from swin_unet.config import Config, DataConfig, ModelConfig, SimMIMConfig, TrainConfig
from swin_unet.imaging import Preprocessing, Volume
from swin_unet.models.weights import load_weights
from swin_unet.training.build import build_network
from swin_unet.training.engine import Trainer
from swin_unet.training.pretraining import (
    PretrainingData,
    PretrainingTask,
    central_crop,
    masked_panel,
)
from swin_unet.training.record import read_rows
from swin_unet.training.results import finish
from swin_unet.training.state import seed_everything

MODEL = ModelConfig(embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4, drop_path_rate=0)
DATA = DataConfig(intensity="window", window=(0.0, 1.0), image_size=(16, 16))
TRAIN = TrainConfig(
    epochs=6, batch_size=4, optimizer="adamw", learning_rate=5e-3, device="cpu", schedule="cosine"
)
CONFIG = Config(
    task="simmim", model=MODEL, data=DATA, train=TRAIN, simmim=SimMIMConfig(mask_patch_size=4)
)


def stripes(phase=0):
    return ((np.arange(16) + phase) // 4 % 2).astype(np.float32)


def volume_of(name):
    array = np.broadcast_to(stripes(int(name[-1]))[:, None, None], (16, 16, 3))
    return Volume(array.copy(), np.eye(4))


def samples():
    random = torch.Generator().manual_seed(0)
    images = [torch.from_numpy(stripes(p)).expand(1, 16, 16).clone() for p in (0, 2, 4, 6)] * 4
    masks = (torch.rand(len(images), 4, 4, generator=random) < 0.6).float()
    return [{"image": i, "mask": m} for i, m in zip(images, masks, strict=True)]


def task(config=CONFIG, names=("case0", "case2")):
    seed_everything(0)
    network, description = build_network(config, 1, 2)
    data = PretrainingData(
        loader=DataLoader(samples(), batch_size=4),
        set_epoch=lambda epoch, start: None,
        validation=names,
        test=(),
        preprocessing=Preprocessing.from_config(config.data),
        num_channels=1,
        classes=(),
        load_case=volume_of,
    )
    return PretrainingTask(network, data, config), description


def test_it_learns_by_the_engine_and_its_checkpoint_fills_a_swin_unet(tmp_path):
    learner, description = task()
    trainer = Trainer(CONFIG, learner, tmp_path, model_description=description, precision="fp32")
    trainer.train()
    finish(trainer)
    rows = read_rows(tmp_path / "metrics.csv")
    assert rows[-1]["train/loss"] < 0.7 * rows[0]["train/loss"]
    errors = [row["error/mean"] for row in rows]
    best = checkpoint.load(tmp_path / "best.pt")
    assert best["best_epoch"] == 1 + int(np.argmin(errors))
    assert best["best_score"] == pytest.approx(1 / (1 + min(errors)))
    network = SwinUNet(1, 3, embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4, skips=1)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    report = load_weights(network, tmp_path / "best.pt")
    assert report.encoder_fraction == 1
    assert report.mirrored
    after = network.state_dict()
    loaded = [name for name in after if name.startswith("encoder.") and before[name].numel() > 1]
    assert all(torch.equal(after[name], best["model"][name]) for name in loaded)
    assert any(not torch.equal(after[name], before[name]) for name in loaded)


def test_tensorboard_shows_input_mask_and_reconstruction(tmp_path):
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    config = replace(CONFIG, train=replace(TRAIN, epochs=1))
    learner, description = task(config)
    Trainer(config, learner, tmp_path, model_description=description, precision="fp32").train()
    events = accumulators.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    shown = [f"input, mask, reconstruction/{name}" for name in ("case0", "case2")]
    assert events.Tags()["images"] == shown
    assert {"error/mean", "train/loss"} <= set(events.Tags()["scalars"])


def test_the_error_is_that_of_hidden_pixels_on_the_same_masks_every_time():
    learner, _ = task()
    (first, _), (again, _) = (
        learner.score(learner.model, ["case0", "case2"], lambda: None) for _ in range(2)
    )
    assert first == again
    alone, _ = learner.score(learner.model, ["case2"], lambda: None)
    assert alone["cases"][0] == first["cases"][1]
    prepared = learner.data.preprocessing.prepare(volume_of("case0"))
    errors = []
    for number in range(3):
        image, mask = prepared.slab(number, number + 1), learner._mask("case0", number)
        with torch.no_grad():
            filled = learner.model.eval().reconstruct(image, mask[None])[0, 0]
        hidden = np.kron(mask.numpy(), np.ones((4, 4))).astype(bool)
        errors.append((filled - image[0, 0]).abs().numpy()[hidden].mean())
    found = first["cases"][0]["metrics"]["error"]
    assert found == pytest.approx(np.mean(errors), rel=1e-5)


def test_a_picture_shows_the_image_what_is_left_and_what_is_filled_in():
    image = np.linspace(0, 1, 256, dtype=np.float32).reshape(1, 16, 16)
    hidden = np.zeros((16, 16), bool)
    hidden[:4, :8] = True
    filled = np.ones_like(image)
    panel = masked_panel(image, filled, hidden, image)
    assert panel.shape == (192, 3 * 192, 3)
    whole, left, result = (panel[::12, start : start + 192 : 12, 0] for start in (0, 192, 384))
    assert np.array_equal(whole, (image[0] * 255).astype(np.uint8))
    assert (left[hidden] == 64).all()
    assert np.array_equal(left[~hidden], whole[~hidden])
    assert (result[hidden] == 255).all()
    assert np.array_equal(result[~hidden], whole[~hidden])
    assert masked_panel(image * 2, filled, hidden, image).shape == (192, 4 * 192, 3)


@pytest.mark.parametrize("size", [(16, 16), (20, 30), (5, 40), (3, 3)])
def test_a_central_crop_has_the_size_wanted(size):
    images = torch.arange(size[0] * size[1]).float().view(1, 1, *size)
    crop = central_crop(images, (16, 16))
    assert crop.shape == (1, 1, 16, 16)
    if min(size) >= 16:
        top, left = (size[0] - 16) // 2, (size[1] - 16) // 2
        assert torch.equal(crop, images[..., top : top + 16, left : left + 16])


def test_an_example_batch_takes_a_step():
    learner, _ = task()
    assert learner.loss(learner.example(2))["loss"].isfinite()
