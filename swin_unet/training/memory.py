"""Batches in parts, for a step that would not fit into memory at once."""

from __future__ import annotations

import ctypes
import gc
import platform
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

Batch = dict[str, Any]
# mallopt's parameters and the largest values that glibc takes for them; see mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_TRIM_MAX, _MMAP_MAX = 2**31 - 1, 32 * 2**20


def split_batch(batch: Batch, size: int) -> Iterator[Batch]:
    """Cut the tensors of a batch into parts of at most `size` samples; the rest is left out."""
    tensors = {name: value for name, value in batch.items() if isinstance(value, Tensor)}
    parts = [value.split(size) for value in tensors.values()]
    for values in zip(*parts, strict=True):
        yield dict(zip(tensors, values, strict=True))


def keep_freed_memory() -> bool:
    """Let the C library keep memory that is freed, for the next step of training on a CPU.

    By default it maps large tensors anew, and the kernel clears each page of them; what that costs
    is in docs/results.md (benchmarks/allocator.py). The peak of resident memory is that of a step
    either way. Holds for the whole process.

    Returns:
        Whether the C library could be told; only glibc can.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    limits = {_TRIM_THRESHOLD: _TRIM_MAX, _MMAP_THRESHOLD: _MMAP_MAX}
    return all(mallopt(parameter, limit) == 1 for parameter, limit in limits.items())


def release() -> None:
    """Give back what a failed attempt has left behind."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class Undo:
    """Remembers what a forward pass changes, and puts it back when called.

    Args:
        model: Its buffers, such as those of a batch norm, and torch's random states are kept.
    """

    def __init__(self, model: nn.Module) -> None:
        self._buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
        self._random = torch.get_rng_state()
        self._device = next(model.parameters()).device
        self._cuda_random = torch.cuda.get_rng_state(self._device) if self._on_gpu else None

    @property
    def _on_gpu(self) -> bool:
        return self._device.type == "cuda"

    @torch.no_grad()
    def __call__(self) -> None:
        """Put everything back."""
        for buffer, value in self._buffers:
            buffer.copy_(value)
        torch.set_rng_state(self._random)
        if self._cuda_random is not None:
            torch.cuda.set_rng_state(self._cuda_random, self._device)


def forget_peak(device: torch.device) -> None:
    """Start a new measurement of the peak; beside the CPU there is only that of the process."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_mb(device: torch.device) -> float | None:
    """Return the most memory in use, in MB (10^6 bytes).

    On a GPU since `forget_peak`; beside the CPU the resident memory of this process since its
    start, None where the system does not tell.
    """
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 1e6, 1)
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)
