from __future__ import annotations

import errno
import hashlib
import os
import random
import zipfile
from pathlib import Path

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


def content(**more):
    return {"model_description": DESCRIPTION, "model": {"weight": torch.arange(5000.0)}, **more}


@pytest.mark.parametrize("position", [100, -200, -90, -3])
def test_any_flipped_bit_is_noticed(tmp_path, position):
    path = tmp_path / "c.pt"
    checkpoint.save(path, content())
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="checksum does not match"):
        checkpoint.load(path)


def test_a_sealed_file_is_still_a_plain_archive(tmp_path):
    path = tmp_path / "c.pt"
    checkpoint.save(path, content(step=3))
    for options in ({}, {"mmap": True}):
        plain = torch.load(path, weights_only=True, **options)
        assert torch.equal(plain["model"]["weight"], torch.arange(5000.0))
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        seal = archive.comment
    unsealed = path.read_bytes()[: -len(seal)]
    unsealed = unsealed[:-2] + b"\0\0"  # an archive without a comment, as torch writes it
    assert seal == b"sha256:" + hashlib.sha256(unsealed).hexdigest().encode()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_file_is_refused(tmp_path, share):
    path = tmp_path / "c.pt"
    checkpoint.save(path, content())
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(UserError, match="unreadable"):
        checkpoint.load(path)


@pytest.mark.parametrize("has_links", [True, False])
def test_the_checkpoint_before_is_kept(tmp_path, monkeypatch, has_links):
    if not has_links:

        def refuse(*paths):
            raise PermissionError(errno.EPERM, "no links here")

        monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "last.pt"
    for step in range(3):
        checkpoint.save_keeping_previous(path, content(step=step))
    assert checkpoint.load(path)["step"] == 2
    assert checkpoint.load(checkpoint.previous_path(path))["step"] == 1
    assert {file.name for file in tmp_path.iterdir()} == {"last.pt", "last.previous.pt"}


@pytest.mark.parametrize("where", ["torch", "seal", "fsync", "rename"])
def test_a_full_disk_leaves_both_checkpoints(tmp_path, monkeypatch, where):
    path = tmp_path / "last.pt"
    for step in range(2):
        checkpoint.save_keeping_previous(path, content(step=step))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    target = {
        "torch": (torch, "save"),
        "seal": (checkpoint, "_seal"),
        "fsync": (os, "fsync"),
        "rename": (Path, "replace"),
    }[where]
    monkeypatch.setattr(*target, full)
    with pytest.raises(UserError, match="expected a place to write to, found No space left"):
        checkpoint.save_keeping_previous(path, content(step=2))
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
