"""Segmenter: the network of a checkpoint, ready for volumes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from swin_unet.devices import choose_device, choose_precision
from swin_unet.inference.checks import check_overlap, check_protocol
from swin_unet.inference.cleanup import Cleanup
from swin_unet.inference.trained import load_trained
from swin_unet.inference.volumes import VolumeSegmenter


class Segmenter(VolumeSegmenter):
    """Segment volumes with the network of a checkpoint, or of several.

    Args:
        checkpoint: A best.pt or last.pt; several, of one configuration, are averaged.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        precision: `fp32`, `bf16` or `fp16`; None: as in training's validation.
        batch_size: Slices at a time; None: as in training's validation.
        overlap: Of sliding windows, in [0, 1); None: as in training's validation.
        flips: Directions to mirror slices in (`left_right`, `anterior_posterior`,
            `superior_inferior`), of those that training mirrored; the results are averaged, left
            and right classes exchanged.
        scales: Sizes of the network's input relative to training's; the results are averaged.
        largest_component: Classes of which only the largest part is kept; empty: all; None: none.
        min_volume_mm3: Smallest parts to keep, `10` of all classes, or `liver=10`.
        protocol: `paper` resizes as the original Swin-Unet did, to compare with its numbers.
        compile: Run the network by torch.compile; where that fails, without it.

    Raises:
        UserError: For files that are no such checkpoints, checkpoints that do not agree, and
            options that they do not allow for.
    """

    def __init__(
        self,
        checkpoint: str | Path | Sequence[str | Path],
        *,
        device: str = "auto",
        precision: str | None = None,
        batch_size: int | None = None,
        overlap: float | None = None,
        flips: Sequence[str] = (),
        scales: Sequence[float] = (1.0,),
        largest_component: Sequence[str] | None = None,
        min_volume_mm3: Sequence[str] = (),
        protocol: Literal["strict", "paper"] = "strict",
        compile: bool = False,
    ) -> None:
        chosen_device = choose_device(device)
        paths = [checkpoint] if isinstance(checkpoint, str | Path) else checkpoint
        trained = load_trained([Path(path) for path in paths])
        check_overlap(trained.preprocessing, overlap)
        additions = {
            "--flips": bool(flips),
            "--scales": tuple(scales) != (1.0,),
            "--largest_component": largest_component is not None,
            "--min_volume_mm3": bool(min_volume_mm3),
            "several checkpoints": len(paths) > 1,
        }
        check_protocol(protocol, trained.preprocessing, additions)
        options = trained.options
        super().__init__(
            trained.mirrored(flips).network,
            trained.preprocessing,
            num_channels=trained.num_channels,
            classes=trained.classes,
            device=chosen_device,
            precision=choose_precision(precision or options["precision"], chosen_device),
            batch_size=batch_size or options["batch_size"],
            overlap=options["overlap"] if overlap is None else overlap,
            scales=scales,
            cleanup=Cleanup.of_classes(trained.classes, largest_component, min_volume_mm3),
            protocol=protocol,
            compile=compile,
        )
