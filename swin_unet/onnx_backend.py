"""Segment with an exported ONNX file: ONNX Runtime behind the interface of a network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from swin_unet.classifying import SliceClassifier
from swin_unet.config import UserError
from swin_unet.devices import choose_device
from swin_unet.imaging import Preprocessing
from swin_unet.inference import Cleanup, VolumeSegmenter
from swin_unet.inference.checks import check_overlap, check_protocol

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

FORMAT = 1
INPUT, OUTPUT = "image", "logits"


class OnnxNetwork(nn.Module):
    """A network that ONNX Runtime computes, for inference only.

    Args:
        session: Of a file with one input and one output.
    """

    def __init__(self, session: InferenceSession) -> None:
        super().__init__()
        self.session = session

    def forward(self, image: Tensor) -> Tensor:
        """Compute logits (B, K, H, W) of images (B, C, H, W) of the size that was exported."""
        (logits,) = self.session.run([OUTPUT], {INPUT: image.float().cpu().numpy()})
        return torch.from_numpy(logits).to(image.device)


def require_packages(*names: str) -> None:
    """Raise UserError unless these packages of the extra `onnx` are installed."""
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise UserError(
            "onnx",
            expected=f"the packages {', '.join(names)}",
            found=f"no {', '.join(missing)}",
            fix="Install them: pip install 'swin-unet[onnx]', or those of requirements.lock.",
        )


def open_session(path: Path, device: torch.device) -> InferenceSession:
    """Open an ONNX file with as many threads as torch uses.

    Raises:
        UserError: For a file that ONNX Runtime cannot read, or a GPU that it cannot use.
    """
    require_packages("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors only: it warns of every machine without GPU
    provider = "CUDAExecutionProvider" if device.type == "cuda" else "CPUExecutionProvider"
    if not path.is_file():
        raise _bad_file(path, "no such file")
    if provider not in onnxruntime.get_available_providers():
        raise UserError(
            "--device",
            expected="a device that this installation of ONNX Runtime supports",
            found=str(device),
            fix="Choose cpu, or install onnxruntime-gpu in place of onnxruntime.",
        )
    try:
        return onnxruntime.InferenceSession(path, options, providers=[provider])
    except Exception as error:  # a class of its own per kind of fault, none of them documented
        raise _bad_file(path, " ".join(str(error).split())[:200]) from error


def load_segmenter(
    path: Path,
    *,
    device: str = "auto",
    precision: str | None = None,
    batch_size: int | None = None,
    overlap: float | None = None,
    largest_component: Sequence[str] | None = None,
    min_volume_mm3: Sequence[str] = (),
    protocol: Literal["strict", "paper"] = "strict",
) -> VolumeSegmenter:
    """Make the segmenter of a file that `swin_unet.export` wrote.

    Args:
        path: An .onnx file.
        device: `auto` takes the GPU if there is one that ONNX Runtime supports.
        precision: `fp32`, or None for the same.
        batch_size: Slices at a time; None: as in training's validation.
        overlap: Of sliding windows, in [0, 1); None: as in training's validation.
        largest_component: As `Segmenter` takes it.
        min_volume_mm3: As `Segmenter` takes it.
        protocol: As `Segmenter` takes it.

    Raises:
        UserError: For a file that is not such an export, or another precision.
    """
    chosen, network, content = _open(path, device, precision, "segmentation")
    options = content["inference"]
    preprocessing = Preprocessing.from_dict(content["preprocessing"])
    check_overlap(preprocessing, overlap)
    cleanup = Cleanup.of_classes(content["classes"], largest_component, min_volume_mm3)
    check_protocol(protocol, preprocessing, {"clean-up": cleanup.is_needed})
    return VolumeSegmenter(
        network,
        preprocessing,
        num_channels=content["num_channels"],
        classes=tuple(content["classes"]),
        device=chosen,
        batch_size=batch_size or options["batch_size"],
        overlap=options["overlap"] if overlap is None else overlap,
        cleanup=cleanup,
        protocol=protocol,
    )


def load_classifier(
    path: Path,
    *,
    device: str = "auto",
    precision: str | None = None,
    batch_size: int | None = None,
) -> SliceClassifier:
    """Make the SliceClassifier of a file that `swin_unet.export` wrote; see `load_segmenter`."""
    chosen, network, content = _open(path, device, precision, "classification")
    return SliceClassifier(
        network,
        Preprocessing.from_dict(content["preprocessing"]),
        num_channels=content["num_channels"],
        classes=tuple(content["classes"]),
        multi_label=content["multi_label"],
        device=chosen,
        batch_size=batch_size or content["inference"]["batch_size"],
    )


def trained_task(path: Path) -> str:
    """Return the task of an exported file.

    Raises:
        UserError: For a file of other origin.
    """
    return _task_of(read_metadata(open_session(path, torch.device("cpu")), path))


def _task_of(content: dict[str, Any]) -> str:
    task: str = content.get("task", "segmentation")  # the first exports knew only one
    return task


def _open(
    path: Path, device: str, precision: str | None, task: str
) -> tuple[torch.device, OnnxNetwork, dict[str, Any]]:
    """Open an export of a task: device, network and what the file says of it."""
    if precision not in (None, "fp32"):
        raise UserError(
            "--precision",
            expected="fp32 with --backend onnx",
            found=str(precision),
            fix="Remove it, or use --backend torch.",
        )
    chosen = choose_device(device)
    if device == "auto" and not _supports_cuda():
        chosen = torch.device("cpu")
    session = open_session(path, chosen)
    content = read_metadata(session, path)
    if _task_of(content) != task:
        raise UserError(
            path,
            expected=f"an export of a {task}",
            found=f"one of a {_task_of(content)}",
            fix="Give another file.",
        )
    return chosen, OnnxNetwork(session), content


def read_metadata(session: InferenceSession, path: Path) -> dict[str, Any]:
    """Return what the export embedded: preprocessing, classes and where it came from.

    Raises:
        UserError: For a file of other origin.
    """
    texts = session.get_modelmeta().custom_metadata_map
    try:
        content = {key: json.loads(text) for key, text in texts.items()}
    except ValueError as error:
        raise _bad_file(path, "a file of other origin") from error
    if content.get("format", FORMAT + 1) > FORMAT:
        found = f"format {content['format']}, newer than {FORMAT}" if "format" in content else None
        raise _bad_file(path, found or "a file of other origin")
    return content


def _supports_cuda() -> bool:
    require_packages("onnxruntime")
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def _bad_file(path: Path, found: str) -> UserError:
    return UserError(
        path,
        expected="an ONNX file that python -m swin_unet.export wrote",
        found=found,
        fix="Make it: python -m swin_unet.export --checkpoint best.pt --format onnx MODEL.onnx",
    )
