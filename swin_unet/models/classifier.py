"""Swin classifiers, V1 and V2, at every published size.

Sources: Liu et al., Swin Transformer, ICCV 2021; Swin Transformer V2, CVPR 2022.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from torch import Tensor, nn

from swin_unet.layers.initialization import init_linears, look_locally
from swin_unet.layers.mgff import MGFF, fitting_kernels
from swin_unet.layers.stage import Version
from swin_unet.models.encoder import SwinEncoder
from swin_unet.models.stages import check_stages, per_stage, spread_drop_path
from swin_unet.models.variants import RELEASES, SWIN_VARIANTS, Release, Size

Head = Literal["linear", "mgff"]


class SwinClassifier(nn.Module):
    """Classify images: encoder, mean over the tokens, linear; or fusion of all stages.

    Args:
        in_channels: Channels of the image.
        num_classes: Length of the logits; 0: return the pooled features.
        image_size: Height and width the network is made for. Windows larger than a stage's map
            at this size shrink to it, as in the published code; any other size works as well.
        size: Width, heads and depths by name; the next three override it.
        version: Of the Swin blocks, 1 or 2.
        embed_dim: Channels of the first stage.
        depths: Blocks per stage.
        num_heads: Attention heads per stage.
        patch_size: Pixels per token side at the first stage.
        window_size: Tokens per window side, one number or one per stage.
        pretrained_window_sizes: Version 2: the windows that the weights were trained with.
        drop_path_rate: Stochastic depth of the deepest block, in [0, 1).
        head: `linear` on the mean of the last map, or `mgff` over the outputs of all stages.
        absolute_position_embedding: Add a learned embedding of the position to the tokens.
        strict_image_size: Refuse images of another size than `image_size`.
        checkpointing: Recompute blocks in the backward pass: less memory, more time.
        position_init: Initial biases of the attention: `random`, as published, or `local`: each
            head looks at a neighbour of its own at first. Version 1 only.

    Raises:
        ValueError: For arguments that contradict each other.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1000,
        *,
        image_size: int | Sequence[int] = 224,
        size: Size = "tiny",
        version: Version = 1,
        embed_dim: int | None = None,
        depths: Sequence[int] | None = None,
        num_heads: Sequence[int] | None = None,
        patch_size: int = 4,
        window_size: int | Sequence[int] = 7,
        pretrained_window_sizes: Sequence[int] | None = None,
        drop_path_rate: float = 0.1,
        head: Head = "linear",
        absolute_position_embedding: bool = False,
        strict_image_size: bool = False,
        checkpointing: bool = False,
        position_init: Literal["random", "local"] = "random",
    ) -> None:
        super().__init__()
        variant = SWIN_VARIANTS[size]
        embed_dim = embed_dim or variant.embed_dim
        depths = tuple(depths or variant.depths)
        num_heads = tuple(num_heads or variant.num_heads)
        check_stages(embed_dim, depths, num_heads, version, pretrained_window_sizes)
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        pair = height, width
        self.image_size = pair
        self.strict_image_size = strict_image_size
        grid = (-(-pair[0] // patch_size), -(-pair[1] // patch_size))
        self.encoder = SwinEncoder(
            in_channels,
            embed_dim,
            depths=depths,
            num_heads=num_heads,
            window_sizes=fit_windows(per_stage(window_size, len(depths)), min(grid)),
            patch_size=patch_size,
            drop_path_rates=spread_drop_path(drop_path_rate, depths),
            version=version,
            pretrained_window_sizes=pretrained_window_sizes,
            position_grid=grid if absolute_position_embedding else None,
            checkpointing=checkpointing,
        )
        self.num_features = self.encoder.channels[-1]
        self.head = self._build_head(head, num_classes, num_heads[-1])
        init_linears(self)
        if position_init == "local":
            look_locally(self.encoder)

    def _build_head(self, kind: Head, num_classes: int, num_heads: int) -> nn.Module:
        if kind == "mgff":
            height, width = (-(-side // self.encoder.strides[-1]) for side in self.image_size)
            strides = [*self.encoder.strides[1:], self.encoder.strides[-1]]
            return fusion_head(
                [*self.encoder.channels[1:], self.num_features],
                [min(self.image_size) // stride for stride in strides],
                num_classes,
                grid=(height, width),
                num_heads=num_heads,
            )
        if kind != "linear":
            raise ValueError(f"head must be linear or mgff, not {kind}")
        return nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        """Compute logits (B, num_classes) of images (B, in_channels, H, W).

        Raises:
            ValueError: With `strict_image_size`, for images of another size.
        """
        if isinstance(self.head, MGFF):
            self._check_size(image)
            maps = self.encoder.stage_outputs(image)
            return self.head([x.permute(0, 3, 1, 2) for x in maps])["logits"]
        return self.head(self.forward_features(image))

    def forward_features(self, image: Tensor) -> Tensor:
        """Return the mean (B, num_features) of the last feature map of images (B, C, H, W)."""
        self._check_size(image)
        return self.encoder(image)[-1].mean(dim=(1, 2))

    def _check_size(self, image: Tensor) -> None:
        if self.strict_image_size and tuple(image.shape[-2:]) != self.image_size:
            found = tuple(image.shape[-2:])
            raise ValueError(f"image size must be {self.image_size}, not {found}")


def fusion_head(
    channels: Sequence[int],
    sides: Sequence[int],
    num_classes: int,
    *,
    grid: tuple[int, int],
    num_heads: int,
) -> MGFF:
    """Build an MGFF over maps of these channels and shorter sides, as wide as the last map.

    The last map is left as it is.
    """
    kernels = fitting_kernels(sides, max(1, min(grid)))
    return MGFF(
        channels, num_classes, grid=grid, num_heads=num_heads, kernels=[*kernels[:-1], None]
    )


def fit_windows(window_sizes: Sequence[int], first_side: int) -> tuple[int, ...]:
    """Shrink each stage's window to its map, whose shorter side is `first_side` tokens at first."""
    sides = []
    side = first_side
    for window in window_sizes:
        sides.append(min(window, side))
        side = -(-side // 2)
    return tuple(sides)


def create_classifier(
    name: str,
    *,
    num_classes: int | None = None,
    in_channels: int = 3,
    drop_path_rate: float | None = None,
) -> SwinClassifier:
    """Build a published classifier by name, with random weights.

    Args:
        name: For instance `swin_tiny_patch4_window7_224`; `_patch4` may be left out.
        num_classes: Length of the logits, 0 for features; None: 1,000, or 21,841 for `_in22k`.
        in_channels: Channels of the image.
        drop_path_rate: Stochastic depth; None: that of the published recipe.

    Raises:
        ValueError: For a name that is not in the table.
    """
    release = find_release(name)
    rate = release.drop_path_rate if drop_path_rate is None else drop_path_rate
    return SwinClassifier(
        in_channels,
        release.num_classes if num_classes is None else num_classes,
        image_size=release.image_size,
        size=release.size,
        version=release.version,
        window_size=release.window_size,
        pretrained_window_sizes=release.pretrained_window_sizes,
        drop_path_rate=rate,
    )


def find_release(name: str) -> Release:
    """Return the table's entry of a name, written with or without `_patch4`."""
    for known, release in RELEASES.items():
        if name in (known, known.replace("_patch4", "")):
            return release
    raise ValueError(f"no published Swin is called {name}; known are {', '.join(RELEASES)}")


def __getattr__(name: str) -> Callable[..., SwinClassifier]:
    """Offer every published name as a function: `swin_tiny_window7_224(num_classes=10)`."""
    try:
        find_release(name)
    except ValueError as error:
        raise AttributeError(str(error)) from None
    return partial(create_classifier, name)
