"""The command line of infer.py."""

from __future__ import annotations

import argparse
from pathlib import Path

from swin_unet.argument_types import positive

EPILOG = (
    "Exit codes: 0 done, 1 unexpected failure, 2 wrong usage or input, 3 some cases failed and the "
    "others are done. Details of every option: docs/inference.md."
)


# What a classification takes; the rest is about label maps.
OF_CLASSES = frozenset({
    "checkpoint", "coarse", "input", "output", "labels", "part", "backend", "device", "precision",
    "batch_size",
})  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """Make the parser, in groups."""
    parser = argparse.ArgumentParser(prog="infer.py", description="Segment volumes.", epilog=EPILOG)
    _add_files(parser)
    _add_scores(parser.add_argument_group("scores"))
    _add_computing(parser.add_argument_group("computing"))
    _add_quality(parser.add_argument_group("quality"))
    return parser


def _add_files(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    checkpoint_help = (
        "best.pt, last.pt or an .onnx export; several checkpoints of one configuration are averaged"
    )
    add("--checkpoint", type=Path, required=True, nargs="+", help=checkpoint_help)
    coarse_help = "checkpoint that finds where --checkpoint is to look"
    add("--coarse", type=Path, help=coarse_help)
    input_help = "files, patterns or folders of volumes; FOLDER#SERIES for one DICOM series"
    add("--input", type=Path, nargs="+", required=True, help=input_help)
    add("--output", type=Path, required=True, help="folder for the label maps")
    skip_help = "leave out cases whose results are there already, made with the same options"
    add("--skip-existing", "--skip_existing", action="store_true", help=skip_help)
    add("--part", choices=("train", "val", "test"), help="only this part of the run's split.json")
    add("--statistics", action="store_true", help="write statistics.csv: volumes, parts, ...")
    add("--report", action="store_true", help="write report.html: look at every case, offline")
    add("--entropy", action="store_true", help="write OUTPUT/entropy: how unsure the network is")
    seg_help = "also write OUTPUT/NAME.dcm, a DICOM-SEG object; DICOM inputs, needs highdicom"
    add("--dicom_seg", action="store_true", help=seg_help)
    probabilities_help = "write OUTPUT/probabilities: of every class, as a fourth axis"
    add("--probabilities", action="store_true", help=probabilities_help)


def _add_scores(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    labels_help = "label maps to score against: a folder, one file, or a folder per class"
    add("--labels", type=Path, help=labels_help)
    protocol_help = (
        "paper resizes and scores as the original Swin-Unet did, to compare with published "
        "numbers only (default: strict)"
    )
    add("--protocol", choices=("strict", "paper"), default="strict", help=protocol_help)
    tolerance_help = "distance up to which surfaces agree, for the surface Dice (default: 1)"
    add("--tolerance_mm", type=positive, default=1.0, metavar="MM", help=tolerance_help)
    mismatch_help = "resample reference label maps of another grid (default: error)"
    add("--on_mismatch", choices=("error", "resample"), default="error", help=mismatch_help)


def _add_computing(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    backend_help = "what computes the network; by the ending of --checkpoint if not given"
    add("--backend", choices=("torch", "onnx"), help=backend_help)
    add("--fit", choices=("resize", "crop"), help="refuse a checkpoint of the other fit")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    add("--precision", choices=("fp32", "bf16", "fp16"), help="as trained if not given")
    add("--batch_size", type=_positive_integer, help="slices at a time; by device if not given")
    compile_help = "run the network by torch.compile: minutes to start, then faster on most GPUs"
    add("--compile", action="store_true", help=compile_help)
    add("--overlap", type=_fraction, help="of sliding windows, in [0, 1); fit crop only")


def _add_quality(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    directions = ("left_right", "anterior_posterior", "superior_inferior")
    flips_help = "also segment mirrored slices and average; directions that training mirrored"
    add("--flips", nargs="+", choices=directions, default=(), help=flips_help)
    scales_help = "sizes of the network's input relative to training's, averaged (default: 1)"
    add("--scales", nargs="+", type=_scale, default=(1.0,), metavar="S", help=scales_help)
    largest_help = "keep only the largest part of these classes; of all, if none is named"
    add("--largest_component", nargs="*", metavar="CLASS", help=largest_help)
    volume_help = "remove smaller parts: a number for all classes, or CLASS=NUMBER"
    add("--min_volume_mm3", nargs="+", default=(), metavar="MM3", help=volume_help)


def _positive_integer(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {value}")
    return value


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"must be in [0, 1), not {value}")
    return value


def _scale(text: str) -> float:
    value = float(text)
    if not 0.25 <= value <= 4:
        raise argparse.ArgumentTypeError(f"must be in [0.25, 4], not {text}")
    return value
