"""Losses: soft Dice as the original Swin-Unet defines it, with cross-entropy or focal loss.

Every loss is a function of a few sums over all pixels of the batch. Where several processes train
on parts of a batch, their sums are added up first, so that all of them compute the loss of the
whole batch: `total` is what adds up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Total = Callable[[Tensor], Tensor]
LossName = Literal["ce_dice", "dice_focal"]


def of_one_process(sums: Tensor) -> Tensor:
    """Return the sums as they are: one process has the whole batch."""
    return sums


def soft_dice_loss(
    logits: Tensor, label: Tensor, smooth: float = 1e-5, total: Total = of_one_process
) -> Tensor:
    """Compute 1 - Dice of softmax probabilities, squared sums, the batch taken as one image.

    Equals MONAI's DiceLoss(softmax=True, to_onehot_y=True, squared_pred=True, batch=True) with
    both smoothing terms `smooth`; the background is a class like the others.

    Args:
        logits: Scores (B, K, H, W).
        label: Class indices (B, H, W), int64.
        smooth: Added to numerator and denominator.
        total: Adds up the sums of all processes.

    Returns:
        The mean over classes, a float32 scalar.
    """
    return _dice_loss(total(_dice_sums(logits, label)), smooth)


def _dice_sums(logits: Tensor, label: Tensor) -> Tensor:
    """Return the sums (2, K) over all pixels: intersection, and both areas."""
    probability = logits.float().softmax(dim=1).transpose(0, 1).flatten(1)  # (K, B * H * W)
    target = F.one_hot(label.flatten(), logits.shape[1]).t().to(probability.dtype)
    intersection = (probability * target).sum(dim=1)
    areas = probability.square().sum(dim=1) + target.sum(dim=1)
    return torch.stack([intersection, areas])


def _dice_loss(sums: Tensor, smooth: float = 1e-5) -> Tensor:
    intersection, areas = sums
    return 1 - ((2 * intersection + smooth) / (areas + smooth)).mean()


def _cross_entropy_sums(logits: Tensor, label: Tensor, class_weights: Tensor | None) -> Tensor:
    """Return the sum of the weighted cross-entropy and the sum of the weights, (2,)."""
    # Not reduction="sum": on a GPU that adds up in no fixed order, here and with 2D labels only.
    cost = F.cross_entropy(logits, label, class_weights, reduction="none").sum()
    if class_weights is None:
        return torch.stack([cost, cost.new_tensor(label.numel())])
    return torch.stack([cost, class_weights[label].sum()])


def _focal_sums(logits: Tensor, label: Tensor, class_weights: Tensor | None) -> Tensor:
    """Return the sum of the weighted focal loss and the number of terms, (2,).

    As in MONAI's DiceFocalLoss every class is a decision of its own (sigmoid, gamma 2), and the
    mean is taken over pixels and classes.
    """
    target = F.one_hot(label, logits.shape[1]).movedim(-1, 1)
    margin = torch.where(target > 0, logits, -logits)
    cost = torch.sigmoid(-margin).square() * F.softplus(-margin)
    if class_weights is not None:
        cost = cost * class_weights.view(1, -1, 1, 1)
    return torch.stack([cost.sum(), cost.new_tensor(cost.numel())])


class SegmentationLoss(nn.Module):
    """Weighted sum of soft Dice and a loss of single pixels, in float32 also under autocast.

    `ce_dice` equals MONAI's DiceCELoss, `dice_focal` its DiceFocalLoss, both with the Dice of
    `soft_dice_loss`. Class weights act on the pixels' loss alone: Dice balances classes already.

    Args:
        name: `ce_dice` or `dice_focal`.
        ce_weight: Weight of the cross-entropy or focal loss.
        dice_weight: Weight of the Dice loss.
        class_weights: One per class, background first; None: all 1.
        total: Adds up the sums of all processes.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        name: LossName = "ce_dice",
        ce_weight: float = 0.4,
        dice_weight: float = 0.6,
        *,
        class_weights: Sequence[float] | None = None,
        total: Total = of_one_process,
    ) -> None:
        super().__init__()
        self.pixel_loss = "focal" if name == "dice_focal" else "ce"
        self.ce_weight = ce_weight
        self.dice_weight = dice_weight
        self.total = total
        weights = None if class_weights is None else torch.tensor(class_weights)
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, logits: Tensor, label: Tensor) -> dict[str, Tensor]:
        """Compare logits (B, K, H, W) with labels (B, H, W).

        Returns:
            `loss`, and its parts: `ce` or `focal`, and `dice`; scalars.
        """
        pixel_sums = _focal_sums if self.pixel_loss == "focal" else _cross_entropy_sums
        with torch.autocast(logits.device.type, enabled=False):
            logits = logits.float()
            sums = torch.cat([
                pixel_sums(logits, label, self.class_weights),
                _dice_sums(logits, label).flatten(),
            ])  # fmt: skip
            cost, count, *_ = sums = self.total(sums)
            # All pixels may be of classes of weight 0.
            pixel = cost / count.clamp(min=torch.finfo(count.dtype).tiny)
            dice = _dice_loss(sums[2:].view(2, -1))
        loss = self.ce_weight * pixel + self.dice_weight * dice
        return {"loss": loss, self.pixel_loss: pixel, "dice": dice}


class DeepSupervisionLoss(nn.Module):
    """Mean of a loss over the scales of a network, each coarser scale with half the weight.

    As in nnU-Net, labels are taken to the coarser scales by their nearest pixel.

    Args:
        criterion: Compares logits with labels of one scale; returns `loss` and its parts.
        strides: Pixels per side of a position of each scale, finest first.
    """

    def __init__(self, criterion: nn.Module, strides: Sequence[int]) -> None:
        super().__init__()
        self.criterion = criterion
        self.strides = tuple(strides)

    def forward(self, outputs: Sequence[Tensor], label: Tensor) -> dict[str, Tensor]:
        """Compare the logits of all scales, finest first, with labels (B, H, W).

        Returns:
            `loss` of all scales, and the parts of the finest one's.
        """
        losses = [
            self.criterion(logits, subsample(label, stride, logits.shape[-2:]))
            for logits, stride in zip(outputs, self.strides, strict=True)
        ]
        weights = [0.5**scale for scale in range(len(losses))]
        pairs = zip(weights, losses, strict=True)
        mean = sum(weight * scale["loss"] for weight, scale in pairs) / sum(weights)
        return {**losses[0], "loss": mean}


def subsample(label: Tensor, stride: int, size: Sequence[int]) -> Tensor:
    """Take the middle pixel of every `stride` x `stride` square of labels (B, H, W).

    Args:
        label: Class indices.
        stride: Pixels per side of a square.
        size: Squares (h, w); those beyond the edge repeat its pixels.

    Returns:
        Class indices (B, h, w).
    """
    if stride == 1:
        return label
    rows, columns = (
        (torch.arange(count, device=label.device) * stride + stride // 2).clamp(max=extent - 1)
        for count, extent in zip(size, label.shape[-2:], strict=True)
    )
    return label[:, rows[:, None], columns]
