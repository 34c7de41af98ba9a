from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from swin_unet.training.progress import draw_progress

CLASSES = [f"organ {number}" for number in range(13)]


def rows(num_epochs, interval=2):
    """Validated every other epoch, the mean best at epoch 4."""
    return [
        {
            "epoch": epoch,
            "train/loss": 1 / epoch,
            "train/dice": 0.9 / epoch,
            "dice/mean": 0.9 - abs(epoch - 4) / 10 if epoch % interval == 0 else None,
            **{f"dice/{name}": None if epoch % interval else 0.5 for name in CLASSES},
        }
        for epoch in range(1, num_epochs + 1)
    ]


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Draw, and return the two plots with what they hold."""
    figures: list[Figure] = []
    original = Figure.savefig

    def savefig(self, *arguments, **options):
        figures.append(self)
        original(self, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)

    def draw(content) -> tuple[Axes, Axes]:
        draw_progress(tmp_path / "run" / "progress.png", content, ["train/loss", "train/dice"])
        assert (tmp_path / "run" / "progress.png").read_bytes().startswith(b"\x89PNG")
        top, bottom = figures[-1].axes
        return top, bottom

    return draw


def curves(axes):
    return {line.get_label(): np.array(line.get_xydata()) for line in axes.lines}


def test_curves_are_the_numbers_that_there_are(drawn):
    top, bottom = drawn(rows(6))
    assert list(curves(top)) == ["loss", "Dice loss"]
    np.testing.assert_allclose(curves(top)["loss"], [(e, 1 / e) for e in range(1, 7)])
    np.testing.assert_allclose(curves(bottom)["mean"], [(2, 0.7), (4, 0.9), (6, 0.7)])
    assert set(CLASSES) < set(curves(bottom))
    assert top.get_title() == "run"


def test_the_best_epoch_is_marked(drawn):
    _, bottom = drawn(rows(6))
    assert [x for x, _ in curves(bottom)["best: 0.9000, epoch 4"]] == [4, 4]


def test_no_two_classes_look_alike_and_single_epochs_can_be_seen(drawn):
    _, bottom = drawn(rows(1, interval=1))
    lines = [line for line in bottom.lines if line.get_label() in CLASSES]
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == len(CLASSES)
    assert {line.get_marker() for line in lines} == {"."}
    assert bottom.get_xlim() == (0.5, 1.5)


def test_without_validation_there_are_the_losses(drawn):
    content = [{"epoch": 1, "train/loss": 1.0, "train/dice": 0.5}]
    top, bottom = drawn(content)
    assert len(top.lines) == 2
    assert not bottom.lines
    assert bottom.get_legend() is None
