"""Images and label maps that belong together, by their names; nothing has to be renamed."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets.cases import few
from swin_unet.config import UserError
from swin_unet.imaging import split_name
from swin_unet.imaging.dicom_files import holds_dicom
from swin_unet.imaging.formats import VOLUME_SUFFIXES

_GLOB = re.compile(r"[*?\[]")
_ANY_ENDING = re.compile(r"\.(nii)?\.?\*$")
CHANNEL = re.compile(r"_(\d{4})$")
_IMAGE_WORDS = "image|images|img|imgs|scan|volume|vol"
_LABEL_WORDS = (
    "label|labels|lbl|seg|segm|segmentation|mask|masks|gt|groundtruth|ground_truth|annotation|"
    "manual|contour|contours"
)


@dataclass(frozen=True)
class Entry:
    """A file or DICOM folder that was found.

    Attributes:
        path: Where it is.
        name: The file name without its ending; in a pattern with folders, also what these are.
        key: What the wildcards of the pattern stand for; without a pattern the name.
    """

    path: Path
    name: str
    key: str


def list_entries(root: Path, place: str, option: str) -> list[Entry]:
    """List the images or label maps of a folder, or those that a glob pattern matches.

    Args:
        root: What `place` is relative to.
        place: A folder, a file, or a pattern such as `*/image.nii.gz`, `**` being any folders.
        option: Where it came from, for the message.

    Raises:
        UserError: Nothing there, or two files of one name.
    """
    is_pattern = _GLOB.search(place) and not (root / place).exists()
    entries = _matches(root, place) if is_pattern else _contents(root / place, option)
    entries = [entry for entry in entries if _is_readable(entry.path)]
    if not entries:
        raise UserError(
            option,
            expected="files of volumes or pictures, or folders of DICOM files",
            found=f"none at {root / place}",
            fix="Correct the folder or pattern; it is relative to data.root.",
        )
    check_names(root / place, [entry.name for entry in entries])
    return sorted(entries, key=lambda entry: entry.name)


def group_channels(entries: Sequence[Entry]) -> dict[Entry, tuple[Path, ...]]:
    """Return the files of every case: those that differ in `_0000`, `_0001`, ... are one.

    Without a `_0000` among them such numbers are part of the names.

    Returns:
        The first file, with name and key of the case, to all files.

    Raises:
        UserError: Channels that are not numbered from 0 on.
    """
    names = {entry.name for entry in entries}
    cases: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        name = CHANNEL.sub("", entry.name)
        cases[name if f"{name}_0000" in names else entry.name].append(entry)
    groups = {}
    for name, files in cases.items():
        files.sort(key=lambda entry: entry.name)
        found = [entry.name for entry in files]
        expected = [f"{name}_{index:04d}" for index in range(len(files))]
        if len(files) > 1 and found != expected:
            raise UserError(
                files[0].path.parent,
                expected=f"{few(expected)} as the channels of {name}",
                found=few(found),
                fix="Rename or remove the surplus files.",
            )
        key = files[0].key if name == found[0] else CHANNEL.sub("", files[0].key)
        groups[Entry(files[0].path, name, key)] = tuple(entry.path for entry in files)
    return groups


def pair_labels(
    images: Sequence[Entry], labels: Sequence[Entry], subject: str
) -> dict[Entry, Entry]:
    """Find the label map of every image: of the same name, or the same but for a word.

    Such words are `seg`, `label`, `mask`, `gt` and the like on a label map, `img`, `image` and
    the like on an image, before or behind the rest. What the wildcards of two patterns stand for
    counts as a name. A single image and a single label map belong together.

    Args:
        images: One entry per case.
        labels: One entry per label map.
        subject: What to name in a message.

    Returns:
        The pairs; images without a label map are left out.

    Raises:
        UserError: Label maps without an image, or several candidates.
    """
    if len(images) == len(labels) == 1:
        return {images[0]: labels[0]}
    same: dict[str, list[Entry]] = defaultdict(list)
    similar: dict[str, list[Entry]] = defaultdict(list)
    for image in images:
        for name in {image.name, image.key}:
            same[name].append(image)
        similar[_bare(image.key, _IMAGE_WORDS)].append(image)
    found: dict[Entry, list[str]] = defaultdict(list)
    pairs, orphans, doubtful = {}, [], []
    for label in labels:
        candidates = same.get(label.key) or same.get(label.name) or []
        candidates = candidates or similar.get(_bare(label.key, _LABEL_WORDS), [])
        if len(candidates) == 1:
            pairs[candidates[0]] = label
            found[candidates[0]].append(label.name)
        elif candidates:
            doubtful.append(f"{label.name} ({', '.join(item.name for item in candidates[:3])})")
        else:
            orphans.append(label.name)
    doubtful += [
        f"{image.name} ({', '.join(names)})" for image, names in found.items() if names[1:]
    ]
    _check_pairs(subject, [image.name for image in images], orphans, doubtful)
    return pairs


def check_names(subject: str | Path, names: Sequence[str]) -> None:
    """Raise UserError when a name of a case occurs twice."""
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated:
        raise UserError(
            subject,
            expected="different names for all cases",
            found=f"{few(repeated)} more than once",
            fix="List every case once, under a name of its own.",
        )


def _matches(root: Path, pattern: str) -> list[Entry]:
    """List what a pattern matches."""
    if anchor := Path(pattern).anchor:  # an absolute pattern
        root, pattern = Path(anchor), pattern.removeprefix(anchor)
    bare = Path(pattern).with_name(_stem(_ANY_ENDING.sub("", Path(pattern).name)))
    wildcards = re.compile(_as_expression(bare.as_posix()))
    entries = []
    for path in root.glob(pattern):
        relative = path.relative_to(root).with_name(_stem(path.name))
        match = wildcards.fullmatch(relative.as_posix())
        stands_for = [text for text in match.groups() if text] if match else []
        key = "_".join(stands_for).replace("/", "_") or relative.name
        entries.append(Entry(path, _name(relative.parts, bare.parts, key), key))
    return entries


def _name(parts: Sequence[str], pattern: Sequence[str], key: str) -> str:
    """Name a match: by its file, or where its folders differ, by all that differs."""
    if not any(_GLOB.search(wanted) for wanted in pattern[:-1]):
        return parts[-1]
    if "**" in pattern:
        return key
    varying = (part for part, wanted in zip(parts, pattern, strict=True) if _GLOB.search(wanted))
    return "_".join(varying)


def _as_expression(pattern: str) -> str:
    """Turn a glob pattern into a regular expression with a group for every wildcard."""
    table = {"**/": "(?:(.*)/)?", "*": "([^/]*)", "?": "([^/])"}
    expression = ""
    for token in re.split(r"(\*\*/|\*+|\?|\[[^\]]*\])", pattern):
        is_set = token.startswith("[")
        literal = f"({token.replace('[!', '[^')})" if is_set else re.escape(token)
        expression += table.get(token, literal)
    return expression


def _contents(place: Path, option: str) -> list[Entry]:
    """List what a folder holds; hidden files such as a Mac's ._name are none of ours."""
    if not place.exists():
        raise UserError(
            option,
            expected="an existing folder or file, or a pattern with *",
            found=f"{place}, which is not there",
            fix="Correct it; it is relative to data.root.",
        )
    is_one = place.is_file() or holds_dicom(place)
    paths = [place] if is_one else [path for path in place.iterdir() if path.name[0] != "."]
    names = [_stem(path.name) if path.is_file() else path.name for path in paths]
    return [Entry(path, name, name) for path, name in zip(paths, names, strict=True)]


def _stem(name: str) -> str:
    return split_name(Path(name))[0]


def _is_readable(path: Path) -> bool:
    if path.is_dir():
        return holds_dicom(path)
    return not path.name.startswith(".") and split_name(path)[1].lower() in VOLUME_SUFFIXES


def _bare(name: str, words: str) -> str:
    """Return a name without such a word before or behind it; a number needs no separator."""
    affix = rf"^(?:{words})(?:[-_. ]+|(?=\d))|[-_. ]+(?:{words})$"
    shorter = re.sub(affix, "", name, flags=re.IGNORECASE)
    return _bare(shorter, words) if shorter not in ("", name) else name


def _check_pairs(
    subject: str, images: Sequence[str], orphans: Sequence[str], doubtful: Sequence[str]
) -> None:
    found = []
    if orphans:
        found.append(f"no image for {few(orphans)} (images: {few(images)})")
    if doubtful:
        found.append(f"several candidates for {few(doubtful)}")
    if found:
        raise UserError(
            subject,
            expected="one image for every label map, of the same name",
            found="; ".join(found),
            fix="Name the pairs by patterns such as *_seg.nii.gz, or in a data.list_file.",
        )
