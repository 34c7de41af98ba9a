"""What every network must do, whoever made it: the shared tester of the model tests."""

from __future__ import annotations

import io
from collections.abc import Callable

import torch
from torch import nn

SIZES = [(64, 64), (67, 71), (5, 9), (1, 1)]


def check_logits(model: nn.Module, size: tuple[int, int], batch_size: int = 2) -> None:
    """Two channels of any size in, three finite logits of that size out."""
    logits = model(torch.randn(batch_size, 2, *size))
    assert logits.shape == (batch_size, 3, *size)
    assert logits.isfinite().all()


def check_save_and_load(build: Callable[[], nn.Module]) -> None:
    """A state dict gives another model of the same kind the same logits."""
    model, other = build().eval(), build().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    image = torch.randn(1, 2, 33, 40)
    assert torch.equal(model(image), other(image))


def check_items_independent(model: nn.Module, tolerance: float) -> None:
    """An image has the same logits alone as among others."""
    images = torch.randn(3, 2, 40, 36)
    assert torch.allclose(model(images)[1:2], model(images[1:2]), atol=tolerance)


def check_checkpointing(build: Callable[[bool], nn.Module]) -> None:
    """Recomputing blocks in the backward pass changes no gradient, drop paths included."""
    image = torch.randn(2, 2, 40, 36)
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = build(checkpointing).train()
        torch.manual_seed(1)  # of the drop paths, replayed by the recomputation
        model(image).square().mean().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
