from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from swin_unet.training.signals import StopRequest

NUMBERS = [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize("number", NUMBERS)
def test_the_first_signal_is_remembered_and_the_handlers_come_back(number, capfd):
    before = [signal.getsignal(each) for each in (*NUMBERS, signal.SIGCHLD)]
    with StopRequest() as stop:
        assert stop.signal is None
        os.kill(os.getpid(), number)
        assert stop.signal == number
        assert signal.getsignal(number) == signal.SIG_DFL  # the next one ends the process
    assert [signal.getsignal(each) for each in (*NUMBERS, signal.SIGCHLD)] == before
    stopped = stop.stopped()
    assert stopped.exit_code == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    assert number.name in str(stopped)
    assert "once more stops at once" in capfd.readouterr().err


@pytest.mark.parametrize("number", NUMBERS)
def test_the_second_signal_ends_the_process_at_once(number):
    code = """
import os, signal, sys, time
from swin_unet.training.signals import StopRequest
with StopRequest() as stop:
    for _ in range(2):
        os.kill(os.getpid(), int(sys.argv[1]))
    print("still here")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(int(number))], capture_output=True, text=True
    )
    assert done.returncode == -number
    assert "still here" not in done.stdout


def test_in_a_thread_it_leaves_signals_alone():
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def work():
        with StopRequest() as stop:
            stop.let_workers_die()
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_a_forked_loader_process_does_not_stop_the_run():
    with StopRequest() as stop:
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGINT)
            os._exit(0 if stop.signal is None else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
