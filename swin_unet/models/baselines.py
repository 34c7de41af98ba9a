"""MONAI's networks to compare with, for images of any size.

They train and infer as SwinUNet does: `model.name` is all that changes. Their options are those of
the constructors below, see docs/models.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from monai.networks import nets
from torch import Tensor, nn

from swin_unet.models.stages import check_stages


class PaddedNetwork(nn.Module):
    """Run a network that takes only multiples of its coarsest stride on images of any size.

    Args:
        network: Maps images (B, in_channels, H, W) to logits (B, num_classes, H, W).
        stride: Pixels per side of a position of its coarsest map.
    """

    def __init__(self, network: nn.Module, stride: int) -> None:
        super().__init__()
        self.network = network
        self.stride = stride

    def forward(self, image: Tensor) -> Tensor:
        """Compute logits (B, num_classes, H, W) of images (B, in_channels, H, W), any H, W >= 1.

        The image is padded at the bottom and right by its replicated edges, to two strides at
        least: norms over the positions of a map cannot train on a single one.
        """
        H, W = image.shape[-2:]
        bottom, right = (_padded(size, self.stride) - size for size in (H, W))
        if bottom or right:
            image = F.pad(image, (0, right, 0, bottom), mode="replicate")
        logits: Tensor = self.network(image)
        return logits[..., :H, :W]


def basic_unet(
    in_channels: int = 1, num_classes: int = 9, *, embed_dim: int | None = None
) -> PaddedNetwork:
    """Build MONAI's BasicUNet: five levels, two convolutions each, instance norm.

    Source: Falk et al., U-Net: deep learning for cell counting, detection, and morphometry,
    Nature Methods 16, 2019.

    Args:
        in_channels: Channels of the image.
        num_classes: Channels of the logits, background included.
        embed_dim: Channels w of the first level; the levels have w, w, 2w, 4w, 8w and the last
            one w. None: 32, as in MONAI.

    Raises:
        ValueError: For a width below 1.
    """
    width = _check_width(32 if embed_dim is None else embed_dim)
    network = nets.BasicUNet(
        spatial_dims=2,
        in_channels=in_channels,
        out_channels=num_classes,
        features=(width, width, 2 * width, 4 * width, 8 * width, width),
    )
    return PaddedNetwork(network, stride=16)


def attention_unet(
    in_channels: int = 1, num_classes: int = 9, *, embed_dim: int | None = None
) -> PaddedNetwork:
    """Build MONAI's AttentionUnet: a five-level U-Net with gated skips and batch norm.

    Source: Oktay et al., Attention U-Net: Learning Where to Look for the Pancreas, MIDL 2018.

    Args:
        in_channels: Channels of the image.
        num_classes: Channels of the logits, background included.
        embed_dim: Channels w of the first level, at least 2; the levels have w, 2w, ... 16w.
            None: 32.

    Raises:
        ValueError: For a width below 2, whose gates would have no channel.
    """
    width = _check_width(32 if embed_dim is None else embed_dim, minimum=2)
    network = nets.AttentionUnet(
        spatial_dims=2,
        in_channels=in_channels,
        out_channels=num_classes,
        channels=[width * 2**level for level in range(5)],
        strides=(2, 2, 2, 2),
    )
    return PaddedNetwork(network, stride=16)


def dyn_unet(
    in_channels: int = 1, num_classes: int = 9, *, embed_dim: int | None = None
) -> PaddedNetwork:
    """Build MONAI's DynUNet as nnU-Net's 2D network for slices of 224 pixels: six levels.

    Source: Isensee et al., nnU-Net, Nature Methods 18, 2021. Without deep supervision.

    Args:
        in_channels: Channels of the image.
        num_classes: Channels of the logits, background included.
        embed_dim: Channels w of the first level; the levels have w, 2w, 4w, 8w, 16w, 16w. None:
            32, as in nnU-Net.

    Raises:
        ValueError: For a width below 1.
    """
    width = _check_width(32 if embed_dim is None else embed_dim)
    network = nets.DynUNet(
        spatial_dims=2,
        in_channels=in_channels,
        out_channels=num_classes,
        kernel_size=[3] * 6,
        strides=[1, 2, 2, 2, 2, 2],
        upsample_kernel_size=[2] * 5,
        filters=[width * min(2**level, 16) for level in range(6)],
    )
    return PaddedNetwork(network, stride=32)


def swin_unetr(
    in_channels: int = 1,
    num_classes: int = 9,
    *,
    embed_dim: int | None = None,
    depths: Sequence[int] | None = None,
    num_heads: Sequence[int] | None = None,
    window_size: int | Sequence[int] = 7,
    drop_path_rate: float = 0.2,
    checkpointing: bool = False,
) -> PaddedNetwork:
    """Build MONAI's SwinUNETR: a Swin encoder with patches of two pixels, a residual U-Net decoder.

    Source: Hatamizadeh et al., Swin UNETR, BrainLes 2021.

    Args:
        in_channels: Channels of the image.
        num_classes: Channels of the logits, background included.
        embed_dim: Channels of the first stage, a multiple of 12. None: 24, as in MONAI.
        depths: Blocks of each of the four stages. None: two each.
        num_heads: Attention heads of each stage. None: 3, 6, 12, 24.
        window_size: Tokens per window side, one number: MONAI's stages share it.
        drop_path_rate: Stochastic depth of the deepest block, in [0, 1); MONAI's own default is 0.
        checkpointing: Recompute blocks in the backward pass: less memory, more time.

    Raises:
        ValueError: For arguments that contradict each other.
    """
    width = _check_width(24 if embed_dim is None else embed_dim)
    depths, num_heads = tuple(depths or (2, 2, 2, 2)), tuple(num_heads or (3, 6, 12, 24))
    check_stages(width, depths, num_heads, 1, None)
    if len(depths) != 4:
        raise ValueError(f"depths {depths} must be of four stages in swin_unetr")
    if not isinstance(window_size, int) or window_size < 1:
        raise ValueError(f"window_size must be one positive number, not {window_size}")
    network = nets.SwinUNETR(
        spatial_dims=2,
        in_channels=in_channels,
        out_channels=num_classes,
        feature_size=width,
        depths=depths,
        num_heads=num_heads,
        window_size=window_size,
        dropout_path_rate=drop_path_rate,
        use_checkpoint=checkpointing,
    )
    return PaddedNetwork(network, stride=32)


def _padded(size: int, stride: int) -> int:
    return max(-(-size // stride), 2) * stride


def _check_width(embed_dim: int, minimum: int = 1) -> int:
    if embed_dim < minimum:
        raise ValueError(f"embed_dim must be at least {minimum}, not {embed_dim}")
    return embed_dim
