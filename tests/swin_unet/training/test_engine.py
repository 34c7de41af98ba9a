from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from swin_unet import checkpoint
from swin_unet.config import Config, DataConfig, ModelConfig, TrainConfig, UserError
from swin_unet.imaging import Preprocessing, Volume
from swin_unet.models import build_model, model_arguments
from swin_unet.training.engine import Trainer
from swin_unet.training.record import read_rows
from swin_unet.training.resume import Restart
from swin_unet.training.signals import Stopped
from swin_unet.training.state import seed_everything
from swin_unet.training.tasks import SegmentationData, SegmentationTask

DATA = DataConfig(intensity="window", window=(0.0, 1.0), image_size=(16, 16))
MODEL = ModelConfig(embed_dim=8, depths=[1, 1], num_heads=[1, 1], window_size=4, skips=1)
TRAIN = TrainConfig(epochs=2, batch_size=2, optimizer="adamw", learning_rate=1e-3, device="cpu")
CONFIG = Config(model=MODEL, data=DATA, train=TRAIN)


def samples(count=4, value=None):
    """Slices whose bright half is the class."""
    label = torch.zeros(count, 16, 16, dtype=torch.int64)
    label[:, :, 8:] = 1
    image = label[:, None].float() if value is None else torch.full((count, 1, 16, 16), value)
    return [{"image": i, "label": t} for i, t in zip(image, label, strict=True)]


def case(name):
    array = np.zeros((16, 16, 3), np.float32)
    array[8:] = 1
    return Volume(array, np.eye(4)), Volume(array.astype(np.uint8), np.eye(4))


def trainer(folder, train=TRAIN, data=None, precision="fp32", validation=("a", "b")):
    config = replace(CONFIG, train=train)
    seed_everything(0)
    description = model_arguments(config.model, 1, 2)
    segmentation = SegmentationData(
        loader=DataLoader(data or samples(), batch_size=train.batch_size),
        set_epoch=lambda epoch, start: None,
        validation=validation,
        test=(),
        load_case=case,
        preprocessing=Preprocessing.from_config(config.data),
        num_channels=1,
        classes=("bright",),
    )
    task = SegmentationTask(build_model(description), segmentation, config)
    return Trainer(config, task, folder, model_description=description, precision=precision)


def restart(folder):
    return Restart(folder / "last.pt", checkpoint.load(folder / "last.pt"))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_loss_falls_and_is_written_down(tmp_path, precision):
    run = trainer(tmp_path, replace(TRAIN, epochs=12), precision=precision)
    run.train()
    progress = run.progress
    rows = read_rows(tmp_path / "metrics.csv")
    assert [row["epoch"] for row in rows] == list(range(1, 13))
    assert rows[-1]["train/loss"] < 0.5 * rows[0]["train/loss"]
    expected = 0.4 * rows[0]["train/ce"] + 0.6 * rows[0]["train/dice"]
    assert rows[0]["train/loss"] == pytest.approx(expected, rel=1e-5)
    assert rows[-1]["learning_rate"] < rows[0]["learning_rate"]
    assert progress.best_score == max(row["dice/mean"] for row in rows)
    assert checkpoint.load(tmp_path / "best.pt")["best_score"] == progress.best_score


def test_tensorboard_holds_curves_and_pictures(tmp_path):
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    trainer(tmp_path).train()
    events = accumulators.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert {"train/loss", "learning_rate", "dice/mean", "dice/bright"} <= set(tags["scalars"])
    assert tags["images"] == [f"image, reference, prediction, errors/{name}" for name in "ab"]
    assert [event.step for event in events.Scalars("dice/mean")] == [1, 2]


def test_a_nan_loss_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path):
    first = trainer(tmp_path, replace(TRAIN, epochs=3))
    first.config = replace(first.config, train=replace(TRAIN, epochs=1))
    first.train()
    before = (tmp_path / "last.pt").read_bytes()
    second = trainer(tmp_path, replace(TRAIN, epochs=3), data=samples(value=float("nan")))
    second.resume(restart(tmp_path))
    with pytest.raises(UserError, match=r"epoch 2, step 3: expected a finite loss, found nan"):
        second.train()
    assert (tmp_path / "last.pt").read_bytes() == before


def test_the_gradient_is_clipped(tmp_path):
    sgd = TrainConfig(
        epochs=1, batch_size=4, learning_rate=1.0, momentum=0.0, weight_decay=0.0, device="cpu"
    )
    moves = []
    for clip in (None, 1e-3):
        run = trainer(tmp_path / str(clip), replace(sgd, gradient_clip=clip), validation=())
        parameters = list(run.task.model.parameters())
        before = torch.cat([p.detach().clone().flatten() for p in parameters])
        (tmp_path / str(clip)).mkdir()
        run.train()
        after = torch.cat([p.detach().flatten() for p in parameters])
        moves.append((after - before).norm().item())
    assert moves[1] == pytest.approx(1e-3, rel=1e-2)
    assert moves[0] > 10 * moves[1]


def test_the_time_of_the_step_that_is_saved_counts(tmp_path):
    """Otherwise a run that is often stopped would seem to do nothing but wait for data."""
    run = trainer(tmp_path, replace(TRAIN, max_minutes=1e-9))
    original = run.stepper.step

    def slow_step(batch, rate):
        time.sleep(0.2)
        return original(batch, rate)

    run.stepper.step = slow_step
    with pytest.raises(Stopped):
        run.train()
    content = checkpoint.load(tmp_path / "last.pt")
    assert content["position"] == 1
    totals = content["training"]["totals"]
    assert totals["seconds"] >= 0.2 + totals["wait_seconds"]


def test_without_validation_the_last_epoch_is_the_best(tmp_path):
    trainer(tmp_path, validation=()).train()
    assert checkpoint.load(tmp_path / "best.pt")["epoch"] == 2


def test_validation_comes_at_its_interval_and_at_the_end(tmp_path):
    trainer(tmp_path, replace(TRAIN, epochs=5, val_interval=2)).train()
    rows = read_rows(tmp_path / "metrics.csv")
    assert [row["epoch"] for row in rows if row.get("dice/mean") is not None] == [2, 4, 5]
