"""What training left: one checkpoint, or several whose networks answer together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from swin_unet import checkpoint as checkpoints
from swin_unet.config import DataConfig, UserError
from swin_unet.imaging import Preprocessing
from swin_unet.imaging.flips import DIRECTIONS, Flip, plan_flips
from swin_unet.imaging.orientation import WORKING_CODES
from swin_unet.inference.averaging import Ensemble, Mirrored


@dataclass(frozen=True)
class Trained:
    """A network with what it needs to know of its training.

    Attributes:
        network: From (B, C, h, w) to logits (B, K, h, w).
        preprocessing: How its training slices were made.
        num_channels: Channels of an image, without context slices.
        classes: Names of labels 1, 2, ...
        options: The inference section of its configuration.
        data: The data section of its configuration.
    """

    network: nn.Module
    preprocessing: Preprocessing
    num_channels: int
    classes: tuple[str, ...]
    options: Mapping[str, Any]
    data: Mapping[str, Any]

    def mirrored(self, directions: Sequence[str]) -> Trained:
        """Let the network see mirrored slices as well and average.

        Raises:
            UserError: For directions that it was not trained to see mirrored.
        """
        if not directions:
            return self
        from dataclasses import replace

        flips = self._flips(directions)
        network = Mirrored(self.network, flips, len(self.classes) + 1)
        return replace(self, network=network)

    def _flips(self, directions: Sequence[str]) -> tuple[Flip, ...]:
        trained, swap_classes = self._trained_flips()
        wrong = [direction for direction in directions if direction not in trained]
        if wrong:
            raise UserError(
                "--flips",
                expected=f"directions that training mirrored: {', '.join(trained) or 'none'}",
                found=", ".join(wrong),
                fix="Leave these out, or train with data.flip_axes: in a mirror image, a network "
                "that never saw one mistakes what it finds.",
            )
        chosen = [direction for direction in DIRECTIONS if direction in directions]
        if "left_right" not in chosen:
            swap_classes = None
        config = DataConfig(flip_axes=chosen, swap_classes=swap_classes)  # type: ignore[arg-type]
        return plan_flips(config, self.preprocessing.plane, dict(enumerate(self.classes, start=1)))

    def _trained_flips(self) -> tuple[list[str], list[Any] | None]:
        """Return the directions that training mirrored, and the classes exchanged with them."""
        if self.data.get("augmentation") == "paper":  # mirrors everything and exchanges nothing
            codes = WORKING_CODES[self.preprocessing.plane][:2]
            within = [name for name, ends in DIRECTIONS.items() if set(ends) & set(codes)]
            return within, []
        if self.data.get("augmentation") == "default":
            return list(self.data.get("flip_axes") or ()), self.data.get("swap_classes")
        return [], None


def load_trained(paths: Sequence[Path]) -> Trained:
    """Read checkpoints; several become an ensemble.

    Raises:
        UserError: For a file that is no checkpoint, or checkpoints that do not agree.
    """
    contents = [checkpoints.load(path) for path in paths]
    for path, content in zip(paths, contents, strict=True):
        checkpoints.check_task(content, path, "segmentation")
    first, facts = contents[0], _facts(contents[0])
    for path, content in zip(paths[1:], contents[1:], strict=True):
        _check_agreement(path, _facts(content), paths[0], facts)
    networks = [
        checkpoints.load_model(content, path) for path, content in zip(paths, contents, strict=True)
    ]
    return Trained(
        network=networks[0] if len(networks) == 1 else Ensemble(networks),
        preprocessing=Preprocessing.from_dict(first["preprocessing"]),
        num_channels=facts["channels of an image"],
        classes=tuple(first["classes"]),
        options=first["config"]["inference"],
        data=first["config"].get("data", {}),
    )


def _facts(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the networks of an ensemble must have in common, by its name."""
    settings = content["preprocessing"]
    in_channels = content["model_description"]["arguments"]["in_channels"]
    data = content["config"].get("data", {})
    flips = {key: data.get(key) for key in ("flip_axes", "swap_classes")}
    return {
        "classes": list(content["classes"]),
        "channels of an image": in_channels // settings["context_slices"],
        **{f"preprocessing.{key}": value for key, value in settings.items()},
        **{f"data.{key}": value for key, value in flips.items()},
    }


def _check_agreement(
    path: Path, facts: Mapping[str, Any], first_path: Path, first: Mapping[str, Any]
) -> None:
    differing = [key for key in first if facts[key] != first[key]]
    if differing:
        key = differing[0]
        raise UserError(
            path,
            expected=f"{key} {first[key]}, as {first_path}",
            found=str(facts[key]),
            fix="Give checkpoints of one configuration, such as the folds of a cross-validation.",
        )
