"""Checkpoints: atomic save, safe load, a checksum, and all random states.

A checkpoint is a dict of tensors, lists, dicts, numbers and strings only, so that
`torch.load(weights_only=True)` reads it: `format`, `model_description` (name and constructor
arguments), `model` (state dict), `preprocessing`, `classes`, `config`, `epoch`, `step`,
`best_score`, `validation`; the one to resume from also `training`, see swin_unet.training.state.

The file is a zip archive whose comment is the SHA-256 of the archive without it: torch reads no
checksums of its own.
"""

from __future__ import annotations

import hashlib
import os
import random
import struct
import warnings
from pathlib import Path
from pickle import UnpicklingError
from textwrap import shorten
from typing import Any

import numpy as np
import torch
from torch import nn

from swin_unet.config import UserError
from swin_unet.files import atomic_path
from swin_unet.models import build_model

FORMAT = 1
_SEAL = b"sha256:"
_SEAL_SIZE = len(_SEAL) + 64
_BLOCK_SIZE = 2**20


def save(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint under a temporary name and rename it when it is complete and on disk.

    Raises:
        UserError: When the disk is full; the checkpoint that was there stays.
    """
    with atomic_path(path) as temporary:
        _write(temporary, content)


def save_keeping_previous(path: Path, content: dict[str, Any]) -> None:
    """Save a checkpoint and keep the one that was there as `previous_path`.

    At every moment one of the two is there and whole.

    Raises:
        UserError: As `save`.
    """
    with atomic_path(path) as temporary:
        _write(temporary, content)
        if path.exists():
            with atomic_path(previous_path(path)) as link:
                try:
                    os.link(path, link)
                except OSError:  # a file system without links
                    path.rename(link)


def previous_path(path: Path) -> Path:
    """Return where the checkpoint before this one is kept: last.previous.pt for last.pt."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def _write(path: Path, content: dict[str, Any]) -> None:
    try:
        torch.save({"format": FORMAT, **content}, path)
    except RuntimeError as error:
        # torch's zip writer hides the reason of a failed write; the file system knows it.
        with path.open("ab") as file:
            file.write(b"\0" * 2**20)
        raise error
    _seal(path)


def _seal(path: Path) -> None:
    """Add the file's hash as the comment of the zip archive, and wait for the disk."""
    seal = _SEAL + _hash(path, path.stat().st_size).encode()
    with path.open("r+b") as file:
        file.seek(-2, os.SEEK_END)  # the last field of an archive: the length of its comment
        file.write(struct.pack("<H", len(seal)) + seal)
        file.flush()
        os.fsync(file.fileno())


def _is_damaged(path: Path) -> bool:
    """Tell whether a file differs from what its seal says; a file without one is not judged."""
    size = path.stat().st_size - _SEAL_SIZE
    if size < 0:
        return False
    with path.open("rb") as file:
        file.seek(size)
        seal = file.read()
    return seal.startswith(_SEAL) and seal != _SEAL + _hash(path, size).encode()


def _hash(path: Path, size: int) -> str:
    """Hash the first `size` bytes of an archive, the length of its comment taken as zero."""
    digest = hashlib.sha256()
    remaining = size - 2
    with path.open("rb") as file:
        while remaining > 0:
            block = file.read(min(_BLOCK_SIZE, remaining))
            digest.update(block)
            remaining -= len(block)
    digest.update(b"\0\0")
    return digest.hexdigest()


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Raises:
        UserError: For a file that is missing, truncated, pickled code or no checkpoint of ours.
    """
    if not path.is_file():
        raise _bad_checkpoint(path, "no such file")
    if _is_damaged(path):
        raise _bad_checkpoint(path, "a damaged one (its checksum does not match)")
    try:
        with warnings.catch_warnings(action="ignore"):  # of what it is about to refuse
            content = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        reason = "pickled Python code, which is never run, or no checkpoint at all"
        raise _bad_checkpoint(path, f"an unreadable one ({reason})") from error
    except Exception as error:  # torch raises many kinds for a broken file
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0]
        raise _bad_checkpoint(path, f"an unreadable one ({reason})") from error
    if not isinstance(content, dict) or "model_description" not in content:
        raise _bad_checkpoint(path, "a file with other content")
    if content["format"] > FORMAT:
        raise _bad_checkpoint(path, f"format {content['format']}, newer than {FORMAT}")
    return content


def task_of(content: dict[str, Any]) -> str:
    """Return the task that a checkpoint was trained for; the first ones knew only one."""
    task: str = content["config"].get("task", "segmentation")
    return task


def check_task(content: dict[str, Any], path: Path, *tasks: str) -> None:
    """Raise UserError unless a checkpoint was trained for one of the tasks."""
    if task_of(content) not in tasks:
        raise UserError(
            path,
            expected=f"a checkpoint of task {' or '.join(tasks)}",
            found=f"one of task {task_of(content)}",
            fix="Give another one; that of simmim is for --model.pretrained."
            if task_of(content) == "simmim"
            else "Give another one.",
        )


def load_model(content: dict[str, Any], path: Path) -> nn.Module:
    """Rebuild the network of a checkpoint with its weights.

    Raises:
        UserError: When the weights are not those of the network that the checkpoint describes.
    """
    model = build_model(content["model_description"])
    restore_model(model, content, path)
    return model


def restore_model(model: nn.Module, content: dict[str, Any], path: Path) -> None:
    """Load a checkpoint's weights strictly.

    Raises:
        UserError: When the network is of another architecture.
    """
    try:
        model.load_state_dict(content["model"])
    except RuntimeError as error:
        first_fault = str(error).splitlines()[1]  # below the heading
        raise UserError(
            path,
            expected="weights of the same architecture",
            found=shorten(first_fault.rstrip(". "), 200, placeholder=" ..."),
            fix="Use the model options that the checkpoint was trained with.",
        ) from error


def random_states() -> dict[str, Any]:
    """Return the states of Python's, NumPy's and torch's generators as plain values."""
    numpy_state = np.random.get_state(legacy=True)
    assert isinstance(numpy_state, tuple)
    name, keys, *rest = numpy_state
    version, internal, gauss = random.getstate()
    return {
        "python": [version, list(internal), gauss],
        "numpy": [name, np.asarray(keys).tolist(), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """Put all generators back where `random_states` found them."""
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available() and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])


def _bad_checkpoint(path: Path, found: str) -> UserError:
    return UserError(
        path,
        expected="a checkpoint that train.py wrote",
        found=found,
        fix="Give the path of a best.pt or last.pt, or copy the file again.",
    )
