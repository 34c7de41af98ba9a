from __future__ import annotations

import logging

import pytest
import torch
from torch import nn

from swin_unet.training.compilation import CompiledForward


def model():
    torch.manual_seed(0)
    return nn.Conv2d(1, 2, 3)


def test_a_failing_compiler_is_told_and_done_without(monkeypatch, caplog):
    def fail(module):
        raise RuntimeError("no C++ compiler\nand a long story")

    monkeypatch.setattr(torch, "compile", fail)
    with caplog.at_level(logging.WARNING, "swin_unet"):
        forward = CompiledForward(model())
    image = torch.ones(1, 1, 8, 8)
    assert torch.equal(forward(image), model()(image))
    assert "torch.compile failed (no C++ compiler); training goes on without it" in caplog.text


def test_a_compiled_network_that_fails_when_called_is_done_without(monkeypatch, caplog):
    calls = []

    def compile_badly(module):
        def forward(image):
            calls.append(image)
            raise TypeError("unsupported")

        return forward

    monkeypatch.setattr(torch, "compile", compile_badly)
    forward = CompiledForward(model())
    image = torch.ones(1, 1, 8, 8)
    with caplog.at_level(logging.WARNING, "swin_unet"):
        for _ in range(2):
            assert torch.equal(forward(image), model()(image))
    assert len(calls) == 1
    assert caplog.text.count("failed") == 1


def test_running_out_of_memory_is_no_fault_of_the_compiler(monkeypatch):
    def compile_large(module):
        def forward(image):
            raise torch.OutOfMemoryError("CUDA out of memory")

        return forward

    monkeypatch.setattr(torch, "compile", compile_large)
    with pytest.raises(torch.OutOfMemoryError):
        CompiledForward(model())(torch.ones(1, 1, 8, 8))
