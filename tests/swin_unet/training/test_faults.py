"""By the exceptions that torch's own loader raises."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from swin_unet.training.faults import loader_fault, loader_processes
from swin_unet.training.signals import StopRequest


class Faulty(Dataset):
    def __init__(self, fault):
        self.fault = fault

    def __len__(self):
        return 4

    def __getitem__(self, index):
        if index == 2:
            self.fault()
        return torch.zeros(1)


def open_missing():
    Path("/nowhere/image.npy").read_bytes()


def refuse():
    raise PermissionError(13, "Permission denied", "/there/label.npy")


def divide():
    raise ZeroDivisionError("a bug")


def failure(fault, num_workers):
    """What is said of the failure of a loader."""
    with StopRequest() as stop:
        iterator = iter(DataLoader(Faulty(fault), num_workers=num_workers))
        stop.let_workers_die()
        try:
            list(iterator)
        except Exception as error:
            return loader_fault(error, getattr(iterator, "_workers", ()))
    raise AssertionError("no error")


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_missing_file_is_named(num_workers):
    fault = failure(open_missing, num_workers)
    assert str(fault).startswith(
        "/nowhere/image.npy: expected the cached slices of a training case, found nothing there"
    )
    assert "--resume auto" in str(fault)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_another_fault_of_a_file_is_told(num_workers):
    fault = str(failure(refuse, num_workers))
    assert "Permission denied" in fault
    assert "/there/label.npy" in fault
    assert "\n" not in fault


@pytest.mark.parametrize("delay", [0.0, 0.5])
def test_a_killed_process_is_told(delay):
    """Whether its last batches have been read by then or not."""

    def end_process():
        time.sleep(delay)
        os.kill(os.getpid(), signal.SIGKILL)

    fault = str(failure(end_process, 1))
    assert fault.startswith("train.num_workers: expected loader processes that live")
    assert "found one ended by SIGKILL. " in fault
    assert "/dev/shm" in fault


@pytest.mark.parametrize(("number", "cause"), [("SIGKILL", "SIGKILL"), ("SIGTERM", "exit code 0")])
def test_a_process_killed_between_two_epochs_is_told(number, cause):
    """The loader of the training keeps its processes, and wraps torch's iterator."""
    with StopRequest() as stop:
        loader = DataLoader(list(range(4)), num_workers=1, persistent_workers=True)
        assert loader_processes(loader) == ()
        iterator = iter(loader)
        stop.let_workers_die()
        (process,) = loader_processes(loader, map(str, iterator))
        assert len(list(iterator)) == 4
        os.kill(process.pid, signal.Signals[number])
        process.join()
        with pytest.raises(RuntimeError) as raised:
            iter(loader)
        fault = loader_fault(raised.value, loader_processes(loader))
    assert f"found one ended by {cause}. " in str(fault)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_our_bugs_keep_their_traceback(num_workers):
    assert failure(divide, num_workers) is None
