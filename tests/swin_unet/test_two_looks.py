from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from swin_unet.classifying import SliceClassifier
from swin_unet.config import DataConfig, UserError
from swin_unet.imaging import Preprocessing, Volume
from swin_unet.models.localizer import Localizer, locate
from swin_unet.two_looks import TwoLooks, at_native_size, look_picture

DATA = {"intensity": "window", "window": (0.0, 1.0)}


class Brightness(nn.Module):
    """Two logits: 0, and the mean brightness of what is seen; keeps what that is."""

    def forward(self, image):
        self.seen = image
        mean = image.mean(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(mean), mean], dim=1)


def classifier(model, size, classes=("a", "b"), **changes):
    settings = Preprocessing.from_config(DataConfig(**{**DATA, "image_size": size, **changes}))
    return SliceClassifier(
        model, settings, num_channels=1, classes=classes, multi_label=False, batch_size=2
    )


def localizer():
    torch.manual_seed(0)
    tiny = {"patch_size": 8, "embed_dim": 16, "depths": [2], "num_heads": [2]}
    return Localizer(1, 2, image_size=(32, 32), **tiny)


def volume():
    array = np.random.default_rng(0).random((40, 60, 5)).astype(np.float32)
    return Volume(array, np.diag([-1.0, -1.0, 1.0, 1.0]))


def test_every_slice_is_looked_at_twice():
    fine, coarse = classifier(Brightness(), (16, 16)), classifier(localizer(), (32, 32))
    image = volume()
    looks = TwoLooks(fine, coarse).look(image)
    assert looks.probabilities.shape == (5, 2)
    assert looks.boxes.shape == (5, 4)
    slices = torch.from_numpy(image.array.transpose(2, 1, 0))[:, None]  # (5, 1, 60, 40)
    resized = nn.functional.interpolate(slices, (32, 32), mode="bilinear", antialias=True)
    logits, importance = coarse.model.eval().look(resized)
    boxes = locate(importance, (60, 40))
    assert np.array_equal(looks.boxes, boxes.numpy())
    for number, (left, top, right, bottom) in enumerate(boxes.tolist()):
        crop = slices[number : number + 1, :, top:bottom, left:right]
        seen = nn.functional.interpolate(crop, (16, 16), mode="bilinear", antialias=True)
        second = Brightness()(seen).softmax(1)
        expected = (logits[number].softmax(0) + second[0]) / 2
        assert looks.probabilities[number] == pytest.approx(expected.numpy(), abs=1e-5)


def test_native_slabs_are_normalised_and_not_resized():
    prepared = classifier(Brightness(), (16, 16)).prepare(volume())
    native = at_native_size(prepared).slab(1, 3)
    assert native.shape == (2, 1, 60, 40)
    assert torch.equal(native[0, 0], torch.from_numpy(volume().array[:, :, 1].T.copy()))


def test_the_picture_shows_attention_box_and_its_inside():
    pixels = np.tile(np.linspace(0, 1, 64), (64, 1))
    importance = torch.zeros(4, 4)
    importance[1, 2] = 1
    picture = look_picture(pixels, importance, torch.tensor([32, 16, 48, 32]))
    assert picture.shape == (256, 512, 3)
    whole = picture[::4, :256:4].astype(int)
    assert (whole[16, 32:48] == (255, 255, 0)).all()  # the box's upper edge
    reddish = whole[..., 0] - whole[..., 2]
    assert reddish[20:28, 36:44].min() > reddish[:8, :8].max() + 20
    inside = picture[::4, 256::4, 0].astype(float)
    assert abs(inside.mean() - 255 * pixels[0, 32:48].mean()) < 3


@pytest.mark.parametrize(
    ("coarse", "message"),
    [
        (lambda: classifier(Brightness(), (32, 32)), "model.name localizer"),
        (lambda: classifier(localizer(), (32, 32), classes=("a", "c")), "of the same classes"),
        (lambda: classifier(localizer(), (32, 32), window=(0.0, 2.0)), "and intensities"),
        (lambda: classifier(localizer(), (32, 32), plane="coronal"), "plane"),
    ],
)
def test_checkpoints_that_do_not_go_together_are_refused(coarse, message):
    with pytest.raises(UserError, match=message):
        TwoLooks(classifier(Brightness(), (16, 16)), coarse())
