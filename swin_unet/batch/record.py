"""What run.json says of a call: what segmented, with which settings, and how each case ended."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Container
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swin_unet.batch.stream import Outcome
from swin_unet.config import UserError
from swin_unet.files import read_json
from swin_unet.imaging.inputs import InputCase
from swin_unet.inference import VolumeSegmenter

# Of the settings, what the labels do not depend on, rounding errors aside.
_INDIFFERENT = frozenset({"device", "batch_size", "compile"})


@dataclass(frozen=True)
class Ending:
    """How a case ended, in values that can be sent to another process.

    Attributes:
        record: What run.json says of it; with `error`, if it failed.
        measured: What was asked for: `metrics` and `statistics` by class.
        is_users: Whether the user can mend what went wrong.
    """

    record: dict[str, Any]
    measured: dict[str, Any] = field(default_factory=dict)
    is_users: bool = False

    @classmethod
    def of(
        cls, outcome: Outcome[InputCase, dict[str, Any]], path: Path, done: Container[str]
    ) -> Ending:
        """Describe the outcome of a case whose label map is `path`."""
        record: dict[str, Any] = {"case": outcome.case.name}
        if outcome.error is not None:
            record["error"] = str(outcome.error) or repr(outcome.error)
            return cls(record, is_users=isinstance(outcome.error, UserError))
        record["output"] = str(path)
        if outcome.case.name in done:
            record["skipped"] = True
        else:
            record["seconds"] = round(outcome.seconds, 2)
        return cls(record, outcome.result or {})


def describe(segmenter: VolumeSegmenter, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what was used, whoever chose it."""
    paths = [path.resolve() for path in arguments.checkpoint]
    is_crop = segmenter.preprocessing.fit == "crop"
    return {
        "checkpoint": str(paths[0]) if len(paths) == 1 else [str(path) for path in paths],
        "checkpoint_sha256": [_sha256(path) for path in paths],
        "classes": list(segmenter.classes),
        "settings": {
            "preprocessing": segmenter.preprocessing.to_dict(),
            "protocol": segmenter.protocol,
            "backend": arguments.backend,
            "coarse": None if arguments.coarse is None else str(arguments.coarse.resolve()),
            "device": str(segmenter.device),
            "precision": segmenter.precision,
            "batch_size": segmenter.batch_size or "by device",
            "compile": arguments.compile,
            "overlap": segmenter.overlap if is_crop else None,
            "flips": list(arguments.flips),
            "scales": list(segmenter.scales),
            "largest_component": segmenter.cleanup.describe_largest(segmenter.classes),
            "min_volume_mm3": segmenter.cleanup.describe_volumes(segmenter.classes),
        },
    }


def check_same_settings(folder: Path, facts: dict[str, Any]) -> None:
    """Refuse to add to label maps that were made in another way.

    Raises:
        UserError: When the folder's run.json tells of other weights or settings.
    """
    path = folder / "run.json"
    if not path.is_file():
        return
    before, now = (_comparable(content) for content in (read_json(path), facts))
    differing = [key for key in now if before.get(key) != now[key]]
    if differing:
        key = differing[0]
        raise UserError(
            folder,
            expected=f"label maps made with the same {key.replace('_', ' ')}, for --skip-existing",
            found=f"{before.get(key)} instead of {now[key]}",
            fix="Choose another --output, or leave out --skip-existing to make them anew.",
        )


def _comparable(content: dict[str, Any]) -> dict[str, Any]:
    settings = content.get("settings", {})
    kept = {key: value for key, value in settings.items() if key not in _INDIFFERENT}
    return {"checkpoint_sha256": content.get("checkpoint_sha256"), **kept}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
