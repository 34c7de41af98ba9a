"""Three stages side by side: read the next case, compute this one, write the last one.

At most one case is being read, one computed and one written, so that memory is bounded by three.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Case = TypeVar("Case")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Stages(Generic[Case, Result]):
    """What is done to a case.

    Attributes:
        read: In a thread; what it returns is for `compute`.
        compute: In the thread of the caller; what it returns is for `write`.
        write: In a thread that is never given up half-way.
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
    that is being written.
    """
    if not cases:
        return
    reading: _Task | None = _Task(stages.read, cases[0])
    writing: _Writing[Case, Result] | None = None
    try:
        for case, following in zip(cases, [*cases[1:], None], strict=True):
            assert reading is not None
            loaded, reading = reading.result(), None
            if following is not None and stages.may_read_ahead(following):
                reading = _Task(stages.read, following)
            computed = loaded.then(stages.compute, case)
            del loaded
            if following is not None and reading is None:
                reading = _Task(stages.read, following)
            if writing is not None:
                outcome, writing = writing.outcome(), None
                yield outcome
            writing = _Writing(stages.write, case, computed)
            del computed
        if writing is not None:
            outcome, writing = writing.outcome(), None
            yield outcome
    finally:
        if writing is not None:
            writing.task.result()


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


class _Task:
    """A stage in a thread of its own, which the end of the process does not wait for."""

    is_daemon = True

    def __init__(self, stage: Callable[..., Any], *arguments: Any) -> None:
        self._attempt: _Attempt | None = None
        self._thread = threading.Thread(
            target=self._run, args=(stage, *arguments), daemon=self.is_daemon
        )
        self._thread.start()

    def result(self) -> _Attempt:
        """Wait for it."""
        self._thread.join()
        assert self._attempt is not None
        attempt, self._attempt = self._attempt, None  # what it holds is large
        return attempt

    def _run(self, stage: Callable[..., Any], *arguments: Any) -> None:
        self._attempt = _attempt(stage, *arguments)


class _WritingTask(_Task):
    is_daemon = False


class _Writing(Generic[Case, Result]):
    """The last stage of a case."""

    def __init__(
        self, stage: Callable[[Case, Any], Result], case: Case, computed: _Attempt
    ) -> None:
        self.case = case
        self.task = _WritingTask(computed.then, stage, case)

    def outcome(self) -> Outcome[Case, Result]:
        """Wait for it."""
        outer = self.task.result()
        attempt: _Attempt = outer.value
        return Outcome(self.case, attempt.value, attempt.error, attempt.seconds)
