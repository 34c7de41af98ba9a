"""Stopping in order: by signals, and never in the middle of a step."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(Exception):  # noqa: N818, it is no error
    """Training ended before its time, with its state saved.

    Args:
        reason: What the user is told.
        exit_code: Of the command: 0, or 128 plus the number of the signal.
    """

    def __init__(self, reason: str, exit_code: int) -> None:
        super().__init__(reason)
        self.exit_code = exit_code


class StopRequest:
    """Remembers the first SIGINT or SIGTERM; the second one ends the process at once.

    A context manager: the previous handlers come back at its end. Signals reach the main thread
    only, so in any other this does nothing.

    Args:
        heeds_repeats: Whether the second signal ends the process. torchrun and SLURM both pass
            signals on, so one of its processes may get the same one twice; torchrun ends it anyway
            after half a minute.
    """

    def __init__(self, heeds_repeats: bool = True) -> None:
        self.signal: int | None = None
        self._after = signal.SIG_DFL if heeds_repeats else signal.SIG_IGN
        self._process = os.getpid()
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._remember) for number in _SIGNALS}
            if hasattr(signal, "SIGCHLD"):
                self._previous[signal.SIGCHLD] = signal.getsignal(signal.SIGCHLD)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a loader worker: it ends with the main process
            return
        self.signal = number
        for each in _SIGNALS:
            signal.signal(each, self._after)
        if self._after == signal.SIG_DFL:
            # Printing is not safe here: the signal may have come in the middle of a print.
            os.write(2, b"\nstopping after this step; once more stops at once\n")

    def let_workers_die(self) -> None:
        """Keep the death of a loader worker from raising wherever the main process just is.

        torch raises from its SIGCHLD handler, be it in the middle of an optimizer step, after
        which nothing could be saved. Without the handler, the next wait for a batch tells, within
        some seconds. To be called when workers have been started.
        """
        number = getattr(signal, "SIGCHLD", None)  # Windows has none
        if number in self._previous:
            signal.signal(number, signal.SIG_DFL)

    def stopped(self) -> Stopped:
        """Return the exception that ends the run."""
        if self.signal is None:
            return Stopped("stopped by a signal to another process", 128 + signal.SIGTERM)
        return Stopped(f"stopped by {signal.Signals(self.signal).name}", 128 + self.signal)
