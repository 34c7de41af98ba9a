from __future__ import annotations

import pytest
import torch
from torch import nn

from swin_unet.compiled import CompiledForward


def model():
    torch.manual_seed(0)
    return nn.Conv2d(1, 2, 3)


def test_a_failing_compiler_is_told_and_done_without(monkeypatch):
    def fail(module):
        raise RuntimeError("no C++ compiler\nand a long story")

    monkeypatch.setattr(torch, "compile", fail)
    told = []
    forward = CompiledForward(model(), told.append)
    image = torch.ones(1, 1, 8, 8)
    assert torch.equal(forward(image), model()(image))
    assert told == ["torch.compile failed (no C++ compiler); going on without it"]


def test_a_compiled_network_that_fails_when_called_is_done_without(monkeypatch):
    calls = []

    def compile_badly(module):
        def forward(image):
            calls.append(image)
            raise TypeError("unsupported")

        return forward

    monkeypatch.setattr(torch, "compile", compile_badly)
    told = []
    forward = CompiledForward(model(), told.append)
    image = torch.ones(1, 1, 8, 8)
    for _ in range(2):
        assert torch.equal(forward(image), model()(image))
    assert len(calls) == 1
    assert len(told) == 1


def test_running_out_of_memory_is_no_fault_of_the_compiler(monkeypatch):
    def compile_large(module):
        def forward(image):
            raise torch.OutOfMemoryError("CUDA out of memory")

        return forward

    monkeypatch.setattr(torch, "compile", compile_large)
    with pytest.raises(torch.OutOfMemoryError):
        CompiledForward(model(), print)(torch.ones(1, 1, 8, 8))
