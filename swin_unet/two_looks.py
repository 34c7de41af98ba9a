"""Classify in two looks: the whole slice, then where a localizer's attention points."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from swin_unet.classifying import SliceClassifier
from swin_unet.config import UserError
from swin_unet.imaging import PreparedVolume, Volume
from swin_unet.models.localizer import Localizer, TwoStageClassifier
from swin_unet.overlays import Picture, to_grey

Array = np.ndarray[Any, Any]
_SHARED = ("plane", "context_slices", "intensity", "window", "percentiles")
_HEAT, _BOX = (255, 80, 0), (255, 255, 0)


@dataclass(frozen=True)
class Looks:
    """What two looks at a volume found.

    Attributes:
        probabilities: (S, num_classes), the mean of both looks.
        boxes: (S, 4), left, top, right, bottom of the second look in native pixels.
        picture: The middle slice: what the localizer attends to with the box, and the box's inside.
    """

    probabilities: Array
    boxes: Array
    picture: Picture


class TwoLooks:
    """Classify slices by a localizer, and by a classifier where that points; average.

    Args:
        fine: Sees the boxes, resized to its image size.
        coarse: Of a `localizer` network; sees whole slices.

    Raises:
        UserError: For checkpoints that do not go together.
    """

    def __init__(self, fine: SliceClassifier, coarse: SliceClassifier) -> None:
        _check_pair(fine, coarse)
        assert isinstance(coarse.model, Localizer)
        self.fine = fine
        self.network = TwoStageClassifier(
            fine.model,
            coarse.model,
            crop_size=fine.preprocessing.image_size,
            multi_label=fine.multi_label,
        ).eval()

    @torch.inference_mode()
    def look(self, image: Volume) -> Looks:
        """Classify the slices of a volume.

        Raises:
            UserError: When the volume's channels are not those of the training data.
        """
        prepared = at_native_size(self.fine.prepare(image))
        parts = [self.network(slab.to(self.fine.device)) for slab in self.fine.slabs(prepared)]
        boxes = torch.cat([part["boxes"] for part in parts])
        importance = torch.cat([part["importance"] for part in parts])
        probabilities = torch.cat([part["probability"] for part in parts])
        middle = prepared.num_slices // 2
        picture = look_picture(prepared.native_slice(middle), importance[middle], boxes[middle])
        return Looks(probabilities.cpu().numpy(), boxes.cpu().numpy(), picture)


def at_native_size(prepared: PreparedVolume) -> PreparedVolume:
    """Return a volume whose slabs are normalised, but not resized."""
    settings = replace(prepared.preprocessing, image_size=prepared.slice_size)
    return replace(prepared, preprocessing=settings)


def look_picture(pixels: Array, importance: Tensor, box: Tensor) -> Picture:
    """Draw where a localizer looks.

    Args:
        pixels: The slice (H, W).
        importance: Of the tokens (h, w).
        box: (4,), left, top, right, bottom.

    Returns:
        (H', 2 * W', 3) uint8, the slice with the attention in red and the box, and the box's
        inside, enlarged; at least about 256 pixels high.
    """
    grey = to_grey(pixels)
    height, width = pixels.shape
    share = importance.float().cpu()
    share = (share - share.min()) / (share.max() - share.min()).clamp(min=1e-12)
    enlarged = torch.nn.functional.interpolate(share[None, None], (height, width), mode="bilinear")
    heat = 0.6 * enlarged[0, 0].numpy()[..., None]
    seen = (grey * (1 - heat) + np.array(_HEAT) * heat).astype(np.uint8)
    left, top, right, bottom = box.tolist()
    inside = torch.from_numpy(grey[top:bottom, left:right].copy()).movedim(-1, 0)[None].float()
    close = torch.nn.functional.interpolate(inside, (height, width), mode="bilinear")
    seen[[top, bottom - 1], left:right] = _BOX
    seen[top:bottom, [left, right - 1]] = _BOX
    panel = np.concatenate([seen, close[0].movedim(0, -1).byte().numpy()], axis=1)
    factor = max(1, round(256 / height))
    return panel.repeat(factor, axis=0).repeat(factor, axis=1)


def _check_pair(fine: SliceClassifier, coarse: SliceClassifier) -> None:
    if not isinstance(coarse.model, Localizer):
        raise UserError(
            "--coarse",
            expected="a checkpoint of model.name localizer, whose attention points",
            found="another network",
            fix="Train one with --model.name localizer --model.patch_size 16.",
        )
    facts = [(c.classes, c.multi_label, c.num_channels) for c in (fine, coarse)]
    settings = [{name: getattr(c.preprocessing, name) for name in _SHARED} for c in (fine, coarse)]
    if facts[0] != facts[1] or settings[0] != settings[1]:
        raise UserError(
            "--coarse",
            expected="a checkpoint of the same classes, channels, plane and intensities",
            found=f"{facts[1]} with {settings[1]} beside {facts[0]} with {settings[0]}",
            fix="Train both with the same data section; image_size may differ.",
        )


def load_two_looks(fine: SliceClassifier, coarse_path: Path) -> TwoLooks:
    """Put a localizer from a checkpoint before a classifier, on the same device."""
    return TwoLooks(fine, SliceClassifier.load(coarse_path, device=str(fine.device)))
