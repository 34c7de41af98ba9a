"""Swin-UNet: pad, encode, decode, classify every pixel, crop.

Source: Cao et al., Swin-Unet: Unet-like Pure Transformer for Medical Image Segmentation,
ECCV Workshops 2022. Same weights give the same logits as the authors' code at 224 x 224.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from swin_unet.layers.initialization import init_linears, look_locally
from swin_unet.layers.mgff import SkipFusion
from swin_unet.layers.resampling import Upsampling
from swin_unet.layers.stage import Version
from swin_unet.models.decoder import SwinDecoder
from swin_unet.models.encoder import FeatureSource, SwinEncoder
from swin_unet.models.refinement import PixelRefinement
from swin_unet.models.stages import check_stages, per_stage, spread_drop_path
from swin_unet.models.variants import UNET_VARIANTS, Size

Fusion = Literal["none", "mgff"]


class SwinUNet(nn.Module):
    """Segment images of any size with a Swin Transformer encoder and a mirrored decoder.

    Args:
        in_channels: Channels of the image.
        num_classes: Channels of the logits, background included.
        size: Width, heads and depths by name; the next three override it.
        version: Of the Swin blocks, 1 or 2.
        patch_size: Pixels per token side at the first stage.
        embed_dim: Channels of the first stage.
        depths: Blocks per stage, of encoder and decoder alike; the last is the bottleneck.
        num_heads: Attention heads per stage.
        window_size: Tokens per window side, one number or one per stage.
        pretrained_window_sizes: Version 2: the windows that the weights were trained with, one
            per stage; None: the windows themselves.
        skips: Number of skip connections, finest first, or the collection of their scales, a
            subset of `patch_size` times 1, 2, 4, ... A skip that is off has no parameters.
        skip_source: Take skips before the encoder's blocks (the authors' code) or after them
            (their figure).
        skip_fusion: `mgff` lets the skip connections know each other before they join the
            decoder, see `SkipFusion`; its grid is one window of the last stage.
        upsampling: Patch expanding, bilinear or transposed convolution.
        drop_path_rate: Stochastic depth of the deepest block, in [0, 1).
        checkpointing: Recompute blocks in the backward pass: less memory, more time.
        position_init: Initial biases of the attention: `random`, as published, or `local`: each
            head looks at a neighbour of its own at first, which learns much faster from random
            weights on small data. Version 1 only.
        conditional_positions: Before every block add to the tokens a depthwise convolution of
            them, see `ConditionalPositions`. Not in the paper; learns faster from random weights.
        pixel_refinement: Refine the decoder's pixels by convolutions that see the image. Not in
            the paper; sharper borders of small structures.

    Raises:
        ValueError: For arguments that contradict each other.

    Example:
        >>> import torch
        >>> model = SwinUNet(in_channels=1, num_classes=9)
        >>> model(torch.zeros(1, 1, 200, 144)).shape
        torch.Size([1, 9, 200, 144])
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 9,
        *,
        size: Size = "tiny",
        version: Version = 1,
        patch_size: int = 4,
        embed_dim: int | None = None,
        depths: Sequence[int] | None = None,
        num_heads: Sequence[int] | None = None,
        window_size: int | Sequence[int] = 7,
        pretrained_window_sizes: Sequence[int] | None = None,
        skips: int | Collection[int] = 3,
        skip_source: FeatureSource = "pre_block",
        skip_fusion: Fusion = "none",
        upsampling: Upsampling = "expand",
        drop_path_rate: float = 0.2,
        checkpointing: bool = False,
        position_init: Literal["random", "local"] = "random",
        conditional_positions: bool = False,
        pixel_refinement: bool = False,
    ) -> None:
        super().__init__()
        variant = UNET_VARIANTS[size]
        embed_dim = embed_dim or variant.embed_dim
        depths = tuple(depths or variant.depths)
        num_heads = tuple(num_heads or variant.num_heads)
        windows = per_stage(window_size, len(depths))
        check_stages(embed_dim, depths, num_heads, version, pretrained_window_sizes)
        drop_path_rates = spread_drop_path(drop_path_rate, depths)
        self.encoder = SwinEncoder(
            in_channels,
            embed_dim,
            depths=depths,
            num_heads=num_heads,
            window_sizes=windows,
            patch_size=patch_size,
            drop_path_rates=drop_path_rates,
            feature_source=skip_source,
            version=version,
            pretrained_window_sizes=pretrained_window_sizes,
            checkpointing=checkpointing,
        )
        scales = skip_scales(skips, self.encoder.strides[:-1])
        self.decoder = SwinDecoder(
            self.encoder.channels,
            self.encoder.strides,
            num_heads=num_heads,
            window_sizes=windows,
            skip_scales=scales,
            upsampling=upsampling,
            drop_path_rates=drop_path_rates,
            version=version,
            pretrained_window_sizes=pretrained_window_sizes,
            checkpointing=checkpointing,
        )
        self.refine = PixelRefinement(in_channels, embed_dim) if pixel_refinement else None
        self.head = nn.Conv2d(embed_dim, num_classes, kernel_size=1, bias=False)
        fused = [stage for stage, stride in enumerate(self.encoder.strides) if stride in scales]
        self.fusion = self._build_fusion(skip_fusion, fused, num_heads, windows[-1])
        self._fused = fused
        init_linears(self)
        if self.fusion is not None:
            self.fusion.start_at_zero()
        if conditional_positions:
            for stage in [*self.encoder.stages, *(level.stage for level in self.decoder.levels)]:
                stage.add_conditional_positions()
        if position_init == "local":
            look_locally(self)

    def _build_fusion(
        self, kind: Fusion, stages: Sequence[int], num_heads: Sequence[int], side: int
    ) -> SkipFusion | None:
        """Build the fusion of the skip connections of these stages, on a grid of this side."""
        if kind == "none":
            return None
        if kind != "mgff" or not stages:
            raise ValueError(f"skip_fusion must be none or mgff, with skips to fuse, not {kind}")
        return SkipFusion(
            [self.encoder.channels[stage] for stage in stages],
            [self.encoder.strides[stage] for stage in stages],
            grid=(side, side),
            grid_stride=self.encoder.strides[-1],
            num_heads=num_heads[stages[-1]],
        )

    def forward(self, image: Tensor) -> Tensor:
        """Compute logits (B, num_classes, H, W) of images (B, in_channels, H, W), any H, W >= 1.

        The image is padded once, by its replicated edges, so that every skip connection fits.
        """
        H, W = image.shape[-2:]
        x = self.decoder(self._encode(image))
        return self._classify(x, image)[..., :H, :W]

    def forward_scales(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Compute the logits as `forward` does, and return what they come from.

        Returns:
            The logits, and the decoder's maps (B, h, w, channels), finest first, at the scales
            `encoder.strides[:-1]` of the padded image.
        """
        H, W = image.shape[-2:]
        maps = self.decoder.decode(self._encode(image))
        return self._classify(self.decoder.to_pixels(maps[0]), image)[..., :H, :W], maps

    def _encode(self, image: Tensor) -> list[Tensor]:
        """Encode the padded image to the maps that the decoder takes, fused if they are to be."""
        features = self.encoder(self._pad(image))
        if self.fusion is None:
            return features
        fused = self.fusion([features[stage] for stage in self._fused])
        replaced = dict(zip(self._fused, fused, strict=True))
        return [replaced.get(stage, x) for stage, x in enumerate(features)]

    def _pad(self, image: Tensor) -> Tensor:
        stride = self.encoder.strides[-1]
        bottom, right = (-image.shape[-2]) % stride, (-image.shape[-1]) % stride
        if bottom or right:
            image = F.pad(image, (0, right, 0, bottom), mode="replicate")
        return image

    def _classify(self, pixels: Tensor, image: Tensor) -> Tensor:
        x = pixels.permute(0, 3, 1, 2)
        if self.refine is not None:
            x = self.refine(x, self._pad(image))
        logits: Tensor = self.head(x)
        return logits


def skip_scales(skips: int | Collection[int], strides: Sequence[int]) -> frozenset[int]:
    """Translate the `skips` argument to scales.

    Args:
        skips: Number of skip connections, finest first, or their scales.
        strides: Scales at which a skip connection is possible, finest first.

    Returns:
        The scales at which a skip connection is on.

    Raises:
        ValueError: For a number or scale that is not possible.
    """
    if isinstance(skips, int):
        if not 0 <= skips <= len(strides):
            raise ValueError(f"skips must be 0..{len(strides)} or scales of {strides}, not {skips}")
        return frozenset(strides[:skips])
    unknown = sorted(set(skips) - set(strides))
    if unknown:
        raise ValueError(f"skips {unknown} are not among the scales {list(strides)}")
    return frozenset(skips)
