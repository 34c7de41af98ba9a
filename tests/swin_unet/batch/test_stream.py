"""Three stages side by side: order, bounds, errors, interruption."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swin_unet.batch.stream import Stages, process


class Recorder:
    """Stages that write down who runs beside whom.

    Args:
        faults: Stage at which a case fails, by case.
        may_read_ahead: Says so for all cases.
        seconds: A stage takes.
    """

    def __init__(
        self,
        faults: dict[int, str] | None = None,
        may_read_ahead: bool = True,
        seconds: float = 0.003,
    ) -> None:
        self.faults = faults or {}
        self.seconds = seconds
        self.running: dict[str, int] = {"read": 0, "compute": 0, "write": 0}
        self.in_memory = 0
        self.largest = 0
        self.threads: dict[str, set[int]] = {"read": set(), "compute": set(), "write": set()}
        self.log: list[tuple[str, int]] = []
        self.lock = threading.Lock()
        self.stages: Stages[int, str] = Stages(
            read=lambda case: self.stage("read", case, None),
            compute=lambda case, value: self.stage("compute", case, value),
            write=lambda case, value: self.stage("write", case, value),
            may_read_ahead=lambda _: may_read_ahead,
        )

    def stage(self, name: str, case: int, value: str | None) -> str:
        with self.lock:
            self.running[name] += 1
            self.log.append((name, case))
            assert self.running[name] == 1
            self.largest = max(self.largest, sum(self.running.values()))
            self.threads[name].add(threading.get_ident())
        time.sleep(self.seconds)
        with self.lock:
            self.running[name] -= 1
        if self.faults.get(case) == name:
            raise ValueError(f"{name} {case}")
        return f"{value or ''}{name} {case};"


@settings(deadline=None, max_examples=30)
@given(
    st.integers(0, 7),
    st.dictionaries(st.integers(0, 6), st.sampled_from(["read", "compute", "write"])),
    st.booleans(),
)
def test_every_case_ends_in_order_whatever_others_do(num_cases, faults, may_read_ahead):
    threads = threading.active_count()
    recorder = Recorder(faults, may_read_ahead)
    outcomes = list(process(range(num_cases), recorder.stages))
    assert [outcome.case for outcome in outcomes] == list(range(num_cases))
    for outcome in outcomes:
        case = outcome.case
        if case in faults:
            assert outcome.result is None
            assert str(outcome.error) == f"{faults[case]} {case}"
        else:
            assert outcome.error is None
            assert outcome.result == f"read {case};compute {case};write {case};"
            assert outcome.seconds >= 0.009
    assert threading.active_count() == threads


def test_stages_run_side_by_side_and_only_computing_in_this_thread():
    recorder = Recorder(seconds=0.05)
    list(process(range(8), recorder.stages))
    assert recorder.largest == 3
    assert recorder.threads["compute"] == {threading.get_ident()}
    assert threading.get_ident() not in recorder.threads["read"] | recorder.threads["write"]


def test_a_case_that_may_not_be_read_ahead_is_read_when_the_one_before_is_computed():
    ahead, after = Recorder(), Recorder(may_read_ahead=False)
    list(process(range(5), ahead.stages))
    list(process(range(5), after.stages))
    position = after.log.index
    assert all(position(("compute", case)) < position(("read", case + 1)) for case in range(4))
    assert any(
        ahead.log.index(("read", case + 1)) < ahead.log.index(("compute", case + 1)) - 1
        for case in range(4)
    )


def test_at_most_three_cases_are_in_memory():
    alive, most = set(), 0

    class Large:
        def __init__(self, case: int) -> None:
            nonlocal most
            self.case = case
            alive.add(id(self))
            most = max(most, len(alive))

        def __del__(self) -> None:
            alive.discard(id(self))

    def slow(case: int, value: Large) -> Large:
        time.sleep(0.005)
        return value

    stages: Stages[int, None] = Stages(
        Large, slow, lambda case, value: time.sleep(0.01), lambda case: True
    )
    assert len(list(process(range(10), stages))) == 10
    assert most <= 3
    assert not alive


def test_an_interruption_waits_for_the_file_that_is_being_written():
    written = []

    def compute(case: int, value: None) -> None:
        if case == 1:
            raise KeyboardInterrupt

    def write(case: int, value: None) -> None:
        time.sleep(0.1)
        written.append(case)

    stages: Stages[int, None] = Stages(lambda case: None, compute, write, lambda case: True)
    with pytest.raises(KeyboardInterrupt):
        list(process(range(3), stages))
    assert written == [0]


@pytest.fixture
def alarm() -> Iterator[None]:
    """SIGALRM raises KeyboardInterrupt, as Ctrl-C does, but not inside Python's own modules."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        assert frame is not None
        if Path(frame.f_code.co_filename).name != "stream.py":  # a thread is just started or ends
            signal.setitimer(signal.ITIMER_REAL, 1e-4)
        else:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_an_interruption_at_any_moment_waits_for_the_file_that_is_being_written(alarm):
    """Also just when a case is given to the thread, and while its outcome is waited for."""
    begun, ended, moments = [], [], random.Random(0)

    def write(case: int, value: None) -> None:
        begun.append(case)
        time.sleep(0.002)
        ended.append(case)

    stages: Stages[int, None] = Stages(
        lambda case: None, lambda case, value: None, write, lambda case: True
    )
    for _ in range(200):
        signal.setitimer(signal.ITIMER_REAL, moments.uniform(0.001, 0.02))
        with pytest.raises(KeyboardInterrupt):
            list(process(range(1000), stages))
        assert begun == ended
        begun.clear()
        ended.clear()


def test_a_caller_that_leaves_early_leaves_no_thread_behind():
    threads = set(threading.enumerate())
    recorder = Recorder()
    for outcome in process(range(5), recorder.stages):
        assert outcome.case == 0
        break
    for thread in set(threading.enumerate()) - threads:
        thread.join()
    assert recorder.log.count(("write", 1)) <= 1
