from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from swin_unet import checkpoint
from swin_unet.config import UserError

DESCRIPTION = {
    "name": "swin_unet",
    "arguments": {"in_channels": 1, "num_classes": 2, "embed_dim": 8, "num_heads": [1, 1, 1, 1]},
}


def draws():
    return random.random(), np.random.rand(), torch.rand(()).item()


def test_random_states_survive_a_safe_load(tmp_path):
    np.random.standard_normal()  # leaves a cached second number behind
    checkpoint.save(
        tmp_path / "c.pt",
        {"model_description": DESCRIPTION, "random": checkpoint.random_states()},
    )
    expected = draws()
    draws()
    checkpoint.restore_random_states(checkpoint.load(tmp_path / "c.pt")["random"])
    assert draws() == expected


def test_model_is_rebuilt_from_its_description(tmp_path):
    from swin_unet.models import build_model

    model = build_model(DESCRIPTION).eval()
    path = tmp_path / "c.pt"
    checkpoint.save(path, {"model_description": DESCRIPTION, "model": model.state_dict()})
    image = torch.randn(1, 1, 30, 30)
    rebuilt = checkpoint.load_model(checkpoint.load(path), path).eval()
    assert torch.equal(model(image), rebuilt(image))
    assert [file.name for file in tmp_path.iterdir()] == ["c.pt"]


def test_a_newer_format_and_foreign_content_are_refused(tmp_path):
    torch.save({"format": 99, "model_description": DESCRIPTION}, tmp_path / "newer.pt")
    torch.save({"weights": 1}, tmp_path / "foreign.pt")
    (tmp_path / "text.pt").write_text("text")
    for name, found in (
        ("newer.pt", "format 99"),
        ("foreign.pt", "other content"),
        ("text.pt", "unreadable"),
        ("missing.pt", "no such file"),
    ):
        with pytest.raises(UserError, match=found):
            checkpoint.load(tmp_path / name)
