"""SimMIM: learn from images without labels by filling in what was masked.

Source: Xie et al., SimMIM: a Simple Framework for Masked Image Modeling, CVPR 2022. The published
code reconstructs three channels whatever it is given; this one as many as the image has.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swin_unet.models.encoder import SwinEncoder


class SimMIM(nn.Module):
    """Hide tokens from an encoder and predict their pixels by one linear layer.

    Args:
        encoder: Of a Swin-UNet or classifier; its tokens are replaced after the embedding.
        in_channels: Channels of the image.
        target_window: Predict pixels normalised by mean and deviation of this odd window around
            them, as Swin V2's recipe does; None: the pixels as they are.

    Raises:
        ValueError: For an even `target_window`.
    """

    def __init__(
        self, encoder: SwinEncoder, in_channels: int, *, target_window: int | None = None
    ) -> None:
        super().__init__()
        if target_window is not None and (target_window < 3 or target_window % 2 == 0):
            raise ValueError(f"target_window must be an odd number from 3 on, not {target_window}")
        self.encoder = encoder
        self.in_channels = in_channels
        self.target_window = target_window
        self.mask_token = nn.Parameter(torch.empty(1, 1, encoder.channels[0]))
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        stride = encoder.strides[-1]
        self.decoder = nn.Sequential(
            nn.Conv2d(encoder.channels[-1], stride**2 * in_channels, kernel_size=1),
            nn.PixelShuffle(stride),
        )

    def forward(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Reconstruct masked images.

        Args:
            image: (B, in_channels, H, W), H and W multiples of the encoder's last stride.
            mask: (B, H / patch, W / patch), 1 where the token is hidden.

        Returns:
            `loss`, the mean absolute error of the hidden pixels; `reconstruction` and `target`
            (B, in_channels, H, W), what was predicted and what should have been.

        Raises:
            ValueError: For another size.
        """
        reconstruction = self.reconstruct(image, mask)
        window = self.target_window
        target = image if window is None else normalize_locally(image, window)
        loss = masked_error(reconstruction, target, self.pixel_mask(mask))
        return {"loss": loss, "reconstruction": reconstruction, "target": target}

    def reconstruct(self, image: Tensor, mask: Tensor) -> Tensor:
        """Predict all pixels (B, in_channels, H, W) from the tokens that are not hidden."""
        self._check_size(image, mask)
        tokens = self.encoder.patch_embed(image)
        hidden = mask[..., None].to(tokens.dtype)
        tokens = tokens * (1 - hidden) + self.mask_token.to(tokens.dtype) * hidden
        features = self.encoder.encode_tokens(self.encoder.add_positions(tokens))[-1]
        pixels: Tensor = self.decoder(features.permute(0, 3, 1, 2))
        return pixels

    def pixel_mask(self, mask: Tensor) -> Tensor:
        """Enlarge a mask of tokens (B, h, w) to pixels (B, 1, H, W)."""
        patch = self.encoder.strides[0]
        return mask.repeat_interleave(patch, 1).repeat_interleave(patch, 2)[:, None]

    def _check_size(self, image: Tensor, mask: Tensor) -> None:
        """Refuse what would be padded: the prediction would not lie over the image."""
        (height, width), stride = image.shape[-2:], self.encoder.strides[-1]
        if height % stride or width % stride:
            raise ValueError(f"image size must be a multiple of {stride}, not {height} x {width}")
        patch = self.encoder.strides[0]
        if mask.shape[-2:] != (height // patch, width // patch):
            raise ValueError(f"mask of {tuple(mask.shape[-2:])} tokens over {height} x {width}")


def build_simmim(
    in_channels: int, network: dict[str, Any], target_window: int | None = None
) -> SimMIM:
    """Build SimMIM around the encoder of a network.

    Args:
        in_channels: Channels of the image.
        network: A Swin-UNet or classifier as `model_arguments` describes it.
        target_window: See `SimMIM`.
    """
    from swin_unet.models import build_model

    encoder = build_model(network).encoder
    assert isinstance(encoder, SwinEncoder)
    return SimMIM(encoder, in_channels, target_window=target_window)


def masked_error(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Return the mean absolute error over the pixels and channels where the mask is 1.

    Args:
        prediction: (B, C, H, W).
        target: (B, C, H, W).
        mask: (B, 1, H, W) of zeros and ones.
    """
    mask = mask.float()
    error = (prediction.float() - target.float()).abs() * mask
    return error.sum() / (mask.sum() + 1e-5) / prediction.shape[1]


def normalize_locally(image: Tensor, window: int) -> Tensor:
    """Normalise every pixel by mean and unbiased deviation of the window around it.

    Args:
        image: (B, C, H, W); beyond its edges there is nothing, the window is cut off.
        window: Odd side in pixels.

    Returns:
        (B, C, H, W) float32; 0 where the window is constant.
    """
    image = image.float()
    # Around the image's mean: the difference of large squares would leave nothing but rounding.
    centred = image - image.mean(dim=(2, 3), keepdim=True)
    mean = _window_mean(centred, window)
    rows, columns = (_window_lengths(size, window, image.device) for size in image.shape[-2:])
    count = rows[:, None] * columns
    variance = (_window_mean(centred.square(), window) - mean.square()).clamp(min=0)
    variance = variance * count / (count - 1).clamp(min=1)
    return (centred - mean) / torch.sqrt(variance + 1e-6)


def _window_mean(x: Tensor, window: int) -> Tensor:
    """Average over a window cut off at the edges; along one axis, then the other, which is fast."""
    reach = window // 2
    x = F.avg_pool2d(x, (window, 1), stride=1, padding=(reach, 0), count_include_pad=False)
    return F.avg_pool2d(x, (1, window), stride=1, padding=(0, reach), count_include_pad=False)


def _window_lengths(size: int, window: int, device: torch.device) -> Tensor:
    """Count, for every position on an axis, the positions of its window that are on it."""
    place, reach = torch.arange(size, device=device), window // 2
    return place.clamp(max=reach) + 1 + (size - 1 - place).clamp(max=reach)
