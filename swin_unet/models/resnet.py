"""SwinResNet: a ResNet-50 whose 3 x 3 convolutions are SwinT layers; and its ResNet-50 twin."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from swin_unet.layers.swin_t import SwinT

STEM_STRIDE = 4


@dataclass(frozen=True)
class Place:
    """Where in the network the spatial layer of a bottleneck stands."""

    stage: int
    width: int
    """Channels in and out."""
    scale: int
    """Pixels per token side of the input."""
    stride: int


SpatialLayer = Callable[[Place], nn.Module]


class ResNet(nn.Module):
    """Classify images with a residual network of bottlenecks, by default ResNet-50.

    Args:
        in_channels: Channels of the image.
        num_classes: Classes to tell apart.
        depths: Bottlenecks per stage; None: (3, 4, 6, 3).
        widths: Channels inside the bottlenecks, per stage; four times as many come out.
        spatial_layer: Makes the middle layers of the bottlenecks: 3 x 3 convolutions.

    Example:
        >>> import torch
        >>> ResNet(num_classes=10).eval()(torch.zeros(1, 3, 32, 32)).shape
        torch.Size([1, 10])
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 12,
        *,
        depths: Sequence[int] | None = None,
        widths: Sequence[int] = (64, 128, 256, 512),
        spatial_layer: SpatialLayer | None = None,
    ) -> None:
        super().__init__()
        depths = tuple(depths or (3, 4, 6, 3))
        if len(depths) != len(widths) or min(*depths, *widths) < 1:
            raise ValueError(f"depths {depths} and widths {widths} need one number per stage")
        self.stem = nn.Sequential(
            *_conv_norm(in_channels, widths[0], kernel_size=7, stride=2),
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
        )
        self.stages = nn.Sequential(*_stages(depths, widths, spatial_layer or _convolution))
        self.head = _head(4 * widths[-1], num_classes)

    def forward(self, image: Tensor) -> Tensor:
        """Compute logits (B, num_classes) of images (B, in_channels, H, W) of any size."""
        x = self.stages(self.stem(image))
        return self.head(x.mean(dim=(2, 3)))


class SwinResNet(ResNet):
    """ResNet-50 with a SwinT layer in every bottleneck whose map is larger than a window.

    Source: the network of the article that presents SwinT, which keeps the convolutions on 7 x 7
    maps. Images may have any size: `image_size` only decides where the convolutions stay.

    Args:
        in_channels: Channels of the image.
        num_classes: Classes to tell apart.
        depths: Bottlenecks per stage; None: (3, 4, 6, 3).
        widths: Channels inside the bottlenecks, per stage; four times as many come out.
        num_heads: Attention heads per stage; None: (4, 8, 16, 32).
        window_size: Tokens per window side.
        image_size: Size of the images to expect in pixels, of which the shorter side counts.

    Raises:
        ValueError: For arguments that contradict each other.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 12,
        *,
        depths: Sequence[int] | None = None,
        widths: Sequence[int] = (64, 128, 256, 512),
        num_heads: Sequence[int] | None = None,
        window_size: int = 7,
        image_size: int | Sequence[int] = 224,
    ) -> None:
        heads_of = tuple(num_heads or (4, 8, 16, 32))
        side = image_size if isinstance(image_size, int) else min(image_size)
        if not isinstance(window_size, int):
            raise ValueError(f"window_size must be one number, not {window_size}")
        if len(heads_of) != len(widths):
            raise ValueError(f"num_heads {heads_of} needs one number per stage: {len(widths)}")
        if math.ceil(side / STEM_STRIDE) <= window_size:
            raise ValueError(f"image_size {image_size} has no map larger than window {window_size}")

        def spatial_layer(place: Place) -> nn.Module:
            if math.ceil(side / place.scale) <= window_size:
                return _convolution(place)
            heads, downsample = heads_of[place.stage], place.stride == 2
            return SwinT(place.width, place.width, heads, window_size, downsample)

        super().__init__(
            in_channels, num_classes, depths=depths, widths=widths, spatial_layer=spatial_layer
        )


class Bottleneck(nn.Module):
    """Reduce the channels, apply the spatial layer, expand the channels, add the shortcut.

    Args:
        in_channels: Channels of the input.
        place: Width and stride of the spatial layer; four times the width comes out.
        spatial_layer: Makes the spatial layer.
    """

    def __init__(self, in_channels: int, place: Place, spatial_layer: SpatialLayer) -> None:
        super().__init__()
        width, stride = place.width, place.stride
        self.reduce = nn.Sequential(*_conv_norm(in_channels, width, kernel_size=1), nn.ReLU())
        self.spatial = spatial_layer(place)
        self.expand = nn.Sequential(*_conv_norm(width, 4 * width, kernel_size=1))
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != 4 * width:
            layers = _conv_norm(in_channels, 4 * width, kernel_size=1, stride=stride)
            self.shortcut = nn.Sequential(*layers)
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map features (B, in_channels, H, W) to (B, 4 width, H / stride, W / stride)."""
        branch = self.expand(self.spatial(self.reduce(x)))
        return self.activation(branch + self.shortcut(x))


def _stages(
    depths: Sequence[int], widths: Sequence[int], spatial_layer: SpatialLayer
) -> Iterator[nn.Sequential]:
    """Make the stages; all but the first halve the resolution in their first bottleneck."""
    channels, scale = widths[0], STEM_STRIDE
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        blocks = []
        for position in range(depth):
            stride = 2 if stage > 0 and position == 0 else 1
            blocks.append(Bottleneck(channels, Place(stage, width, scale, stride), spatial_layer))
            channels, scale = 4 * width, scale * stride
        yield nn.Sequential(*blocks)


def _convolution(place: Place) -> nn.Module:
    layers = _conv_norm(place.width, place.width, kernel_size=3, stride=place.stride)
    return nn.Sequential(*layers, nn.ReLU())


def _conv_norm(
    in_channels: int, out_channels: int, *, kernel_size: int, stride: int = 1
) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    """Make a convolution that pads to keep ceil(size / stride), and its norm."""
    conv = nn.Conv2d(
        in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False
    )
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv, nn.BatchNorm2d(out_channels)


def _head(channels: int, num_classes: int) -> nn.Sequential:
    """Make the article's classifier; PyTorch's own initialisation is its U(+-1 / sqrt(fan_in))."""
    hidden = 256
    return nn.Sequential(
        nn.Dropout(0.2),
        nn.Linear(channels, hidden),
        nn.LayerNorm(hidden, eps=1e-5),
        nn.Dropout(0.2),
        nn.LeakyReLU(),
        nn.Linear(hidden, num_classes),
    )
