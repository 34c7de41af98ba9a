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
    writer: _Writer[Case, Result] = _Writer(stages.write)
    try:
        writer.start()
        yield from _process(cases, stages, writer)
    finally:
        writer.close()


def _process(
    cases: Sequence[Case], stages: Stages[Case, Result], writer: _Writer[Case, Result]
) -> Iterator[Outcome[Case, Result]]:
    if not cases:
        return
    reading: _Reading | None = _Reading(stages.read, cases[0])
    for number, (case, following) in enumerate(zip(cases, [*cases[1:], None], strict=True)):
        assert reading is not None
        loaded, reading = reading.result(), None
        if following is not None and stages.may_read_ahead(following):
            reading = _Reading(stages.read, following)
        computed = loaded.then(stages.compute, case)
        del loaded
        if following is not None and reading is None:
            reading = _Reading(stages.read, following)
        if number > 0:
            yield writer.outcome()
        writer.put(case, computed)
        del computed
    yield writer.outcome()


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


class _Reading:
    """The first stage in a thread of its own, which the end of the process does not wait for."""

    def __init__(self, stage: Callable[..., Any], case: Any) -> None:
        self._attempts: SimpleQueue[_Attempt] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, args=(stage, case), daemon=True)
        self._thread.start()

    def result(self) -> _Attempt:
        """Wait for it."""
        attempt = self._attempts.get()
        self._thread.join()
        return attempt

    def _run(self, stage: Callable[..., Any], case: Any) -> None:
        self._attempts.put(_attempt(stage, case))


class _Writer(Generic[Case, Result]):
    """The last stage of all cases, in one thread.

    Ctrl-C may come between any two lines of the caller. Queues give and take at once or not at
    all, so what was given is always waited for. Starting a thread per case, or joining one, can
    be cut short in a way that lets the process end while the thread still writes.

    Args:
        stage: What is done to a case.
    """

    def __init__(self, stage: Callable[[Case, Any], Result]) -> None:
        self._stage = stage
        self._jobs: SimpleQueue[tuple[Case, _Attempt] | None] = SimpleQueue()
        self._outcomes: SimpleQueue[Outcome[Case, Result] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._runs = False

    def start(self) -> None:
        """Start the thread, before anything is given to it."""
        self._thread.start()
        self._runs = True

    def put(self, case: Case, computed: _Attempt) -> None:
        """Have a case written."""
        self._jobs.put((case, computed))

    def outcome(self) -> Outcome[Case, Result]:
        """Wait for the oldest case whose outcome was not taken."""
        outcome = self._outcomes.get()
        assert outcome is not None
        return outcome

    def close(self) -> None:
        """Wait for all that was given, and end the thread."""
        self._jobs.put(None)
        if not self._runs:
            return
        while self._outcomes.get() is not None:
            pass
        self._thread.join()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            case, computed = job
            attempt = computed.then(self._stage, case)
            self._outcomes.put(Outcome(case, attempt.value, attempt.error, attempt.seconds))
            del job, case, computed, attempt  # what they hold is large
        self._outcomes.put(None)
