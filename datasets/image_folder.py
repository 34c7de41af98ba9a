"""Pictures sorted into a folder per class: DIR/CLASS/*.png, or DIR/train/CLASS/*.png and so on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from datasets.cases import PARTS, Case, Dataset, Split, few
from datasets.sources import check_root, no_data
from swin_unet.config import DataConfig, UserError
from swin_unet.imaging import Volume, read_header, read_image, with_colours
from swin_unet.imaging.formats import PICTURE_SUFFIXES

GREY, COLOURS = ("grey",), ("red", "green", "blue")
Found = dict[str, list[Path]]


def read_image_folder(config: DataConfig) -> Dataset:
    """List the pictures below a folder; their classes are the names of their folders.

    With folders train, val or test, these are the split, else one is drawn. Where some pictures
    have colours, grey ones are given three equal channels.

    Raises:
        UserError: Missing folder, no or one class, a class without pictures, or other classes in
            another part.
    """
    root = check_root(config)
    parts = [part for part in PARTS if (root / part).is_dir()]
    found = {part: _pictures(root / part) for part in parts or ("",)}
    classes = _classes(root, found)
    cases, targets = [], {}
    names: dict[str, list[str]] = {part: [] for part in PARTS}
    for part, pictures in found.items():
        for value, name in enumerate(classes, start=1):
            for path in pictures.get(name, []):
                case = Case(path.relative_to(root).with_suffix("").as_posix(), (path,), (path,))
                cases.append(case)
                targets[case.name] = value
                names.get(part, []).append(case.name)
    _check_names(root, cases)
    split = Split(*(tuple(names[part]) for part in PARTS)) if parts else None
    channels = _channels(found)
    return Dataset(
        cases=tuple(sorted(cases, key=lambda case: case.name)),
        classes=dict(enumerate(classes, start=1)),
        channels=channels,
        split=split,
        targets=targets,
        read=read_colours if channels == COLOURS else None,
    )


def read_colours(case: Case) -> Volume:
    """Read a picture with three channels, equal ones where it is grey."""
    return with_colours(read_image(case.images))


def _pictures(folder: Path) -> Found:
    """List the pictures of every class."""
    return {
        place.name: sorted(
            path
            for path in place.iterdir()
            if path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".")
        )
        for place in sorted(folder.iterdir())
        if place.is_dir() and not place.name.startswith(".")
    }


def _classes(root: Path, found: Mapping[str, Found]) -> list[str]:
    """Return the names of the classes, which must be those of the training part."""
    part, first = next(iter(found.items()))
    if len(first) < 2:
        raise no_data(
            "image_folder",
            root / part,
            "a folder per class, two at least",
            few(list(first)) or "none",
        )
    empty = [
        f"{part}/{name}".lstrip("/")
        for part in found
        for name in found[part]
        if not found[part][name]
    ]
    if empty:
        raise UserError(
            root,
            expected="pictures in every class",
            found=f"none in {few(empty)}",
            fix=f"Add pictures ({', '.join(sorted(PICTURE_SUFFIXES))}), or remove the folders.",
        )
    for other, pictures in found.items():
        unknown = sorted(set(pictures) - set(first))
        if unknown:
            raise UserError(
                root / other,
                expected=f"the classes of {root / part}: {few(list(first))}",
                found=few(unknown),
                fix="Rename the folders, or add the classes to the training part.",
            )
    return list(first)


def _check_names(root: Path, cases: Sequence[Case]) -> None:
    """Refuse pictures that differ by their ending alone: their case would have one name."""
    seen: set[str] = set()
    for case in cases:
        if case.name in seen:
            raise UserError(
                root / case.name,
                expected="pictures of different names",
                found="two that differ by their ending",
                fix="Rename one of them.",
            )
        seen.add(case.name)


def _channels(found: Mapping[str, Found]) -> tuple[str, ...]:
    """Look at the first picture of every class."""
    firsts = [pictures[0] for part in found.values() for pictures in part.values()]
    return COLOURS if any(read_header(path).num_channels == 3 for path in firsts) else GREY
