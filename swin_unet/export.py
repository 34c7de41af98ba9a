"""Export a checkpoint: python -m swin_unet.export --checkpoint C --format onnx|bundle OUT.

Nothing is in its place before it was checked to give what the checkpoint gives.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swin_unet.config import UserError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn

TOLERANCE = 1e-3
# Logits this close, relative to the largest, are a tie in float32: either class may win.
TIE = 1e-5
OPSET = 18


def export_onnx(checkpoint_path: Path, path: Path) -> dict[str, float]:
    """Write the network of a checkpoint as an ONNX file of fixed slice size and free batch size.

    The file carries preprocessing, classes and origin, see `onnx_backend.read_metadata`.

    Args:
        checkpoint_path: A best.pt or last.pt.
        path: An .onnx file; replaced if it exists.

    Returns:
        Largest difference of the logits from torch's, and their largest absolute value.

    Raises:
        UserError: For missing packages, or when ONNX Runtime computes something else.
    """
    from swin_unet.onnx_backend import require_packages

    _check_suffix(path)
    require_packages("onnx", "onnxscript", "onnxruntime")
    from swin_unet import checkpoint as checkpoints
    from swin_unet.files import atomic_path

    content = checkpoints.load(checkpoint_path)
    checkpoints.check_task(content, checkpoint_path, "segmentation", "classification")
    network = checkpoints.load_model(content, checkpoint_path).eval()
    examples = _examples(content)
    with atomic_path(path) as temporary:
        _write_onnx(network, examples[0], _metadata(content, checkpoint_path), temporary)
        return _check_onnx(network, examples, temporary, path)


def _check_suffix(path: Path) -> None:
    if path.suffix.lower() != ".onnx":
        raise UserError(
            path, expected="a file name that ends in .onnx", found=path.name, fix="Add the ending."
        )


def _examples(content: dict[str, Any]) -> list[torch.Tensor]:
    """Make inputs of several batch sizes: noise, and smooth shapes as in a prepared slice."""
    import torch
    from torch.nn.functional import interpolate

    channels = content["model_description"]["arguments"]["in_channels"]
    height, width = content["preprocessing"]["image_size"]
    generator = torch.Generator().manual_seed(0)
    examples = [torch.randn(2, channels, height, width, generator=generator)]
    for batch, coarse in ((1, 4), (3, 16)):
        noise = torch.randn(batch, channels, coarse, coarse, generator=generator)
        shapes = interpolate(noise, size=(height, width), mode="bicubic").clamp(-1, 1)
        speckle = torch.randn(shapes.shape, generator=generator)
        examples.append(0.5 + 0.5 * shapes + 0.02 * speckle)
    return examples


def _metadata(content: dict[str, Any], checkpoint_path: Path) -> dict[str, str]:
    """Return as JSON texts what inference needs beside the network, and where it came from."""
    from swin_unet.checkpoint import task_of
    from swin_unet.onnx_backend import FORMAT
    from swin_unet.provenance import describe_software

    software = describe_software()
    context_slices = content["preprocessing"]["context_slices"]
    values = {
        "format": FORMAT,
        "preprocessing": content["preprocessing"],
        "classes": list(content["classes"]),
        "num_channels": content["model_description"]["arguments"]["in_channels"] // context_slices,
        "inference": content["config"]["inference"],
        "model_description": content["model_description"],
        "task": task_of(content),
        "multi_label": content.get("multi_label", False),
        "checkpoint": checkpoint_path.name,
        "checkpoint_sha256": hashlib.sha256(checkpoint_path.read_bytes()).hexdigest(),
        "swin_unet": software["swin_unet"],
        "git_commit": software["git_commit"],
    }
    return {key: json.dumps(value) for key, value in values.items()}


def _write_onnx(
    network: nn.Module, example: torch.Tensor, metadata: dict[str, str], path: Path
) -> None:
    import torch

    from swin_unet.onnx_backend import INPUT, OUTPUT

    with torch.no_grad(), _quiet_exporter():
        network(example)  # fills the caches of masks and indices, which must hold real tensors
        program = torch.onnx.export(
            network,
            (example,),
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    assert program is not None
    program.model.metadata_props.update(metadata)
    program.save(path, external_data=False)


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence what the exporter says of optional packages and of torch's own deprecations."""
    import logging
    import warnings

    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _check_onnx(
    network: nn.Module, examples: Sequence[torch.Tensor], written: Path, path: Path
) -> dict[str, float]:
    """Compare ONNX Runtime with torch on every example."""
    import torch

    from swin_unet.onnx_backend import OnnxNetwork, open_session

    exported = OnnxNetwork(open_session(written, torch.device("cpu")))
    largest_difference = largest_logit = 0.0
    for example in examples:
        with torch.no_grad():
            wanted, found = network(example), exported(example)
        difference, num_other = compare_logits(found.numpy(), wanted.numpy())
        if difference > TOLERANCE or num_other:
            raise UserError(
                path,
                expected=f"logits within {TOLERANCE} of torch's and the same classes",
                found=f"{difference:.2g} and {num_other} pixels of another class",
                fix="Use the versions of requirements.lock; nothing was written.",
            )
        largest_difference = max(largest_difference, difference)
        largest_logit = max(largest_logit, float(wanted.abs().max()))
    return {"difference": largest_difference, "largest_logit": largest_logit}


def compare_logits(found: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any]) -> tuple[float, int]:
    """Compare logits (B, K, H, W), or (B, K) of a classifier.

    Returns:
        The largest absolute difference, and how many pixels, or images, have another class, ties
        aside.
    """
    import numpy as np

    difference = float(np.abs(found - wanted).max())
    ordered = np.sort(wanted, axis=1)
    is_tie = ordered[:, -1] - ordered[:, -2] <= TIE * np.abs(wanted).max()
    differs = found.argmax(axis=1) != wanted.argmax(axis=1)
    return difference, int(np.count_nonzero(differs & ~is_tie))


def main(argv: Sequence[str] | None = None) -> int:
    """Export as the command line says."""
    arguments = _parser().parse_args(argv)
    if arguments.format == "onnx":
        parity = export_onnx(arguments.checkpoint, arguments.output)
        print(
            f"{arguments.output}: logits within {parity['difference']:.1e} of torch's "
            f"(largest logit {parity['largest_logit']:.3g}), same classes"
        )
    else:
        from swin_unet.bundle import export_bundle

        export_bundle(arguments.checkpoint, arguments.output)
        print(f"{arguments.output}: a MONAI bundle, its network equal to the checkpoint's")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m swin_unet.export",
        description="Write the network of a checkpoint for other programs.",
        epilog="Exit codes: 0 done, 1 unexpected failure, 2 wrong usage or input.",
    )
    add = parser.add_argument
    add("output", type=Path, help="an .onnx file, or a new folder for the bundle")
    add("--checkpoint", type=Path, required=True, help="a run's best.pt or last.pt")
    add("--format", choices=("onnx", "bundle"), required=True)
    return parser


if __name__ == "__main__":
    from swin_unet.cli import run

    sys.exit(run(main))
