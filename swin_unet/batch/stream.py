"""Three stages side by side: read the next case, compute this one, write the last one.

At most one case is being read, one computed and one written, so that memory is bounded by three.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

Case = TypeVar("Case")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Stages(Generic[Case, Result]):
    """What is done to a case.

    Attributes:
        read: In a thread; what it returns is for `compute`.
        compute: In the thread of the caller; what it returns is for `write`.
        write: In another thread, one case at a time; what is begun is finished.
        may_read_ahead: Says whether a case may be read while the one before it is computed.
    """

    read: Callable[[Case], Any]
    compute: Callable[[Case, Any], Any]
    write: Callable[[Case, Any], Result]
    may_read_ahead: Callable[[Case], bool]


@dataclass(frozen=True)
class Outcome(Generic[Case, Result]):
    """How a case ended.

    Attributes:
        case: The case.
        result: What `write` returned; None after an error.
        error: What a stage raised, if one did.
        seconds: Of all three stages, waiting not counted.
    """

    case: Case
    result: Result | None
    error: Exception | None
    seconds: float


def process(cases: Sequence[Case], stages: Stages[Case, Result]) -> Iterator[Outcome[Case, Result]]:
    """Take all cases through the stages; yield how they ended, in order.

    An exception in a stage ends its case only. What ends the caller (Ctrl-C) waits for the file
    that is being written; a second Ctrl-C does not.
    """
    reader, writer = _Worker(_reading(stages)), _Worker(_writing(stages))
    try:
        reader.start()
        writer.start()
        yield from _process(cases, stages, reader, writer)
        reader.close()
    finally:
        reader.end()
        writer.close()


def _process(
    cases: Sequence[Case], stages: Stages[Case, Result], reader: _Worker, writer: _Worker
) -> Iterator[Outcome[Case, Result]]:
    if not cases:
        return
    reader.put(cases[0])
    for number, (case, following) in enumerate(zip(cases, [*cases[1:], None], strict=True)):
        loaded: _Attempt = reader.get()
        is_ahead = following is not None and stages.may_read_ahead(following)
        if is_ahead:
            reader.put(following)
        computed = loaded.then(stages.compute, case)
        del loaded
        if following is not None and not is_ahead:
            reader.put(following)
        if number > 0:
            yield writer.get()
        writer.put(case, computed)
        del computed
    yield writer.get()


def _reading(stages: Stages[Case, Result]) -> Callable[[Case], _Attempt]:
    return lambda case: _attempt(stages.read, case)


def _writing(stages: Stages[Case, Result]) -> Callable[[Case, _Attempt], Outcome[Case, Result]]:
    def write(case: Case, computed: _Attempt) -> Outcome[Case, Result]:
        attempt = computed.then(stages.write, case)
        return Outcome(case, attempt.value, attempt.error, attempt.seconds)

    return write


@dataclass(frozen=True)
class _Attempt:
    """What a stage returned or raised."""

    value: Any
    error: Exception | None
    seconds: float

    def then(self, stage: Callable[[Any, Any], Any], case: Any) -> _Attempt:
        """Do the next stage, unless this one failed."""
        if self.error is not None:
            return self
        return _attempt(stage, case, self.value, spent=self.seconds)


def _attempt(stage: Callable[..., Any], *arguments: Any, spent: float = 0.0) -> _Attempt:
    started = time.monotonic()
    value, error = None, None
    try:
        value = stage(*arguments)
    except Exception as caught:
        error = caught
    return _Attempt(value, error, spent + time.monotonic() - started)


class _Worker:
    """One thread that does one kind of work, one job after the other.

    Ctrl-C may come between any two lines of the caller. Queues give and take at once or not at
    all, so what was given is always waited for. Starting a thread for every case, or joining one,
    can be cut short in a way that lets the process end while the thread still writes, and in
    Python 3.11 raises an error of its own.

    Args:
        work: Turns a job into its result; never raises.
    """

    def __init__(self, work: Callable[..., Any]) -> None:
        self._work = work
        self._jobs: SimpleQueue[tuple[Any, ...] | None] = SimpleQueue()
        self._results: SimpleQueue[Any] = SimpleQueue()  # ended by None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._runs = False

    def start(self) -> None:
        """Start the thread, before it is given anything."""
        self._thread.start()
        self._runs = True

    def put(self, *job: Any) -> None:
        """Give it something to do."""
        self._jobs.put(job)

    def get(self) -> Any:
        """Wait for the oldest result that was not taken."""
        return self._results.get()

    def end(self) -> None:
        """Let the thread end when all is done; do not wait."""
        self._jobs.put(None)

    def close(self) -> None:
        """Wait for all that was given, and for the thread."""
        self.end()
        if not self._runs:
            return
        while self._results.get() is not None:
            pass
        self._thread.join()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._results.put(self._work(*job))
            del job  # what it holds is large
        self._results.put(None)
