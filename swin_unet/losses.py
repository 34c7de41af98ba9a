"""Dice plus cross-entropy, with the Dice definition of the original Swin-Unet."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def soft_dice_loss(logits: Tensor, label: Tensor, smooth: float = 1e-5) -> Tensor:
    """Compute 1 - Dice of softmax probabilities, squared sums, the batch taken as one image.

    Equals MONAI's DiceLoss(softmax=True, to_onehot_y=True, squared_pred=True, batch=True) with
    both smoothing terms `smooth`; the background is a class like the others.

    Args:
        logits: Scores (B, K, H, W).
        label: Class indices (B, H, W), int64.
        smooth: Added to numerator and denominator.

    Returns:
        The mean over classes, a float32 scalar.
    """
    probability = logits.float().softmax(dim=1).transpose(0, 1).flatten(1)  # (K, B * H * W)
    target = F.one_hot(label.flatten(), logits.shape[1]).t().to(probability.dtype)
    intersection = (probability * target).sum(dim=1)
    total = probability.square().sum(dim=1) + target.sum(dim=1)
    return 1 - ((2 * intersection + smooth) / (total + smooth)).mean()


class DiceCrossEntropyLoss(nn.Module):
    """Weighted sum of cross-entropy and soft Dice loss, in float32 also under autocast.

    Args:
        ce_weight: Weight of the cross-entropy.
        dice_weight: Weight of the Dice loss.
    """

    def __init__(self, ce_weight: float = 0.4, dice_weight: float = 0.6) -> None:
        super().__init__()
        self.ce_weight = ce_weight
        self.dice_weight = dice_weight

    def forward(self, logits: Tensor, label: Tensor) -> dict[str, Tensor]:
        """Compare logits (B, K, H, W) with labels (B, H, W); return `loss`, `ce` and `dice`."""
        with torch.autocast(logits.device.type, enabled=False):
            logits = logits.float()
            ce = F.cross_entropy(logits, label)
            dice = soft_dice_loss(logits, label)
        return {"loss": self.ce_weight * ce + self.dice_weight * dice, "ce": ce, "dice": dice}
