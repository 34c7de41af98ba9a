"""Options of inference that do not go together."""

from __future__ import annotations

from collections.abc import Mapping

from swin_unet.config import UserError
from swin_unet.imaging import Preprocessing


def check_overlap(preprocessing: Preprocessing, overlap: float | None) -> None:
    """Refuse an overlap where nothing slides."""
    if overlap is not None and preprocessing.fit != "crop":
        raise UserError(
            "--overlap",
            expected="no value for a checkpoint of fit resize",
            found=str(overlap),
            fix="Remove it: whole slices are resized, nothing slides.",
        )


def check_protocol(
    protocol: str, preprocessing: Preprocessing, additions: Mapping[str, bool]
) -> None:
    """Refuse what the original's evaluation did not do: the numbers would be no one's.

    Args:
        protocol: `strict` goes with everything.
        preprocessing: Of the checkpoint.
        additions: Whether each of these, by its name, was asked for.
    """
    if protocol == "strict":
        return
    if preprocessing.fit != "resize":
        raise UserError(
            "--protocol",
            expected="strict for a checkpoint of fit crop",
            found="paper, which resizes whole slices",
            fix="Remove it, or train with --data.fit resize.",
        )
    found = [name for name, is_asked_for in additions.items() if is_asked_for]
    if found:
        raise UserError(
            "--protocol",
            expected="strict, or nothing that the published evaluation did not do",
            found=f"paper with {', '.join(found)}",
            fix="Leave one of them out.",
        )
