"""Tensors from a weights file, whoever wrote it; code in a file is never run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from swin_unet.config import UserError


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a weights file, refusing pickled code.

    Returns:
        Tensors by the file's own names, without a common `module.` or `swin_unet.` prefix.
    """
    content = _read_file(path)
    for key in ("model", "state_dict", "model_state"):
        if isinstance(content.get(key), dict):
            content = content[key]
    tensors = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise bad_file(path, "no tensors")
    for prefix in ("module.", "swin_unet."):
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors


def _read_file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise bad_file(path, "no such file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise many kinds for a broken file
        found = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if "weights_only" in str(error) or "Unsupported" in str(error):
            found = "pickled Python code, which is never run"
        raise bad_file(path, found) from error
    if not isinstance(content, dict):
        raise bad_file(path, f"a {type(content).__name__}")
    return content


def bad_file(path: Path, found: str) -> UserError:
    """Make the error of a file that holds no weights."""
    return UserError(
        path,
        expected="a weights file (.pt, .pth, .bin or .safetensors) of tensors only",
        found=found,
        fix="Check the path, or download or save the file again.",
    )
