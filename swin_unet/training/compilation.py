"""Training by torch.compile, where it works."""

from __future__ import annotations

from swin_unet.compiled import CompiledForward
from swin_unet.config import TrainConfig, UserError
from swin_unet.training.memory import Undo
from swin_unet.training.record import logger
from swin_unet.training.step import Stepper
from swin_unet.training.task import Task


def compile_training(task: Task, stepper: Stepper, config: TrainConfig) -> None:
    """Compile what is trained, and try a step without an update, for the backward pass fails late.

    Args:
        task: Calls the compiled network from now on, if all went well.
        stepper: Takes the step.
        config: Says how large a batch is.
    """
    compiled = CompiledForward(task.parallel, logger.warning)
    task.forward = compiled
    undo = Undo(task.trained)
    try:
        stepper.compute_gradient(task.example(config.batch_size // task.world.size))
    except UserError:
        raise
    except Exception as error:  # of the compiler, which has many kinds
        compiled.give_up(error)
    undo()
