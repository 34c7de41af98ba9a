"""Compare, in every process of a job, the job's losses and gradients with those of one process.

Started by torchrun, see test_distributed.py.
"""

from __future__ import annotations

import itertools
import os
from typing import Any

import torch
from torch import nn

from swin_unet import SwinUNet
from swin_unet.config import TrainConfig
from swin_unet.training.distributed import ALONE, World, joined
from swin_unet.training.tasks import build_loss, supervised

CLASSES = ("a", "b")
SETTINGS: dict[str, Any] = {
    "embed_dim": 8,
    "depths": (2, 2),
    "num_heads": (1, 2),
    "window_size": 4,
    "patch_size": 2,
    "skips": 1,
    "drop_path_rate": 0.0,
}


def compare(world: World, config: TrainConfig) -> None:
    """Assert that the losses and gradients are equal but for rounding."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(4, 1, 24, 20, generator=generator)
    label = torch.randint(0, 3, (4, 24, 20), generator=generator)
    label[:2] = 0  # the processes' classes differ, so a mean of their losses would be wrong
    whole = compute(ALONE, config, image, label)
    part = slice(2 * world.rank, 2 * world.rank + 2)
    shared = compute(world, config, image[part], label[part])
    for ours, theirs in zip(shared, whole, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


def compute(
    world: World, config: TrainConfig, image: torch.Tensor, label: torch.Tensor
) -> list[torch.Tensor]:
    """Return the losses and all gradients."""
    torch.manual_seed(world.rank)  # of several processes, the first one's weights count
    model: nn.Module = SwinUNet(1, 3, **SETTINGS)
    model = supervised(model) if config.deep_supervision else model
    criterion = build_loss(config, model, CLASSES, world.total)
    parallel = world.parallel(model)  # kept until the backward pass: it adds up the gradients
    losses = criterion(parallel(image), label)
    losses["loss"].backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return [*losses.values(), *gradients]


if __name__ == "__main__":
    with joined() as world:
        assert world.size == 2
        for loss, weights, deep in itertools.product(
            ("ce_dice", "dice_focal"), (None, [0.5, 1.0, 2.0]), (False, True)
        ):
            compare(world, TrainConfig(loss=loss, class_weights=weights, deep_supervision=deep))
        # One write: print's two would mix with those of the other process.
        os.write(1, f"process {world.rank}: equal\n".encode())
