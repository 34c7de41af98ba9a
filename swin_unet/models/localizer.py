"""Find where to look twice: attention of a ViT to a box, and classification in two stages.

Importance of a token: how much attention it receives, added up over layers (`sum`, the article's
way), or over paths through the layers (`rollout`, Abnar and Zuidema 2020; `product`, TransFG,
AAAI 2022). The rows of an attention matrix sum to 1, so what a token receives is a sum over rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

Mode = Literal["sum", "rollout", "product"]


class Localizer(nn.Module):
    """A ViT classifier whose attention tells where it looks.

    Args:
        in_channels: Channels of the image.
        num_classes: Length of the logits.
        image_size: Height and width in pixels, multiples of `patch_size`.
        patch_size: Pixels per token side.
        hidden_size: Channels of a token.
        num_layers: Transformer blocks.
        num_heads: Attention heads.
        mode: How importance is computed.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 2,
        *,
        image_size: tuple[int, int] = (384, 384),
        patch_size: int = 16,
        hidden_size: int = 768,
        num_layers: int = 12,
        num_heads: int = 12,
        mode: Mode = "sum",
    ) -> None:
        super().__init__()
        from monai.networks.nets import ViT

        if image_size[0] % patch_size or image_size[1] % patch_size:
            raise ValueError(f"image_size {image_size} is no multiple of patches of {patch_size}")
        self.grid = image_size[0] // patch_size, image_size[1] // patch_size
        self.mode = mode
        self.vit = ViT(
            in_channels,
            image_size,
            patch_size,
            hidden_size=hidden_size,
            mlp_dim=4 * hidden_size,
            num_layers=num_layers,
            num_heads=num_heads,
            classification=True,
            num_classes=num_classes,
            post_activation="None",
            spatial_dims=2,
            save_attn=True,
        )

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Classify images (B, in_channels, H, W) of `image_size`.

        Returns:
            Logits (B, num_classes), and the importance (B, h, w) of every token.
        """
        logits, _ = self.vit(image)
        attentions = [block.attn.att_mat for block in self.vit.blocks]
        return logits, token_importance(attentions, self.grid, self.mode)


def token_importance(
    attentions: Sequence[Tensor], grid: tuple[int, int], mode: Mode = "sum"
) -> Tensor:
    """Say how important every token is.

    Args:
        attentions: Per layer (B, num_heads, N, N), rows summing to 1, the class token first.
        grid: Height and width in tokens; N = 1 + height * width.
        mode: See the module.

    Returns:
        (B, height, width).
    """
    layers = [attention.float().mean(dim=1) for attention in attentions]  # (B, N, N)
    if mode == "sum":
        received = torch.stack(layers).sum(dim=0).sum(dim=-2)
    else:
        identity = torch.eye(layers[0].shape[-1], device=layers[0].device)
        share = 0.5 if mode == "rollout" else 1.0
        paths = identity.expand_as(layers[0])
        for attention in layers:
            paths = (share * attention + (1 - share) * identity) @ paths
        received = paths[:, 0]  # what reaches the class token
    return received[:, 1:].unflatten(1, grid)


def locate(
    importance: Tensor, image_size: tuple[int, int], *, margin: float = 0.1, min_share: float = 0.25
) -> Tensor:
    """Turn importance maps to boxes around the largest important region.

    Important is what lies above the map's mean; the region is the largest connected one, enlarged
    by the margin on every side and to a minimum size, kept inside the image.

    Args:
        importance: (B, h, w).
        image_size: Height and width in pixels.
        margin: Share of the region's sides that is added on each side.
        min_share: Least share of the image's sides.

    Returns:
        (B, 4) int64 boxes (left, top, right, bottom), the ends excluded; the whole image where
        nothing stands out.
    """
    enlarged = F.interpolate(
        importance[:, None].float(), size=image_size, mode="bilinear", align_corners=False
    )[:, 0]
    boxes = [_box(region, image_size, margin, min_share) for region in enlarged]
    return torch.tensor(boxes, device=importance.device)


def crop_boxes(images: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Cut (left, top, right, bottom) out of every image (B, C, H, W), resized to `size`."""
    crops = [
        F.interpolate(image[None, :, top:bottom, left:right], size, mode="bilinear", antialias=True)
        for image, (left, top, right, bottom) in zip(images, boxes.tolist(), strict=True)
    ]
    return torch.cat(crops)


class TwoStageClassifier(nn.Module):
    """Classify the image, look again where the localizer points, and average.

    Args:
        classifier: Images (B, C, H, W) to logits; takes crops of `crop_size`.
        localizer: Finds the region; it is not trained through the crop.
        crop_size: Height and width of the second look in pixels.
        margin: See `locate`.
    """

    def __init__(
        self,
        classifier: nn.Module,
        localizer: Localizer,
        *,
        crop_size: tuple[int, int] = (384, 384),
        margin: float = 0.1,
    ) -> None:
        super().__init__()
        self.classifier = classifier
        self.localizer = localizer
        self.crop_size = crop_size
        self.margin = margin

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Classify images (B, C, H, W).

        Returns:
            `logits1` of the localizer and `logits2` of the crop (B, num_classes), `probability`,
            the mean of both, `boxes` (B, 4) and `importance` (B, h, w).
        """
        height, width = image.shape[-2:]
        grid, patch = self.localizer.grid, self.localizer.vit.patch_embedding.patch_size
        size = grid[0] * patch[0], grid[1] * patch[1]
        resized = F.interpolate(image, size, mode="bilinear", antialias=True)
        logits1, importance = self.localizer(resized)
        with torch.no_grad():
            boxes = locate(importance, (height, width), margin=self.margin)
            crops = crop_boxes(image, boxes, self.crop_size)
        logits2 = self.classifier(crops)
        probability = (logits1.softmax(dim=1) + logits2.softmax(dim=1)) / 2
        return {
            "logits1": logits1,
            "logits2": logits2,
            "probability": probability,
            "boxes": boxes,
            "importance": importance,
        }


def _box(region: Tensor, image_size: tuple[int, int], margin: float, min_share: float) -> list[int]:
    """Return (left, top, right, bottom) of one importance map at image size."""
    from scipy.ndimage import find_objects, label

    important = (region > region.mean() + 1e-6 * region.abs().max()).cpu().numpy()
    regions, count = label(important)
    if not count:
        return [0, 0, image_size[1], image_size[0]]
    largest = int(np.bincount(regions.ravel())[1:].argmax()) + 1
    rows, columns = find_objects(regions)[largest - 1]
    top, bottom = _extend(rows.start, rows.stop, image_size[0], margin, min_share)
    left, right = _extend(columns.start, columns.stop, image_size[1], margin, min_share)
    return [left, top, right, bottom]


def _extend(start: int, stop: int, size: int, margin: float, min_share: float) -> tuple[int, int]:
    """Enlarge [start, stop) by the margin and to the minimum, inside [0, size)."""
    wanted = max((stop - start) * (1 + 2 * margin), min_share * size)
    length = min(size, round(wanted))
    first = round((start + stop - length) / 2)
    first = min(max(0, first), size - length)
    return first, first + length
