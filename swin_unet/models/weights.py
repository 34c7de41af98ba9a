"""Weights from files: our own checkpoints and those of the original Swin-Unet."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swin_unet.config import UserError

# The original's names on the left; its buffers are derived values and are dropped.
_ORIGINAL_BUFFERS = re.compile(r"\.(attn_mask|relative_position_index)$")
_ORIGINAL_NAMES = (
    (re.compile(r"^patch_embed\."), lambda m: "encoder.patch_embed."),
    (re.compile(r"^layers\.(\d+)\.blocks\."), lambda m: f"encoder.stages.{m[1]}.blocks."),
    (re.compile(r"^layers\.(\d+)\.downsample\."), lambda m: f"encoder.merges.{m[1]}."),
    (re.compile(r"^norm\."), lambda m: "encoder.norm."),
    (re.compile(r"^layers_up\.0\."), lambda m: "decoder.levels.0.upsample."),
    (re.compile(r"^layers_up\.(\d+)\.upsample\."), lambda m: f"decoder.levels.{m[1]}.upsample."),
    (
        re.compile(r"^layers_up\.(\d+)\.blocks\."),
        lambda m: f"decoder.levels.{int(m[1]) - 1}.stage.blocks.",
    ),
    (re.compile(r"^concat_back_dim\.(\d+)\."), lambda m: f"decoder.levels.{int(m[1]) - 1}.fuse."),
    (re.compile(r"^norm_up\."), lambda m: "decoder.norm."),
    (re.compile(r"^up\."), lambda m: "decoder.final_upsample."),
    (re.compile(r"^output\."), lambda m: "head."),
)


@dataclass(frozen=True)
class LoadReport:
    """What became of every tensor of a weights file.

    Attributes:
        path: The file.
        loaded: Names taken as they are.
        resized: Names taken after a change of shape.
        skipped: Names present on both sides whose shapes do not agree.
        missing: Names of the model that the file lacks.
        unexpected: Names of the file that the model lacks.
        encoder_fraction: Share of the encoder's parameters that was filled, in [0, 1].
    """

    path: Path
    loaded: tuple[str, ...]
    resized: tuple[str, ...]
    skipped: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    encoder_fraction: float

    def __str__(self) -> str:
        """Summarise in one line, then name what was not simply loaded."""
        counts = f"{len(self.loaded)} loaded, {len(self.resized)} resized"
        lines = [f"{self.path}: {counts}, encoder filled to {self.encoder_fraction:.0%}"]
        for title in ("resized", "skipped", "missing", "unexpected"):
            names = getattr(self, title)
            if names:
                more = f" ... and {len(names) - 4} more" if len(names) > 4 else ""
                lines.append(f"  {title} ({len(names)}): {', '.join(names[:4])}{more}")
        return "\n".join(lines)


def load_weights(model: nn.Module, path: Path | str, minimum: float = 0.9) -> LoadReport:
    """Fill a model from a weights file as far as names and shapes allow.

    Args:
        model: A SwinUNet; left as it was when an error is raised.
        path: Our checkpoint, or the original Swin-Unet's, or safetensors with either's names.
        minimum: Least share of the encoder's parameters that must be filled, in [0, 1].

    Returns:
        What became of every tensor.

    Raises:
        UserError: For an unreadable file, pickled code, or less than `minimum` filled.
    """
    path = Path(path)
    source = to_our_names(read_state_dict(path))
    target = model.state_dict()
    taken: dict[str, Tensor] = {}
    resized, skipped = [], []
    for name in source.keys() & target.keys():
        fitted = _fit(name, source[name], target[name].shape)
        if fitted is None:
            skipped.append(name)
            continue
        taken[name] = fitted
        if source[name].shape != fitted.shape:
            resized.append(name)
    report = LoadReport(
        path=path,
        loaded=tuple(sorted(taken.keys() - set(resized))),
        resized=tuple(sorted(resized)),
        skipped=tuple(sorted(skipped)),
        missing=tuple(sorted(target.keys() - source.keys())),
        unexpected=tuple(sorted(source.keys() - target.keys())),
        encoder_fraction=_encoder_fraction(taken, target),
    )
    _check_report(report, minimum)
    model.load_state_dict(taken, strict=False)
    return report


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a weights file, refusing pickled code.

    Returns:
        Tensors by the file's own names, without a common `module.` or `swin_unet.` prefix.
    """
    content = _read_file(path)
    for key in ("model", "state_dict"):
        if isinstance(content.get(key), dict):
            content = content[key]
    tensors = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise _bad_file(path, "no tensors")
    for prefix in ("module.", "swin_unet."):
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors


