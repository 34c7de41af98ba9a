"""The segmenter that a command line asks for."""

from __future__ import annotations

import argparse
from typing import Any

from swin_unet.config import UserError
from swin_unet.inference import Segmenter, VolumeSegmenter


def load_segmenter(arguments: argparse.Namespace) -> VolumeSegmenter:
    """Load the checkpoint and refuse options that do not apply to it.

    Raises:
        UserError: For them, and for files that are no such checkpoints.
    """
    segmenter = _load_onnx(arguments) if arguments.backend == "onnx" else _load_torch(arguments)
    fit = segmenter.preprocessing.fit
    if arguments.fit not in (None, fit):
        raise UserError(
            arguments.checkpoint[0],
            expected=f"a checkpoint trained with fit {arguments.fit}",
            found=f"fit {fit}",
            fix=f"Leave out --fit, or train with --data.fit {arguments.fit}.",
        )
    if arguments.coarse is None:
        return segmenter
    from swin_unet.two_stage import load_two_stage

    return load_two_stage(segmenter, arguments.coarse)


def _load_torch(arguments: argparse.Namespace) -> VolumeSegmenter:
    return Segmenter(
        arguments.checkpoint,
        flips=arguments.flips,
        scales=arguments.scales,
        compile=arguments.compile,
        **_common(arguments),
    )


def _load_onnx(arguments: argparse.Namespace) -> VolumeSegmenter:
    from swin_unet.onnx_backend import load_segmenter as load

    asked_for = {
        "several checkpoints": len(arguments.checkpoint) > 1,
        "--flips": bool(arguments.flips),
        "--scales": tuple(arguments.scales) != (1.0,),
        "--compile": arguments.compile,
    }
    found = [name for name, is_asked_for in asked_for.items() if is_asked_for]
    if found:
        raise UserError(
            "--backend",
            expected="torch, or one export as it is",
            found=f"onnx with {', '.join(found)}",
            fix="Give the checkpoints that were exported.",
        )
    return load(arguments.checkpoint[0], **_common(arguments))


def _common(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options that both backends take."""
    names = ("device", "precision", "batch_size", "overlap", "protocol")
    cleanup = ("largest_component", "min_volume_mm3")
    return {name: getattr(arguments, name) for name in (*names, *cleanup)}
