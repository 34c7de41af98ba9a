"""Algorithms that give the same result every time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def prepare_cublas() -> None:
    """Let cuBLAS work reproducibly; it reads this once, before its first call."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@contextmanager
def deterministic_algorithms(on: bool) -> Iterator[None]:
    """Use deterministic algorithms only, if `on`; what has none raises.

    cuDNN must not choose its algorithms by their speed then, for that differs from run to run.
    """
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(on)
    torch.backends.cudnn.benchmark = before[1] and not on
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]
