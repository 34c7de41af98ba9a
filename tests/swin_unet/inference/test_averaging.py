"""Ensembles and mirrored slices, by networks whose answer is known."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from swin_unet.config import UserError
from swin_unet.imaging import Volume
from swin_unet.imaging.flips import Flip
from swin_unet.inference import Segmenter
from swin_unet.inference.averaging import Ensemble, Mirrored
from swin_unet.inference.trained import load_trained
from tests.inference_checks import noise, random_checkpoint

KIDNEYS = ("left kidney", "liver", "right kidney")
SIDES = {"augmentation": "default", "flip_axes": ["left_right", "anterior_posterior"]}


def test_an_ensemble_is_the_mean_of_the_logits():
    torch.manual_seed(0)
    networks = [nn.Conv2d(1, 3, 3, padding=1) for _ in range(3)]
    image = torch.randn(2, 1, 8, 9)
    expected = torch.stack([network(image) for network in networks]).mean(dim=0)
    torch.testing.assert_close(Ensemble(networks)(image), expected)


class Sides(nn.Module):
    """What is bright is class 1 in the left half of the picture and class 3 in the right one."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        is_left = torch.arange(image.shape[-1]) < image.shape[-1] / 2
        bright = image[:, 0] - 0.5
        dark = torch.full_like(bright, -1)
        return torch.stack(
            [-bright, torch.where(is_left, bright, dark), dark, torch.where(is_left, dark, bright)],
            dim=1,
        )


@pytest.mark.parametrize("axes", [(1,), (0, 1), (0,)])
def test_a_network_that_knows_left_from_right_is_not_confused(axes: tuple[int, ...]):
    """Mirrored, the left kidney looks like the right one: exchanged back, all views agree."""
    flips = [Flip(axis, ((1, 3),) if axis == 1 else ()) for axis in axes]
    image = (torch.rand(2, 1, 6, 8) > 0.5).float()
    torch.testing.assert_close(Mirrored(Sides(), flips, 4)(image), Sides()(image))
    if 1 in axes:
        wrong = Mirrored(Sides(), [Flip(axis) for axis in axes], 4)(image)
        assert (wrong - Sides()(image)).abs().max() > 0.5


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
def test_a_mirrored_network_answers_mirrored_slices_mirrored(axes: tuple[int, ...]):
    """Whatever the network, the mean over a group of flips is symmetric, classes exchanged."""
    torch.manual_seed(1)
    network = nn.Conv2d(1, 4, 3, padding=1)
    pairs = ((1, 3),)
    mirrored = Mirrored(network, [Flip(axis, pairs if axis == 1 else ()) for axis in axes], 4)
    image = torch.randn(2, 1, 7, 9)
    logits = mirrored(image)
    for chosen in itertools.product([False, True], repeat=len(axes)):
        flipped = [axis + 2 for axis, is_chosen in zip(axes, chosen, strict=True) if is_chosen]
        expected = logits.flip(flipped)
        if 3 in flipped:
            expected = expected[:, [0, 3, 2, 1]]
        torch.testing.assert_close(mirrored(image.flip(flipped)), expected)


def test_a_checkpoint_says_what_to_mirror_and_exchange(tmp_path: Path):
    """By the labels of a volume and of its mirror image, sides exchanged."""
    path = random_checkpoint(tmp_path / "a.pt", KIDNEYS, **SIDES)
    segmenter = Segmenter(path, device="cpu", flips=["anterior_posterior", "left_right"])
    assert [flip.pairs for flip in segmenter.model.combinations[-1]] == [((1, 3),), ()]
    volume = noise()
    labels = segmenter.segment(volume).array
    assert len(np.unique(labels)) > 2
    mirrored = segmenter.segment(Volume(volume.array[::-1].copy(), volume.affine)).array
    exchanged = np.array([0, 3, 2, 1], np.uint8)[mirrored[::-1]]
    assert (labels == exchanged).mean() > 0.999  # rounding decides a tie
    plain = Segmenter(path, device="cpu")
    unlike = plain.segment(Volume(volume.array[::-1].copy(), volume.affine)).array[::-1]
    assert (plain.segment(volume).array == np.array([0, 3, 2, 1], np.uint8)[unlike]).mean() < 0.9


@pytest.mark.parametrize(
    ("data", "trained"),
    [
        ({"augmentation": "default", "flip_axes": ["anterior_posterior"]}, "anterior_posterior"),
        ({"augmentation": "default"}, "none"),
        ({"augmentation": "none"}, "none"),
        ({"augmentation": "paper", "plane": "coronal"}, "left_right, superior_inferior"),
    ],
)
def test_directions_that_training_did_not_mirror_are_refused(tmp_path, data, trained):
    path = random_checkpoint(tmp_path / "a.pt", KIDNEYS, **data)
    unknown = "anterior_posterior" if data.get("plane") else "left_right"
    with pytest.raises(UserError, match=f"--flips: .*mirrored: {trained}, found {unknown}"):
        Segmenter(path, device="cpu", flips=[unknown])


def test_flips_of_the_paper_exchange_nothing(tmp_path: Path):
    """Its training left left and right as they were named, and so does the network."""
    path = random_checkpoint(tmp_path / "a.pt", KIDNEYS, augmentation="paper")
    network = load_trained([path]).mirrored(["left_right"]).network
    assert [flip.pairs for flip in network.combinations[-1]] == [()]


def test_several_checkpoints_are_averaged(tmp_path: Path):
    paths = [random_checkpoint(tmp_path / f"{seed}.pt", seed=seed) for seed in range(3)]
    segmenters = [Segmenter(path, device="cpu") for path in paths]
    together = Segmenter(paths, device="cpu")
    volume = noise()
    prepared = together.prepare(volume)
    each = [torch.cat([logits for _, logits in one.slabs(prepared)]) for one in segmenters]
    found = torch.cat([logits for _, logits in together.slabs(prepared)])
    torch.testing.assert_close(found, torch.stack(each).mean(dim=0))
    alone = [one.segment(volume).array for one in segmenters]
    assert any((together.segment(volume).array != labels).any() for labels in alone)


@pytest.mark.parametrize(
    ("changes", "fact"),
    [
        ({"classes": ("a", "c")}, r"classes \['a', 'b'\], as .*a.pt, found \['a', 'c'\]"),
        ({"window": (-100, 100)}, r"preprocessing.window \[-1000, 1000\]"),
        ({"context_slices": 3}, "preprocessing.context_slices 1"),
        ({"image_size": (64, 32)}, r"preprocessing.image_size \[32, 32\]"),
        ({"flip_axes": ["left_right"]}, "data.flip_axes None"),
    ],
)
def test_checkpoints_that_do_not_agree_are_refused(tmp_path: Path, changes, fact):
    first = random_checkpoint(tmp_path / "a.pt")
    other = random_checkpoint(tmp_path / "b.pt", **changes)
    with pytest.raises(UserError, match=f"b.pt: expected {fact}"):
        Segmenter([first, other], device="cpu")
