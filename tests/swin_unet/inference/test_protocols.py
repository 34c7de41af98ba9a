"""Resizing by protocol: the original's loop, written down from its description, as oracle."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import zoom
from torch import nn

from swin_unet.config import UserError
from swin_unet.inference import Segmenter, VolumeSegmenter
from swin_unet.inference.protocols import largest
from tests.inference_checks import noise, preprocessing, random_checkpoint


def original_loop(network: nn.Module, slices: np.ndarray, size: int) -> np.ndarray:
    """Segment (N, H, W) as the original does: spline in, largest logit, nearest out, one by one."""
    labels = np.zeros(slices.shape)
    for index, picture in enumerate(slices):
        x, y = picture.shape
        if (x, y) != (size, size):
            picture = zoom(picture, (size / x, size / y), order=3)
        image = torch.from_numpy(picture)[None, None].float()
        with torch.no_grad():
            found = torch.argmax(torch.softmax(network(image), dim=1), dim=1)[0].numpy()
        if (x, y) != (size, size):
            found = zoom(found, (x / size, y / size), order=0)
        labels[index] = found
    return labels


@pytest.mark.parametrize("shape", [(40, 52, 3), (21, 20, 2), (16, 16, 2)])
def test_the_paper_protocol_is_the_originals_loop(shape: tuple[int, int, int]):
    torch.manual_seed(0)
    network = nn.Conv2d(1, 4, 5, padding=2)
    options = preprocessing(window=(-1000, 1000), image_size=(16, 16))
    paper, strict = (
        VolumeSegmenter(
            network, options, num_channels=1, classes=("a", "b", "c"), protocol=name, batch_size=2
        )
        for name in ("paper", "strict")
    )
    volume = noise(shape)
    prepared = paper.prepare(volume)
    slices = np.stack([prepared.native_slice(index) for index in range(shape[2])])
    expected = original_loop(network, slices, 16)
    prediction = paper.predict(prepared)
    np.testing.assert_array_equal(np.moveaxis(prediction.labels, -1, 0), expected)
    assert len(np.unique(expected)) > 2
    differs = (paper.segment(volume).array != strict.segment(volume).array).mean()
    assert (differs > 0.01) == (shape[:2] != (16, 16))


@settings(deadline=None, max_examples=60)
@given(
    st.integers(2, 12),
    st.integers(0, 2**32 - 1),
    st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_the_largest_logit_is_numpys(num_classes: int, seed: int, dtype: torch.dtype):
    """Few distinct values, so that there are ties: the first of equal ones wins."""
    random = np.random.default_rng(seed)
    logits = random.integers(-3, 3, (2, num_classes, 5, 4)).astype(np.float32)
    found = largest(torch.from_numpy(logits).to(dtype))
    assert found.dtype == torch.uint8
    np.testing.assert_array_equal(found.numpy(), logits.argmax(axis=1))


def test_many_classes_need_more_than_a_byte():
    logits = torch.zeros(1, 300, 2, 2)
    logits[:, 299] = 1
    assert (largest(logits) == 299).all()


@pytest.mark.parametrize(
    ("options", "data", "message"),
    [
        ({"flips": ["left_right"]}, {"flip_axes": ["left_right"]}, "paper with --flips"),
        ({"scales": [0.5, 1.0]}, {}, "paper with --scales"),
        ({"largest_component": []}, {}, "paper with --largest_component"),
        ({"min_volume_mm3": ["5"]}, {}, "paper with --min_volume_mm3"),
        ({}, {"fit": "crop"}, "strict for a checkpoint of fit crop"),
    ],
)
def test_the_paper_protocol_takes_no_additions(tmp_path, options, data, message):
    path = random_checkpoint(tmp_path / "a.pt", **data)
    Segmenter(path, device="cpu", **options)
    with pytest.raises(UserError, match=message):
        Segmenter(path, device="cpu", protocol="paper", **options)


def test_the_paper_protocol_takes_no_ensemble(tmp_path):
    paths = [random_checkpoint(tmp_path / name) for name in ("a.pt", "b.pt")]
    with pytest.raises(UserError, match="paper with several checkpoints"):
        Segmenter(paths, device="cpu", protocol="paper")
