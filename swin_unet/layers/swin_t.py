"""SwinT: a pair of Swin blocks with the interface of a convolution.

Source: the layer `SwinT` of https://github.com/tensorfly-gpu/SwinT, which norms as Swin V2 does
and attends as Swin V1 does. Unlike the published layer it takes maps of any size.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from swin_unet.layers.blocks import PostNormBlock, SwinBlock
from swin_unet.layers.initialization import init_linears
from swin_unet.layers.resampling import PatchMerging

NormPosition = Literal["post", "pre"]


class SwinT(nn.Module):
    """A plain and a shifted Swin block that replace a convolution, NCHW in and out.

    The blocks work at the width of the input; a 1 x 1 convolution or, for half the resolution,
    patch merging then gives the channels of the output. As in a convolution, there is no outer
    residual, norm or activation. The map may have any size: what is missing to a full window is
    never attended to.

    With one input channel the layer is no more than a 1 x 1 convolution: the norm of a single
    channel is constant.

    Args:
        in_channels: Channels of the input, a multiple of `num_heads`.
        out_channels: Channels of the output.
        num_heads: Attention heads.
        window_size: Tokens per window side.
        downsample: Halve the resolution; odd sizes are rounded up.
        mlp_ratio: Hidden channels of the perceptrons by `in_channels`.
        qkv_bias: Learn a bias of queries, keys and values.
        norm_position: Norm what the branches give (the published layer) or what they take (V1).
        drop_path_rate: Stochastic depth, one rate or one per block, in [0, 1).

    Raises:
        ValueError: For arguments that contradict each other, or an input of another shape.

    Example:
        >>> import torch
        >>> SwinT(96, 256, 8, 7)(torch.zeros(2, 96, 20, 15)).shape
        torch.Size([2, 256, 20, 15])
        >>> SwinT(96, 256, 8, 7, downsample=True)(torch.zeros(2, 96, 20, 15)).shape
        torch.Size([2, 256, 10, 8])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_heads: int,
        window_size: int,
        downsample: bool = False,
        *,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        norm_position: NormPosition = "post",
        drop_path_rate: float | tuple[float, float] = 0.0,
    ) -> None:
        super().__init__()
        rates = _pair(drop_path_rate)
        _check_arguments(in_channels, out_channels, num_heads, window_size, mlp_ratio, rates)
        if norm_position not in ("post", "pre"):
            raise ValueError(f"norm_position must be 'post' or 'pre', not {norm_position!r}")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.downsample = downsample
        block_type = PostNormBlock if norm_position == "post" else SwinBlock
        self.blocks = nn.Sequential()
        for shift, rate in zip((0, window_size // 2), rates, strict=True):
            block = block_type(
                in_channels,
                num_heads,
                window_size=(window_size, window_size),
                shift_size=(shift, shift),
                mlp_ratio=mlp_ratio,
                drop_path_rate=rate,
            )
            if not qkv_bias:
                block.attn.qkv = nn.Linear(in_channels, 3 * in_channels, bias=False)
            self.blocks.append(block)
        if downsample:  # one or the other: a layer without gradient would stop DDP
            self.reduction = PatchMerging(in_channels, out_channels)
        else:
            self.conv = nn.Conv2d(in_channels, out_channels, kernel_size=1)
        init_linears(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map features (B, in_channels, H, W) to (B, out_channels, H, W), or half that size."""
        if x.ndim != 4 or x.shape[1] != self.in_channels or 0 in x.shape:
            expected = f"(B, {self.in_channels}, H, W)"
            raise ValueError(f"SwinT expects features {expected}, not {tuple(x.shape)}")
        x = self.blocks(x.permute(0, 2, 3, 1))
        if self.downsample:
            x = self.reduction(x).permute(0, 3, 1, 2)
        else:
            x = self.conv(x.permute(0, 3, 1, 2))
        return x.contiguous()  # as a convolution's output: networks call .view on it

    def extra_repr(self) -> str:
        """Show the interface in the module's print-out."""
        return f"{self.in_channels}, {self.out_channels}, downsample={self.downsample}"


def _pair(rate: float | tuple[float, float]) -> tuple[float, float]:
    if isinstance(rate, int | float):
        return (rate, rate)
    if len(rate) != 2:
        raise ValueError(f"drop_path_rate must be one rate or one for each block, not {rate}")
    return rate


def _check_arguments(
    in_channels: int,
    out_channels: int,
    num_heads: int,
    window_size: int,
    mlp_ratio: float,
    drop_path_rates: tuple[float, float],
) -> None:
    counts = {
        "in_channels": in_channels,
        "out_channels": out_channels,
        "num_heads": num_heads,
        "window_size": window_size,
    }
    for name, count in counts.items():
        if not isinstance(count, int) or count < 1:  # a convolution would take a pair
            raise ValueError(f"{name} must be one number, at least 1, not {count}")
    if in_channels % num_heads:
        raise ValueError(f"num_heads {num_heads} does not divide in_channels {in_channels}")
    if int(in_channels * mlp_ratio) < 1:
        raise ValueError(f"mlp_ratio {mlp_ratio} leaves no hidden channel of {in_channels}")
    for rate in drop_path_rates:
        if not 0 <= rate < 1:
            raise ValueError(f"drop_path_rate must be in [0, 1), not {rate}")
