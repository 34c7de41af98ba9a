"""From a configuration to the network and the task that it asks for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import nn

from swin_unet.config import PICTURE_SETS, Config
from swin_unet.models import build_model, model_arguments
from swin_unet.training.distributed import World
from swin_unet.training.task import Task, TaskData


def describe_network(config: Config, in_channels: int, num_classes: int) -> dict[str, Any]:
    """Return what rebuilds the network of a task, plain values.

    Args:
        config: The run's configuration.
        in_channels: Channels of the image, context slices included.
        num_classes: Classes, without a background.
    """
    size = config.data.image_size
    if config.task == "segmentation":
        return model_arguments(config.model, in_channels, num_classes + 1)
    if config.task == "classification":
        return model_arguments(config.model, in_channels, num_classes, size)
    encoder_only = replace(config.model, skips=0)  # nothing is decoded by the network's decoder
    network = model_arguments(encoder_only, in_channels, 1, size)
    window = config.simmim.target_window
    arguments = {"in_channels": in_channels, "network": network, "target_window": window}
    return {"name": "simmim", "arguments": arguments}


def build_network(
    config: Config, in_channels: int, num_classes: int
) -> tuple[nn.Module, dict[str, Any]]:
    """Build the network of a task with random weights, and what rebuilds it."""
    description = describe_network(config, in_channels, num_classes)
    return build_model(description), description


def build_task(
    config: Config, model: nn.Module, data: TaskData, read_case: Callable[[str], Any], world: World
) -> Task:
    """Put network and data together.

    Args:
        config: The run's configuration.
        model: The network, on its device.
        data: Loader and names of the cases.
        read_case: Reads a case as the task takes it.
        world: The processes that share the work.
    """
    if config.task == "segmentation":
        from swin_unet.training.tasks import SegmentationData, SegmentationTask

        segmentation = SegmentationData(**vars(data), load_case=read_case)
        return SegmentationTask(model, segmentation, config, world)
    if config.task == "classification":
        from swin_unet.training.classification import ClassificationData, ClassificationTask

        is_multi = config.data.name not in PICTURE_SETS
        classification = ClassificationData(**vars(data), load_case=read_case, multi_label=is_multi)
        return ClassificationTask(model, classification, config, world)
    from swin_unet.models.simmim import SimMIM
    from swin_unet.training.pretraining import PretrainingData, PretrainingTask

    assert isinstance(model, SimMIM)
    return PretrainingTask(model, PretrainingData(**vars(data), load_case=read_case), config, world)
