"""Find where to look twice: attention of a ViT to a box, and classification in two stages.

Importance of a token: how much attention it receives, added up over layers (`sum`, the article's
way), or over paths through the layers (`rollout`, Abnar and Zuidema 2020; `product`, TransFG,
AAAI 2022). The rows of an attention matrix sum to 1, so what a token receives is a sum over rows.
The article does not say how its map becomes a box; `locate` is our choice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Importance = Literal["sum", "rollout", "product"]
MAX_TOKENS = 2500  # attention is quadratic in them, and all of it is kept


class Localizer(nn.Module):
    """A ViT classifier whose attention tells where it looks.

    Args:
        in_channels: Channels of the image.
        num_classes: Length of the logits.
        image_size: Height and width in pixels, multiples of `patch_size`.
        patch_size: Pixels per token side.
        embed_dim: Channels of a token; None: 768, as in ViT-B.
        depths: Transformer blocks, one number as a ViT has one stage; None: 12.
        num_heads: Attention heads, one number; None: 12.
        importance: How the importance of a token is computed.

    Raises:
        ValueError: For arguments that contradict each other.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 2,
        *,
        image_size: Sequence[int] = (384, 384),
        patch_size: int = 16,
        embed_dim: int | None = None,
        depths: Sequence[int] | None = None,
        num_heads: Sequence[int] | None = None,
        importance: Importance = "sum",
    ) -> None:
        super().__init__()
        from monai.networks.nets import ViT

        if any(len(numbers) != 1 for numbers in (depths or (12,), num_heads or (12,))):
            raise ValueError(f"depths {depths} and num_heads {num_heads} need one number each")
        height, width = image_size
        dim, (depth,), (heads,) = embed_dim or 768, depths or (12,), num_heads or (12,)
        if height % patch_size or width % patch_size:
            raise ValueError(f"image_size {image_size} is no multiple of patches of {patch_size}")
        if dim % heads:
            raise ValueError(f"num_heads {heads} does not divide embed_dim {dim}")
        self.image_size = height, width
        self.grid = height // patch_size, width // patch_size
        if self.grid[0] * self.grid[1] > MAX_TOKENS:
            raise ValueError(
                f"patch_size {patch_size} makes too many tokens of {image_size}: use 16"
            )
        self.importance = importance
        self.vit = ViT(
            in_channels,
            self.image_size,
            patch_size,
            hidden_size=dim,
            mlp_dim=4 * dim,
            num_layers=depth,
            num_heads=heads,
            classification=True,
            num_classes=num_classes,
            post_activation="None",
            spatial_dims=2,
            save_attn=True,
        )

    def forward(self, image: Tensor) -> Tensor:
        """Compute logits (B, num_classes) of images (B, in_channels, *image_size)."""
        logits: Tensor = self.vit(image)[0]
        return logits

    @torch.no_grad()
    def look(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Classify images (B, in_channels, *image_size) and say what was looked at.

        Returns:
            Logits (B, num_classes), and the importance (B, h, w) of every token.
        """
        logits = self(image)
        return logits, token_importance(_attentions(self.vit), self.grid, self.importance)


def _attentions(vit: Any) -> list[Tensor]:
    """Return what every layer attended to in the last call, (B, num_heads, N, N) each."""
    return [block.attn.att_mat for block in vit.blocks]


def token_importance(
    attentions: Sequence[Tensor], grid: tuple[int, int], mode: Importance = "sum"
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
    boxes = [_box(region, image_size, margin, min_share) for region in importance]
    return torch.tensor(boxes, device=importance.device)


def crop_boxes(images: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Cut (left, top, right, bottom) out of every image (B, C, H, W), resized to `size`."""
    crops = [
        F.interpolate(image[None, :, top:bottom, left:right], size, mode="bilinear", antialias=True)
        for image, (left, top, right, bottom) in zip(images, boxes.tolist(), strict=True)
    ]
    return torch.cat(crops)


class TwoLooks(TypedDict):
    """What a `TwoStageClassifier` returns: (B, num_classes) each, (B, 4) and (B, h, w)."""

    logits1: Tensor
    logits2: Tensor
    probability: Tensor
    boxes: Tensor
    importance: Tensor


class TwoStageClassifier(nn.Module):
    """Look at the whole image, look again where that pointed, and average both opinions.

    Args:
        classifier: Images (B, C, *crop_size) to logits.
        localizer: Classifies the whole image and finds the region. It is trained on its own,
            before: nothing here gives it a gradient.
        crop_size: Height and width of the second look in pixels.
        margin: See `locate`.
        multi_label: Whether several classes may be true at once.
    """

    def __init__(
        self,
        classifier: nn.Module,
        localizer: Localizer,
        *,
        crop_size: tuple[int, int] = (384, 384),
        margin: float = 0.1,
        multi_label: bool = False,
    ) -> None:
        super().__init__()
        self.classifier = classifier
        self.localizer = localizer
        self.crop_size = crop_size
        self.margin = margin
        self.multi_label = multi_label

    def forward(self, image: Tensor) -> TwoLooks:
        """Classify images (B, C, H, W) of any size.

        Returns:
            `logits1` of the whole image, `logits2` of the crop, `probability`, the mean of both,
            `boxes` in pixels of the image and `importance` of the tokens.
        """
        size = image.shape[-2], image.shape[-1]
        whole_size = self.localizer.image_size
        with torch.no_grad():
            whole = F.interpolate(image, whole_size, mode="bilinear", antialias=True)
            logits1, importance = self.localizer.look(whole)
            boxes = locate(importance, size, margin=self.margin)
            crops = crop_boxes(image, boxes, self.crop_size)
        logits2 = self.classifier(crops)
        return TwoLooks(
            logits1=logits1,
            logits2=logits2,
            probability=(self._probability(logits1) + self._probability(logits2)) / 2,
            boxes=boxes,
            importance=importance,
        )

    def _probability(self, logits: Tensor) -> Tensor:
        return logits.sigmoid() if self.multi_label else logits.softmax(dim=1)


def _box(
    importance: Tensor, image_size: tuple[int, int], margin: float, min_share: float
) -> list[int]:
    """Return (left, top, right, bottom) in pixels for one map of tokens."""
    from scipy.ndimage import find_objects, label

    # Attention that is the same everywhere differs by its rounding, which is nothing to look at.
    threshold = importance.mean() + 1e-4 * importance.abs().max()
    regions, count = label((importance > threshold).cpu().numpy())
    if not count:
        return [0, 0, image_size[1], image_size[0]]
    sizes = [int((regions == number).sum()) for number in range(1, count + 1)]
    rows, columns = find_objects(regions)[sizes.index(max(sizes))]
    top, bottom = extend(
        rows.start / importance.shape[0] * image_size[0],
        rows.stop / importance.shape[0] * image_size[0],
        image_size[0],
        margin=margin,
        min_share=min_share,
    )
    left, right = extend(
        columns.start / importance.shape[1] * image_size[1],
        columns.stop / importance.shape[1] * image_size[1],
        image_size[1],
        margin=margin,
        min_share=min_share,
    )
    return [left, top, right, bottom]


def extend(
    start: float, stop: float, size: int, *, margin: float, min_share: float
) -> tuple[int, int]:
    """Enlarge [start, stop) by a share on each side and to a minimum, inside [0, size).

    Args:
        start: First position.
        stop: Behind the last.
        size: Length of the axis.
        margin: Share of the length that is added on each side.
        min_share: Least share of the axis.
    """
    added = margin * (stop - start)
    lacking = max(0.0, min_share * size - (stop - start) - 2 * added)
    first, last = start - added - lacking / 2, stop + added + lacking / 2
    overhang = max(0.0, last - size) - max(0.0, -first)  # move back what sticks out, if it fits
    first, last = first - overhang, last - overhang
    return max(0, math.floor(first + 1e-6)), min(size, math.ceil(last - 1e-6))
