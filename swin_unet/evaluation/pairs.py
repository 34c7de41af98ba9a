"""Predicted and reference label maps of the same case."""

from __future__ import annotations

import sys
from pathlib import Path

from swin_unet.config import UserError
from swin_unet.imaging.formats import VOLUME_SUFFIXES, split_name


def pair_files(predictions: Path, labels: Path) -> list[tuple[str, Path, Path]]:
    """Pair two files, or the files of two folders by name whatever their format.

    Labels without a prediction are left out, and said so on stderr.

    Returns:
        Case name, prediction and label of each case, sorted by name.

    Raises:
        UserError: For a prediction without a label, and for names that occur twice.
    """
    if predictions.is_file() and labels.is_file():
        return [(split_name(predictions)[0], predictions, labels)]
    prediction_paths, label_paths = _list_folder(predictions), _list_folder(labels)
    unpaired = [name for name in prediction_paths if name not in label_paths]
    if unpaired:
        raise UserError(
            labels,
            expected=f"a label map for every prediction in {predictions}",
            found=f"none for {', '.join(unpaired[:5])}{', ...' if unpaired[5:] else ''}",
            fix="Give both the same file name, or move these predictions elsewhere.",
        )
    num_left = len(label_paths) - len(prediction_paths)
    if num_left:
        print(f"{num_left} label maps have no prediction and are not scored", file=sys.stderr)
    return [(name, path, label_paths[name]) for name, path in sorted(prediction_paths.items())]


def _list_folder(folder: Path) -> dict[str, Path]:
    """Return the label maps of a folder by case name, hidden ones (macOS leaves some) aside."""
    if not folder.is_dir():
        raise UserError(
            folder,
            expected="a folder, or two files",
            found="a single file" if folder.exists() else "nothing there",
            fix="Give two folders or two files.",
        )
    paths = [
        path
        for path in sorted(folder.iterdir())
        if split_name(path)[1].lower() in VOLUME_SUFFIXES and not path.name.startswith(".")
    ]
    by_name = {split_name(path)[0]: path for path in paths}
    if not paths or len(by_name) < len(paths):
        twice = [path.name for path in paths if path not in by_name.values()]
        raise UserError(
            folder,
            expected="one label map per case",
            found=f"another file for the case of {twice[0]}" if twice else "none",
            fix="Keep one of them only." if twice else "Check the path for typing errors.",
        )
    return by_name
