"""Weights from files: ours and everybody else's, into an encoder, a classifier or a SwinUNet.

`python -m swin_unet.models.weights inspect FILE` tells what a file is, `... convert FILE
OUT.safetensors` writes it with our names.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from swin_unet.config import UserError
from swin_unet.files import atomic_path
from swin_unet.models.layouts import Description, describe, trained_windows, translate
from swin_unet.models.weight_files import bad_file, read_state_dict
from swin_unet.models.window_transfer import (
    Method,
    resize_position_embedding,
    resize_rel_pos_bias,
)


@dataclass(frozen=True)
class LoadReport:
    """What became of every tensor of a weights file.

    Attributes:
        path: The file.
        description: What it holds.
        loaded: Names taken as they are.
        resized: Names taken after a change of shape.
        mirrored: Names of the decoder that took the encoder's tensors of the same stage.
        skipped: Names present on both sides whose shapes do not agree.
        missing: Names of the model that got nothing.
        unexpected: Names of the file that the model lacks.
        encoder_fraction: Share of the encoder's parameters that was filled, in [0, 1].
    """

    path: Path
    description: Description
    loaded: tuple[str, ...]
    resized: tuple[str, ...]
    mirrored: tuple[str, ...]
    skipped: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    encoder_fraction: float

    def __str__(self) -> str:
        """Summarise in two lines, then name what was not simply loaded."""
        counts = f"{len(self.loaded)} loaded, {len(self.resized)} resized"
        lines = [
            f"{self.path}: {self.description}",
            f"  {counts}, encoder filled to {self.encoder_fraction:.0%}",
        ]
        for title in ("resized", "mirrored", "skipped", "missing", "unexpected"):
            names = getattr(self, title)
            if names:
                more = f" ... and {len(names) - 4} more" if len(names) > 4 else ""
                lines.append(f"  {title} ({len(names)}): {', '.join(names[:4])}{more}")
        return "\n".join(lines)


def load_weights(
    model: nn.Module,
    path: Path | str,
    minimum: float = 0.9,
    method: Method = "bicubic",
    *,
    mirror: bool = True,
) -> LoadReport:
    """Fill a model from a weights file as far as names and shapes allow.

    Weights of a classifier go into the encoder of a SwinUNet and, as in the original, into the
    blocks of the decoder's stages of the same width too.

    Args:
        model: A SwinUNet, SwinClassifier or SwinEncoder; unchanged when an error is raised.
        path: A checkpoint of ours, Microsoft's, timm's, torchvision's, Hugging Face's, SimMIM's or
            the original Swin-Unet's, as .pt, .pth, .bin or .safetensors.
        minimum: Least share of the encoder's parameters that must be filled, in [0, 1].
        method: How bias tables are interpolated to another window, see `resize_rel_pos_bias`.
        mirror: Fill the decoder's blocks from an encoder's.

    Returns:
        What became of every tensor.

    Raises:
        UserError: For an unreadable file, pickled code, weights of another network (less than
            `minimum` filled), or V2 weights trained with other windows than the model says.
    """
    path = Path(path)
    tensors = read_state_dict(path)
    source, layout = translate(tensors)
    description = describe(source, layout)
    target = _full_names(model)
    _check_version(path, description, target)
    _check_trained_windows(path, tensors, target, model)
    mirrored = _mirror(source, target) if mirror else {}
    taken: dict[str, Tensor] = {}
    for name, value in {**source, **mirrored}.items():
        fitted = _fit(name, value, target[name].shape, method) if name in target else None
        if fitted is not None:
            taken[name] = fitted
    report = _report(path, description, source, mirrored, taken, target)
    _check_report(report, minimum)
    prefix = "" if _has_encoder(model) else "encoder."
    model.load_state_dict(
        {name.removeprefix(prefix): value for name, value in taken.items()}, strict=False
    )
    return report


def resize_input_kernel(weight: Tensor, in_channels: int) -> Tensor:
    """Adapt a kernel (dim, old_channels, p, p) that sees the image to other input channels.

    The kernel is summed over its channels for one channel, so that a grey image gives what it
    gave when repeated; for several channels that sum is divided by their number.
    """
    summed = weight.sum(dim=1, keepdim=True)
    return summed.expand(-1, in_channels, -1, -1) / in_channels


def _has_encoder(model: nn.Module) -> bool:
    return hasattr(model, "encoder")


def _full_names(model: nn.Module) -> dict[str, Tensor]:
    """Return a model's tensors by our full names; a bare encoder's get their prefix."""
    prefix = "" if _has_encoder(model) else "encoder."
    return {prefix + name: value for name, value in model.state_dict().items()}


def _mirror(source: dict[str, Tensor], target: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give the decoder of a SwinUNet the encoder's blocks, if the file has no decoder."""
    levels = {int(name.split(".")[2]) for name in target if name.startswith("decoder.levels.")}
    if any(name.startswith("decoder.levels.") for name in source):
        return {}
    mirrored = {}
    for level in levels:
        stage = f"encoder.stages.{len(levels) - 1 - level}."
        for name, value in source.items():
            if name.startswith(stage):
                mirrored[f"decoder.levels.{level}.stage.{name.removeprefix(stage)}"] = value
    return mirrored


