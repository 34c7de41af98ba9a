"""infer.py --coarse: one checkpoint finds the region, another one segments it."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np


def test_a_coarse_model_finds_what_a_fine_one_segments(call, place):
    """Labels on the grid of the image, with a score, whatever the fits of the two models."""
    fine, coarse = place.runs["crop"] / "best.pt", place.runs["resize"] / "best.pt"
    arguments = place.infer("--labels", place.data / "labelsTr", checkpoint=fine)
    outcome = call("infer", *arguments, "--coarse", coarse)
    assert outcome.code == 0, outcome.stderr
    image = nib.load(place.image())
    labels = nib.load(place.output / place.image().name)
    assert labels.shape == image.shape
    assert np.array_equal(labels.affine, image.affine)
    assert np.asarray(labels.dataobj).any()
    metrics = json.loads((place.output / "metrics.json").read_text())
    assert metrics["mean"]["dice"] > 0.05


def test_a_fine_model_of_whole_slices_is_refused(call, place):
    coarse = place.runs["resize"] / "best.pt"
    call("infer", *place.infer(), "--coarse", coarse).assert_refused("--coarse", "fit crop")
    assert not place.output.exists()


def test_a_missing_coarse_model_is_refused(call, place):
    arguments = place.infer(
        "--coarse", place.folder / "none.pt", checkpoint=place.runs["crop"] / "best.pt"
    )
    call("infer", *arguments).assert_refused("none.pt", "no such file")
    assert not place.output.exists()
