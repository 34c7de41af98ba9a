"""Files and folders named on a command line to cases: one output each, channels grouped."""

from __future__ import annotations

import glob
import re
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from swin_unet.config import UserError
from swin_unet.imaging.dicom import split_selector
from swin_unet.imaging.dicom_files import holds_dicom
from swin_unet.imaging.formats import SUPPORTED, VOLUME_SUFFIXES, family_of, split_name
from swin_unet.imaging.writers import output_suffix

_CHANNEL = re.compile(r"_(\d{4})$")
_NO_FILE_NAME = re.compile(r"[^\w.-]+")


@dataclass(frozen=True)
class InputCase:
    """One volume to segment.

    Attributes:
        name: File name without suffixes and without the channel number; of a DICOM folder its
            name, with that of the series if one was chosen.
        paths: One file or DICOM folder, or one per channel in order.
        output_name: File name of the label map, in the format of the input where it has one for
            label maps.
    """

    name: str
    paths: tuple[Path, ...]
    output_name: str


def find_cases(inputs: Iterable[Path]) -> list[InputCase]:
    """List the cases of files, folders and patterns, in order of their names within each folder.

    A folder with DICOM files is one case; so is FOLDER#SERIES. Any other folder stands for the
    volumes in it and the folders with DICOM files in it. Files that differ only in a channel
    number `_0000`, `_0001`, ... are one case; without a `_0000` among them such numbers are part
    of the names. A file named twice counts once.

    Raises:
        UserError: For a folder or pattern without volumes, two inputs that would write one file,
            or channels that are not numbered from 0 on.
    """
    files = [file for path in inputs for file in _expand(path)]
    unique = {(file.parent.resolve(), file.name): file for file in files}
    groups: dict[tuple[Path, str], list[Path]] = {}
    for (folder, _), file in unique.items():
        groups.setdefault((folder, _group_name(file, unique)), []).append(file)
    cases = [_case(name, paths) for (_, name), paths in groups.items()]
    _check_unique(cases)
    return cases


def find_label(folder: Path, case: InputCase) -> Path:
    """Return the label map of a case in a folder, of any format; a file is that of any case.

    Raises:
        UserError: When there is none, or several.
    """
    if folder.is_file():
        return folder
    suffixes = dict.fromkeys(
        name for ending in VOLUME_SUFFIXES for name in (ending, ending.upper())
    )
    paths = [folder / f"{case.name}{suffix}" for suffix in suffixes]
    found = [path for path in paths if path.is_file()]
    if len(found) == 1 or (found and all(path.samefile(found[0]) for path in found)):
        return found[0]
    raise UserError(
        folder,
        expected=f"a label map {case.name}.nii.gz, or one file of this name in another format",
        found=", ".join(path.name for path in found) or "none",
        fix="Keep one of them."
        if found
        else "Name the label maps like the images, or leave out --labels.",
    )


def holds_classes(folder: Path) -> bool:
    """Tell whether a folder holds folders only, as one with a folder per class does."""
    if not folder.is_dir():
        return False
    children = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return bool(children) and all(path.is_dir() for path in children)


def _expand(path: Path) -> list[Path]:
    """List what a path of the command line stands for; a missing file for itself.

    The reader reports a missing file, as one failed case.
    """
    if split_selector(path)[1] is not None:
        return [path]
    if path.is_dir():
        files = _expand_folder(path)
        if not files:
            raise _nothing_in(path)
        return files
    if path.exists() or not glob.has_magic(str(path)):
        return [path]
    files = [file for match in sorted(glob.glob(str(path))) for file in _expand_match(Path(match))]
    if not files:
        raise _nothing_in(path)
    return files


def _expand_match(path: Path) -> list[Path]:
    """List what a match of a pattern stands for, which need not be meant as an input."""
    if path.is_dir():
        return _expand_folder(path)
    return [path] if family_of(path) else []


def _expand_folder(folder: Path) -> list[Path]:
    """List the cases of a folder: itself if it holds a DICOM series, otherwise what is in it."""
    children = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    files = [path for path in children if path.is_file() and _is_volume(path)]
    if holds_dicom(folder):
        others = [path for path in files if family_of(path) in ("nifti", "itk")]
        if others:
            raise UserError(
                folder,
                expected="a DICOM series, or volumes in files",
                found=f"both: DICOM files and {others[0].name}",
                fix="Move one kind to another folder, or name the files.",
            )
        return [folder if folder.name not in ("", "..") else folder.resolve()]
    return [*files, *(path for path in children if path.is_dir() and holds_dicom(path))]


def _is_volume(path: Path) -> bool:
    return family_of(path) not in (None, "dicom")


def _nothing_in(path: Path) -> UserError:
    return UserError(
        path,
        expected=SUPPORTED,
        found="none in this folder" if path.is_dir() else "nothing that this pattern fits",
        fix="Name the folder that holds the images.",
    )


def _group_name(file: Path, files: Container[tuple[Path, str]]) -> str:
    """Return the name of a file without its channel number, if that is what the number is.

    Its suffix stays: a.mha and a.nii are two cases.
    """
    stem, suffix = split_name(file)
    name = _CHANNEL.sub("", stem)
    is_channel = (file.parent.resolve(), f"{name}_0000{suffix}") in files
    return f"{name}{suffix}" if is_channel else file.name


def _case(group_name: str, paths: Sequence[Path]) -> InputCase:
    """Make a case of a file, or of its channels."""
    paths = sorted(paths)
    name = _case_name(paths[0].with_name(group_name))
    case = InputCase(name, tuple(paths), f"{name}{output_suffix(paths[0])}")
    if len(paths) == 1:
        return case
    numbers = [_CHANNEL.search(split_name(path)[0]) for path in paths]
    found = [int(match[1]) if match else -1 for match in numbers]
    if found != list(range(len(paths))):
        raise UserError(
            paths[0],
            expected=f"channels _0000 to _{len(paths) - 1:04d} of this case",
            found=", ".join(path.name for path in paths),
            fix="Rename or remove the surplus files.",
        )
    return case


def _case_name(path: Path) -> str:
    folder, series = split_selector(path)
    if series is not None:
        return _NO_FILE_NAME.sub("_", f"{folder.resolve().name}_{series}")
    return path.name if path.is_dir() else split_name(path)[0]


def _check_unique(cases: Sequence[InputCase]) -> None:
    seen: dict[str, InputCase] = {}
    for case in cases:
        other = seen.setdefault(case.name, case)
        if other is not case:
            is_same_file = case.output_name == other.output_name
            raise UserError(
                case.paths[0],
                expected="one output file per input" if is_same_file else "one input per case",
                found=f"that {other.paths[0]} would write {case.output_name} as well"
                if is_same_file
                else f"{other.paths[0]} of the same name",
                fix="Segment them in two calls with two output folders.",
            )
