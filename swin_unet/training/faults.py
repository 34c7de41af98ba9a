"""What can go wrong with the data while a run goes on, in words that help."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from typing import Any

from swin_unet.config import UserError

_MISSING = re.compile(r"No such file or directory: '(?P<path>[^']+)'")
# How torch hands on what was raised within a loader process: a text that holds its traceback.
_HANDED_ON = re.compile(r"Caught \w+ in DataLoader worker process")


def loader_processes(loader: Any, iterator: Any = None) -> Sequence[BaseProcess]:
    """Return the processes that make the batches of a torch loader.

    Args:
        loader: Has the torch iterator, if its processes outlive an epoch.
        iterator: Of the loader: torch's, or one that wraps it; None: not begun yet.
    """
    holders = (iterator, getattr(loader, "_iterator", None))
    found = (getattr(holder, "_workers", None) for holder in holders)
    return next((workers for workers in found if workers), ())


def loader_fault(error: Exception, workers: Sequence[BaseProcess] = ()) -> UserError | None:
    """Say what a user can do about a failure to get the next batch; None: it is our bug.

    Args:
        error: What was raised.
        workers: The loader processes. Many kinds of errors come from one that is gone.
    """
    text = str(error).strip()
    ended = None if _HANDED_ON.search(text) else _find_ended(workers)
    if ended is not None:
        return UserError(
            "train.num_workers",
            expected="loader processes that live as long as the training",
            found=f"one ended by {_cause(ended)}",
            fix="Mostly the system has ended it for lack of memory, main or shared (/dev/shm): "
            "lower train.num_workers, and go on with --resume auto.",
        )
    if not isinstance(error, OSError):
        return None
    last_line = text.splitlines()[-1] if text else type(error).__name__
    missing = _MISSING.search(last_line)
    return UserError(
        missing["path"] if missing else "the slices of the training cases",
        expected="the cached slices of a training case",
        found="nothing there any more" if missing else last_line,
        fix="Go on with --resume auto, which builds what is missing in data.cache_dir again.",
    )


def _find_ended(workers: Sequence[BaseProcess]) -> BaseProcess | None:
    """Find a process that has ended by itself, or is about to."""
    for worker in workers:
        worker.join(timeout=0.2)
        if worker.exitcode is not None:  # 0: torch ends a process so that gets SIGTERM
            return worker
    return None


def _cause(process: BaseProcess) -> str:
    code = process.exitcode or 0
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