def _fit(name: str, value: Tensor, shape: torch.Size, method: Method) -> Tensor | None:
    """Return the tensor in the wanted shape, or None when there is no sound way."""
    if value.shape == shape:
        return value
    if value.ndim != len(shape):
        return None
    if name.endswith(("patch_embed.proj.weight", "refine.image.0.weight")):
        same = value.shape[0] == shape[0] and value.shape[2:] == shape[2:]
        return resize_input_kernel(value, shape[1]) if same else None
    if name.endswith("relative_position_bias_table") and value.shape[1] == shape[1]:
        window = (math.isqrt(shape[0]) + 1) // 2
        return resize_rel_pos_bias(value, (window, window), method=method)
    if name.endswith("absolute_pos_embed") and value.shape[2] == shape[2]:
        side = math.isqrt(shape[1])
        return resize_position_embedding(value, (side, shape[1] // side))
    return None


def _report(
    path: Path,
    description: Description,
    source: dict[str, Tensor],
    mirrored: dict[str, Tensor],
    taken: dict[str, Tensor],
    target: dict[str, Tensor],
) -> LoadReport:
    """Sort every name into what became of it."""
    offered = {**source, **mirrored}
    resized = {name for name, value in taken.items() if value.shape != offered[name].shape}
    encoder = {n: value.numel() for n, value in target.items() if n.startswith("encoder.")}
    filled = sum(numel for name, numel in encoder.items() if name in taken)
    return LoadReport(
        path=path,
        description=description,
        loaded=tuple(sorted(taken.keys() - resized - mirrored.keys())),
        resized=tuple(sorted(resized)),
        mirrored=tuple(sorted(taken.keys() & mirrored.keys())),
        skipped=tuple(sorted((offered.keys() & target.keys()) - taken.keys())),
        missing=tuple(sorted(target.keys() - offered.keys())),
        unexpected=tuple(sorted(source.keys() - target.keys())),
        encoder_fraction=filled / max(sum(encoder.values()), 1),
    )


def _check_report(report: LoadReport, minimum: float) -> None:
    if report.encoder_fraction < minimum:
        raise UserError(
            report.path,
            expected=f"weights for at least {minimum:.0%} of this model's encoder",
            found=f"{report.encoder_fraction:.0%}; the file looks like {report.description}",
            fix="Choose the model options that the file was made with, or another file.",
        )


def _check_version(path: Path, description: Description, target: dict[str, Tensor]) -> None:
    """Refuse weights of the other version: most names and shapes agree, the meaning does not."""
    version = 2 if any(name.endswith(".logit_scale") for name in target) else 1
    if description.version not in (0, version):
        raise UserError(
            path,
            expected=f"weights of Swin V{version}",
            found=f"a file that looks like {description}",
            fix=f"Set model.version to {description.version}, or choose another file.",
        )


def _check_trained_windows(
    path: Path, tensors: dict[str, Tensor], target: dict[str, Tensor], model: nn.Module
) -> None:
    """Refuse V2 weights whose coordinates were normalised otherwise than the model's."""
    expected = trained_windows(tensors)
    if not expected or "encoder.stages.0.blocks.0.attn.logit_scale" not in target:
        return
    encoder: Any = model.encoder if _has_encoder(model) else model
    attention = [stage.blocks[0].attn for stage in encoder.stages]
    found = [layer.pretrained_window_size or layer.window_size[0] for layer in attention]
    if found != expected[: len(found)]:
        raise UserError(
            path,
            expected=f"a model that normalises coordinates by these weights' windows {expected}",
            found=f"{found}",
            fix=f"Set model.pretrained_window_sizes to {expected}.",
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Inspect or convert a weights file."""
    arguments = _parser().parse_args(argv)
    tensors = read_state_dict(arguments.file)
    ours, layout = translate(tensors)
    description = describe(ours, layout)
    num_parameters = sum(value.numel() for value in ours.values())
    print(f"{arguments.file}: {description}")
    print(f"  {len(ours)} tensors, {num_parameters:,} parameters")
    if windows := trained_windows(tensors):
        print(f"  trained with windows {windows}: set model.pretrained_window_sizes to them")
    if arguments.command == "convert":
        _convert(arguments, ours, description)
    return 0


def _convert(
    arguments: argparse.Namespace, ours: dict[str, Tensor], description: Description
) -> None:
    """Write tensors under our names as safetensors, with other windows if wanted."""
    from safetensors.torch import save_file

    if not description.version:
        raise bad_file(arguments.file, str(description))
    side = arguments.window_size
    if side is not None:
        ours = {
            name: resize_rel_pos_bias(value, (side, side), method=arguments.method)
            if name.endswith("relative_position_bias_table")
            else value
            for name, value in ours.items()
        }
    contiguous = {name: value.contiguous().clone() for name, value in ours.items()}
    with atomic_path(arguments.out) as temporary:
        save_file(contiguous, temporary, metadata={"format": "pt", "from": str(description)})
    print(f"  written to {arguments.out}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m swin_unet.models.weights")
    commands = parser.add_subparsers(dest="command", required=True)
    inspect = commands.add_parser("inspect", help="tell what a weights file is")
    convert = commands.add_parser("convert", help="write a weights file under our names")
    for command in (inspect, convert):
        command.add_argument("file", type=Path)
    convert.add_argument("out", type=Path, help="a .safetensors file")
    convert.add_argument("--window_size", type=int, help="interpolate V1's bias tables to it")
    convert.add_argument("--method", choices=("bicubic", "geometric"), default="bicubic")
    return parser


if __name__ == "__main__":
    from swin_unet.cli import run

    sys.exit(run(main))
