"""Files and folders named on a command line to cases: one output each, channels grouped."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from swin_unet.config import UserError
from swin_unet.imaging.readers import NIFTI_SUFFIXES

_CHANNEL = re.compile(r"_(\d{4})$")


@dataclass(frozen=True)
class InputCase:
    """One volume to segment.

    Attributes:
        name: File name without suffixes and without the channel number.
        paths: One file, or one per channel in order.
        output_name: File name of the label map, in the format of the input.
    """

    name: str
    paths: tuple[Path, ...]
    output_name: str


def find_cases(inputs: Iterable[Path]) -> list[InputCase]:
    """List the cases of files and folders, in order of their names within each folder.

    Files that differ only in a channel number `_0000`, `_0001`, ... are one case; without a
    `_0000` among them such numbers are part of the names. A file named twice counts once.

    Raises:
        UserError: For a folder without NIfTI files, two inputs that would write one file, or
            channels that are not numbered from 0 on.
    """
    files = [file for path in inputs for file in _expand(path)]
    unique = {(file.parent.resolve(), file.name): file for file in files}
    groups: dict[tuple[Path, str], list[Path]] = {}
    for (folder, _), file in unique.items():
        groups.setdefault((folder, _name(file, unique)), []).append(file)
    cases = [_case(name, paths) for (_, name), paths in groups.items()]
    _check_unique(cases)
    return cases


def split_name(path: Path) -> tuple[str, str]:
    """Split a file name into stem and NIfTI suffix; an empty suffix for other files."""
    for suffix in NIFTI_SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)], path.name[-len(suffix) :]
    return path.name, ""


def find_label(folder: Path, case: InputCase) -> Path:
    """Return the label map of a case in a folder, with any NIfTI suffix.

    Raises:
        UserError: When there is none.
    """
    for suffix in NIFTI_SUFFIXES:
        if (folder / f"{case.name}{suffix}").is_file():
            return folder / f"{case.name}{suffix}"
    raise UserError(
        folder,
        expected=f"a label map {case.name}.nii.gz",
        found="none",
        fix="Name the label maps like the images, or leave out --labels.",
    )


def _expand(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]  # a missing file is reported by the reader, as one failed case
    files = sorted(file for file in path.iterdir() if _is_volume(file))
    if not files:
        raise UserError(
            path,
            expected="NIfTI files (.nii or .nii.gz)",
            found="none in this folder",
            fix="Name the folder that holds the images.",
        )
    return files


def _is_volume(file: Path) -> bool:
    return file.is_file() and not file.name.startswith(".") and bool(split_name(file)[1])


def _name(file: Path, files: Container[tuple[Path, str]]) -> str:
    """Return the stem of a file without its channel number, if that is what the number is."""
    stem, suffix = split_name(file)
    name = _CHANNEL.sub("", stem)
    return name if (file.parent.resolve(), f"{name}_0000{suffix}") in files else stem


def _case(name: str, paths: Sequence[Path]) -> InputCase:
    suffix = split_name(paths[0])[1]
    if len(paths) == 1:
        return InputCase(name, tuple(paths), f"{name}{suffix}")
    numbers = [_CHANNEL.search(split_name(path)[0]) for path in sorted(paths)]
    found = [int(match[1]) if match else -1 for match in numbers]
    if found != list(range(len(paths))):
        raise UserError(
            paths[0],
            expected=f"channels _0000 to _{len(paths) - 1:04d} of this case",
            found=", ".join(path.name for path in sorted(paths)),
            fix="Rename or remove the surplus files.",
        )
    return InputCase(name, tuple(sorted(paths)), f"{name}{suffix}")


def _check_unique(cases: Sequence[InputCase]) -> None:
    seen: dict[str, InputCase] = {}
    for case in cases:
        other = seen.setdefault(case.output_name, case)
        if other is not case:
            raise UserError(
                case.paths[0],
                expected="one output file per input",
                found=f"that {other.paths[0]} would write {case.output_name} as well",
                fix="Segment them in two calls with two output folders.",
            )
