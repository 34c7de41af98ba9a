"""Memory that is freed stays in the process."""

import subprocess
import sys

import pytest

from swin_unet.training.memory import keep_freed_memory

# In a process of its own: the C library is told once and for all.
COUNT_FAULTS = """
import resource
import torch
from swin_unet.training.memory import keep_freed_memory
assert keep_freed_memory()
for turn in range(13):
    tensors = [torch.ones(4 * 2**20) for _ in range(4)]  # 16 MB each, 4096 pages
    del tensors
    if turn == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_freed_tensors_leave_their_pages_to_the_next_ones(glibc):
    done = subprocess.run(
        [sys.executable, "-c", COUNT_FAULTS], capture_output=True, encoding="utf8", check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 50_000  # of the 163,840 pages that were used anew


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr("platform.libc_ver", lambda: ("", ""))
    assert keep_freed_memory() is False


@pytest.fixture
def glibc():
    import platform

    if platform.libc_ver()[0] != "glibc":
        pytest.skip("the C library is not glibc")
