"""The cases of a call, checked before anything takes time."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from swin_unet.config import UserError
from swin_unet.files import read_json
from swin_unet.imaging.dicom import split_selector
from swin_unet.imaging.dicom_seg import check_dicom_seg
from swin_unet.imaging.inputs import InputCase, find_cases, find_label, holds_classes


def select_cases(arguments: argparse.Namespace) -> list[InputCase]:
    """List the cases of a command line.

    Raises:
        UserError: For inputs, labels or an output folder that cannot be.
    """
    cases = find_cases(arguments.input)
    if arguments.part is not None:
        folder = arguments.checkpoint[0].parent
        cases = _select_part(cases, folder / "split.json", arguments.part)
    _check_output(cases, arguments)
    _check_extras(cases, arguments)
    if arguments.labels is not None and not holds_classes(arguments.labels):
        _check_labels(arguments.labels, cases)
    return cases


def _check_labels(labels: Path, cases: list[InputCase]) -> None:
    """Refuse a missing label map, and a single one for several cases."""
    if labels.is_file() and len(cases) > 1:
        raise UserError(
            labels,
            expected=f"a folder of label maps, for {len(cases)} cases",
            found="one file",
            fix="Give the folder, with label maps named like the images.",
        )
    for case in cases:
        find_label(labels, case)


def _check_output(cases: list[InputCase], arguments: argparse.Namespace) -> None:
    """Refuse a folder in which something would be overwritten."""
    paths = [path for case in cases for path in case.paths]
    folders = {path.parent.resolve(): "the input" for path in paths}
    folders |= {split_selector(path)[0].resolve(): "the input" for path in paths}  # DICOM series
    for path in arguments.checkpoint:
        folders[path.resolve().parent] = "the checkpoint"  # holds a run.json as well
    if arguments.labels is not None:
        folders[arguments.labels.resolve()] = "the labels"
    output = arguments.output.resolve()
    if output in folders:
        raise UserError(
            arguments.output,
            expected="an output folder of its own",
            found=f"the folder of {folders[output]}",
            fix="Choose another --output; files there would be overwritten.",
        )


def _check_extras(cases: list[InputCase], arguments: argparse.Namespace) -> None:
    """Refuse additional files that cannot be."""
    if arguments.dicom_seg:
        check_dicom_seg([case.paths[0] for case in cases])
    maps = [f"--{name}" for name in ("entropy", "probabilities") if getattr(arguments, name)]
    if maps and arguments.coarse is not None:
        raise UserError(
            "--coarse",
            expected="no maps: outside of where the fine model looks there are no logits",
            found=f"it with {' and '.join(maps)}",
            fix="Leave one of them out.",
        )
    if maps and arguments.protocol == "paper":
        raise UserError(
            "--protocol",
            expected="strict, where logits are brought back to the slice's size",
            found=f"paper with {' and '.join(maps)}",
            fix="Leave one of them out.",
        )


def _select_part(cases: list[InputCase], path: Path, part: str) -> list[InputCase]:
    """Keep the cases of one part of a split file."""
    names = set(_read_split(path).get(part, []))
    kept = [case for case in cases if case.name in names]
    if not kept:
        raise UserError(
            path,
            expected=f"cases of the {part} part among the inputs",
            found="none",
            fix="Give the folder that the run was trained on as --input.",
        )
    if len(kept) < len(names):
        print(f"{len(kept)} of {len(names)} {part} cases are among the inputs", file=sys.stderr)
    return kept


def _read_split(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(
            path,
            expected="the split.json of the run, beside the checkpoint",
            found="no such file",
            fix="Leave out --part, or give the checkpoint in its run folder.",
        )
    return read_json(path)
