"""Where and how precisely to compute."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from swin_unet.config import UserError

# What torch says where it raises a plain RuntimeError: its CPU allocator, cuDNN and cuBLAS.
_WORDS = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str) -> torch.device:
    """Return the device `auto` (the GPU if there is one), `cpu`, `cuda` or `cuda:N`.

    Raises:
        UserError: When this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        count = torch.cuda.device_count()
        raise UserError(
            "device",
            expected=f"auto, cpu or one of this machine's {count} CUDA devices",
            found=name,
            fix="Choose another device.",
        ) from error
    return device


def choose_precision(name: str, device: torch.device) -> str:
    """Resolve `auto`: bf16 where the processor has instructions for it, else fp32.

    Raises:
        UserError: For fp16 on a CPU, where it is slow and under-flows without a scaler.
    """
    if name == "auto":
        return "bf16" if _has_bf16_instructions(device) else "fp32"
    if name == "fp16" and device.type == "cpu":
        raise UserError(
            "precision", expected="fp32 or bf16 on a CPU", found=name, fix="Choose one of them."
        )
    return name


def _has_bf16_instructions(device: torch.device) -> bool:
    """Tell whether bf16 is fast here; emulated on a CPU it would be slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    query = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # torch has no public one
    return query is not None and bool(query())


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Return the autocast context of a resolved precision; fp32 is none at all."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=_DTYPES[precision])


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether there was too little memory, on the GPU or beside the CPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS)
