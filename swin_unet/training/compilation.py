"""torch.compile, where it works."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from swin_unet.config import TrainConfig, UserError
from swin_unet.training.memory import Undo, is_out_of_memory
from swin_unet.training.record import logger
from swin_unet.training.step import Stepper
from swin_unet.training.task import Task


class CompiledForward:
    """Calls a compiled network; once that fails, the network itself.

    The network stays as it is, and so do the names in its state dict.

    Args:
        model: The network to compile.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._compiled: Callable[..., Any] | None = None
        try:
            self._compiled = torch.compile(model)
        except Exception as error:  # whatever the compiler finds missing on this machine
            self.give_up(error)

    def __call__(self, *tensors: Tensor) -> Any:
        """Compute what the network makes of a batch of images, and of masks if it takes some."""
        if self._compiled is None:
            return self._model(*tensors)
        try:
            return self._compiled(*tensors)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            self.give_up(error)
        return self._model(*tensors)

    def give_up(self, error: Exception) -> None:
        """Use the network itself from now on, and say why."""
        self._compiled = None
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        logger.warning(f"torch.compile failed ({reason}); training goes on without it")


def compile_training(task: Task, stepper: Stepper, config: TrainConfig) -> None:
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
        with warnings.catch_warnings():
            # Cached are pure functions of sizes only, which may as well be traced.
            warnings.filterwarnings("ignore", "Dynamo detected a call to a `functools.lru_cache`")
            stepper.compute_gradient(task.example(config.batch_size // task.world.size))
    except UserError:
        raise
    except Exception as error:  # of the compiler, which has many kinds
        compiled.give_up(error)
    undo()