def to_our_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the original Swin-Unet's tensors to ours and drop its buffers."""
    if any(name.startswith(("encoder.", "decoder.")) for name in tensors):
        return tensors
    return {
        _rename(name): value
        for name, value in tensors.items()
        if not _ORIGINAL_BUFFERS.search(name)
    }


def resize_patch_embedding(weight: Tensor, in_channels: int) -> Tensor:
    """Adapt the kernel (dim, old_channels, p, p) of a patch embedding to other input channels.

    The kernel is summed over its channels for one channel, so that a grey image gives what it
    gave when repeated; for several channels that sum is divided by their number.
    """
    summed = weight.sum(dim=1, keepdim=True)
    return summed.expand(-1, in_channels, -1, -1) / in_channels


def resize_bias_table(table: Tensor, num_positions: int) -> Tensor:
    """Interpolate a bias table (L, num_heads) of a square window to another window, bicubic.

    Args:
        table: Biases of a window of side M, L = (2M - 1)^2 rows.
        num_positions: Rows of the new table, the square of an odd number.

    Returns:
        The table (num_positions, num_heads), in the precision of `table`.
    """
    old, new = round(len(table) ** 0.5), round(num_positions**0.5)
    grid = table.float().t().reshape(1, -1, old, old)
    grid = F.interpolate(grid, size=(new, new), mode="bicubic", align_corners=False)
    return grid.reshape(-1, num_positions).t().to(table.dtype)


def _read_file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise _bad_file(path, "no such file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise many kinds for a broken file
        found = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if "weights_only" in str(error) or "Unsupported" in str(error):
            found = "pickled Python code, which is never run"
        raise _bad_file(path, found) from error
    if not isinstance(content, dict):
        raise _bad_file(path, f"a {type(content).__name__}")
    return content


def _bad_file(path: Path, found: str) -> UserError:
    return UserError(
        path,
        expected="a weights file (.pt, .pth or .safetensors) of tensors only",
        found=found,
        fix="Check the path, or download or save the file again.",
    )


def _rename(name: str) -> str:
    for pattern, replacement in _ORIGINAL_NAMES:
        new_name, count = pattern.subn(replacement, name)
        if count:
            return new_name
    return name


def _fit(name: str, value: Tensor, shape: torch.Size) -> Tensor | None:
    """Return the tensor in the wanted shape, or None when there is no sound way."""
    if value.shape == shape:
        return value
    if name.endswith("patch_embed.proj.weight") and value.shape[2:] == shape[2:]:
        same_width = value.shape[0] == shape[0]
        return resize_patch_embedding(value, shape[1]) if same_width else None
    if name.endswith("relative_position_bias_table") and value.shape[1] == shape[1]:
        return resize_bias_table(value, shape[0])
    return None


def _encoder_fraction(taken: dict[str, Tensor], target: dict[str, Tensor]) -> float:
    encoder = {name: value.numel() for name, value in target.items() if "encoder." in name}
    filled = sum(numel for name, numel in encoder.items() if name in taken)
    return filled / max(sum(encoder.values()), 1)


def _check_report(report: LoadReport, minimum: float) -> None:
    if report.encoder_fraction < minimum:
        raise UserError(
            report.path,
            expected=f"weights for at least {minimum:.0%} of the encoder",
            found=f"{report.encoder_fraction:.0%} ({len(report.skipped)} tensors of another "
            f"shape, {len(report.missing)} missing, {len(report.unexpected)} unknown)",
            fix="Choose the model options that the file was made with, or another file.",
        )
