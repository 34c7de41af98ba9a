"""What made a result: versions, hardware, commit, times, as plain values for run.json."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from swin_unet import __version__
from swin_unet.config import UserError
from swin_unet.files import atomic_path

_PACKAGES = (
    "torch", "monai", "nibabel", "SimpleITK", "albumentations", "numpy", "scipy", "tensorboard",
)  # fmt: skip


class Provenance:
    """Collects facts about a run from its start on and writes them to run.json.

    Args:
        facts: What is particular to the run: configuration, inputs, checkpoint.
    """

    def __init__(self, **facts: Any) -> None:
        self.facts = {**describe_software(), **describe_hardware(), **facts}
        self.facts["started"] = datetime.now(UTC).isoformat(timespec="seconds")
        self._start = time.monotonic()

    def write(self, path: Path, **results: Any) -> None:
        """Write all facts, the results and the seconds since the start as JSON."""
        seconds = round(time.monotonic() - self._start, 2)
        write_json(path, {**self.facts, "seconds": seconds, **results})


@contextmanager
def told(provenance: Provenance, path: Path) -> Iterator[dict[str, Any]]:
    """Write run.json now and at the end, with what the block adds to the yielded outcome.

    `finished` is true once the block has ended well and has not said otherwise.
    """
    outcome: dict[str, Any] = {"status": "finished", "finished": True}
    provenance.write(path, status="running", finished=False)
    try:
        yield outcome
    except BaseException as error:
        outcome |= {"status": f"failed: {error}", "finished": False}
        with suppress(UserError):  # the disk may be full
            provenance.write(path, **outcome)
        raise
    provenance.write(path, **outcome)


def sessions_before(path: Path) -> list[dict[str, Any]]:
    """Return what an interrupted run's run.json tells about the time before."""
    try:
        before = json.loads(path.read_text(encoding="utf8"))
    except (OSError, ValueError):
        return []
    keys = ("started", "seconds", "status", "command", "git_commit")
    return [*before.get("sessions", []), {key: before.get(key) for key in keys}]


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write strict JSON: the whole file or none of it."""
    text = json.dumps(content, indent=1, allow_nan=False, default=str)
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf8")


def describe_software() -> dict[str, Any]:
    """Return the command, the commit and the versions of what computes."""
    return {
        "command": sys.argv,
        "swin_unet": __version__,
        **_git_state(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def describe_hardware() -> dict[str, Any]:
    """Return the operating system, processor, cores and GPUs."""
    import torch

    cuda = range(torch.cuda.device_count())
    return {
        "platform": platform.platform(),
        "processor": _processor(),
        "cpu_count": os.cpu_count(),
        "num_threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(index) for index in cuda],
        "cuda": torch.version.cuda,
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _git_state() -> dict[str, Any]:
    """Return the checkout's commit, and whether files differ from it; None outside of git."""
    commit = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return {"git_commit": commit, "git_dirty": None if changes is None else bool(changes)}


def _git(*arguments: str) -> str | None:
    folder = Path(__file__).resolve().parent
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def hash_plain(value: Any) -> str:
    """Hash lists, dicts, numbers and strings."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
