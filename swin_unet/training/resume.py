"""Which checkpoint a run continues from, and whether it is the same run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swin_unet import checkpoint as checkpoints
from swin_unet.config import Config, UserError, to_plain
from swin_unet.training.board import flatten

# Where a run happens, how often it saves and when it stops may change; what it computes may not.
# Neither the speed of a compiled network nor the kind of a GPU's algorithms is promised to the bit.
FREE_KEYS = frozenset({
    "output_dir", "data.root", "data.cache_dir", "train.device", "train.num_workers",
    "train.patience", "train.max_minutes", "train.save_minutes", "train.test",
    "train.deterministic", "train.compile", "inference.batch_size",
})  # fmt: skip
_MANY = 8


@dataclass(frozen=True)
class Restart:
    """The checkpoint that a run continues from.

    Attributes:
        path: Of the file.
        content: What it holds.
        notes: What the user is to know.
    """

    path: Path
    content: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def find_restart(folder: Path, resume: str | None) -> Restart | None:
    """Decide what to resume; a folder that holds a run is only touched to continue that run.

    Args:
        folder: The run folder.
        resume: `auto`: its last.pt, or last.previous.pt when that one is damaged, or nothing when
            there is no run; the path of a checkpoint; None: a new run.

    Raises:
        UserError: The folder holds another run; or no checkpoint to resume from, which is
            complete and undamaged.
    """
    last = folder / "last.pt"
    candidates = [path for path in (last, checkpoints.previous_path(last)) if path.is_file()]
    holds_run = bool(candidates) or (folder / "best.pt").is_file()
    if resume == "auto" and not holds_run:
        return None
    if resume == "auto":
        return _load_first(candidates or [last])
    path = Path(resume) if resume else None
    if holds_run and (path is None or path.resolve().parent != folder.resolve()):
        raise UserError(
            folder,
            expected="a new run folder",
            found="a run",
            fix="Add --resume auto to continue it, or choose another --output_dir.",
        )
    return Restart(path, _load(path)) if path else None


def _load_first(candidates: list[Path]) -> Restart:
    """Load the first checkpoint that is whole."""
    errors: list[UserError] = []
    for path in candidates:
        try:
            notes = [f"{error} Going on from {path.name} instead." for error in errors]
            return Restart(path, _load(path), notes)
        except UserError as error:
            errors.append(error)
    raise errors[0]


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(
            path,
            expected="a checkpoint to resume",
            found="no such file",
            fix="Give the path of a last.pt, or --resume auto.",
        )
    content = checkpoints.load(path)
    if "training" not in content:
        raise UserError(
            path,
            expected="a last.pt with the optimizer's state",
            found="a checkpoint for inference only, or one of an older version",
            fix="Resume from the last.pt of the run folder.",
        )
    return content


def resume_command(argv: Sequence[str], num_processes: int) -> str:
    """Return the command that continues a run which was started with these arguments."""
    start = "python" if num_processes == 1 else "torchrun [as before]"
    words, skip = [], False
    for word in argv:
        if not (skip or word == "--resume" or word.startswith("--resume=")):
            words.append(word)
        skip = word == "--resume"
    return f"{start} train.py {shlex.join([*words, '--resume', 'auto'])}"


def check_config(restart: Restart, config: Config) -> None:
    """Refuse to continue a run by another recipe.

    Args:
        restart: What is to be continued.
        config: The configuration to continue with.

    Raises:
        UserError: With every key that differs, as `key: old -> new`.
    """
    old = dict(flatten(to_plain(Config()))) | dict(flatten(restart.content["config"]))
    new = dict(flatten(to_plain(config)))
    changes = [key for key in new if key not in FREE_KEYS and new[key] != old[key]]
    if changes == ["train.epochs"] and _may_go_on(restart.content, new["train.epochs"]):
        return
    if changes:
        found = ", ".join(f"{key}: {old[key]} -> {new[key]}" for key in changes[:_MANY])
        raise UserError(
            restart.path,
            expected="the options that the run was started with",
            found=found + (", ..." if changes[_MANY:] else ""),
            fix="Take them back, or start a new run in another --output_dir."
            + _epochs_hint(changes),
        )


def _may_go_on(content: dict[str, Any], epochs: int) -> bool:
    """Tell whether the run is done with all its epochs and is to get more of them."""
    planned = content["config"]["train"]["epochs"]
    return bool(content["epoch"] >= planned < epochs)


def _epochs_hint(changes: list[str]) -> str:
    if "train.epochs" not in changes:
        return ""
    return " More train.epochs, and nothing else, may be given once the run has done all it had."


def check_data(restart: Restart, facts: Mapping[str, Any]) -> None:
    """Refuse to continue a run on other data.

    Args:
        restart: What is to be continued.
        facts: The `split`, and `contents`: a hash of the files of every case that trains or
            validates.

    Raises:
        UserError: The split or a file is another one.
    """
    before = restart.content["training"]["facts"]
    if before["split"] != facts["split"]:
        raise UserError(
            restart.path.parent / "split.json",
            expected="the split that the run was started with",
            found="another one",
            fix="Restore the file; the checkpoint holds the split too.",
        )
    known = before.get("contents", {})  # absent in old checkpoints
    changed = [name for name, value in known.items() if facts["contents"].get(name) != value]
    if changed:
        raise UserError(
            restart.path,
            expected="the files that the run was started with",
            found=f"other contents for {', '.join(changed[:_MANY])}"
            + (", ..." if changed[_MANY:] else ""),
            fix="Restore them, or start a new run in another --output_dir.",
        )
