"""torch.compile, where it works."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from swin_unet.config import Config, UserError
from swin_unet.training.memory import Undo, is_out_of_memory
from swin_unet.training.record import logger
from swin_unet.training.step import Stepper
from swin_unet.training.tasks import SegmentationTask


class CompiledForward:
    """Calls a compiled network; once that fails, the network itself.

    The network stays as it is, and so do the names in its state dict.

    Args:
        model: The network to compile.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._compiled: Callable[[Tensor], Any] | None = None
        try:
            self._compiled = torch.compile(model)
        except Exception as error:  # whatever the compiler finds missing on this machine
            self.give_up(error)

    def __call__(self, image: Tensor) -> Any:
        """Compute what the network makes of a batch of images."""
        if self._compiled is None:
            return self._model(image)
        try:
            return self._compiled(image)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            self.give_up(error)
        return self._model(image)

    def give_up(self, error: Exception) -> None:
        """Use the network itself from now on, and say why."""
        self._compiled = None
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        logger.warning(f"torch.compile failed ({reason}); training goes on without it")


def compile_training(task: SegmentationTask, stepper: Stepper, config: Config) -> None:
    """Compile what is trained, and try a step without an update, for the backward pass fails late.

    Args:
        task: Calls the compiled network from now on, if all went well.
        stepper: Takes the step.
        config: Says how large a batch is.
    """
    compiled = CompiledForward(task.parallel)
    task.forward = compiled
    undo = Undo(task.trained)
    try:
        B = config.train.batch_size // task.world.size
        C = task.data.num_channels * config.data.context_slices
        H, W = config.data.image_size
        label = torch.zeros(B, H, W, dtype=torch.int64)
        stepper.compute_gradient({"image": torch.zeros(B, C, H, W), "label": label})
    except UserError:
        raise
    except Exception as error:  # of the compiler, which has many kinds
        compiled.give_up(error)
    undo()
