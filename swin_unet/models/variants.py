"""The published sizes of Swin, V1 and V2, and those of Swin-UNet, by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Size = Literal["tiny", "small", "base", "large"]


@dataclass(frozen=True)
class Variant:
    """Width and depth of a network.

    Attributes:
        embed_dim: Channels of the first stage; each further stage doubles them.
        depths: Blocks per stage.
        num_heads: Attention heads per stage.
    """

    embed_dim: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]


SWIN_VARIANTS: dict[Size, Variant] = {
    "tiny": Variant(96, (2, 2, 6, 2), (3, 6, 12, 24)),
    "small": Variant(96, (2, 2, 18, 2), (3, 6, 12, 24)),
    "base": Variant(128, (2, 2, 18, 2), (4, 8, 16, 32)),
    "large": Variant(192, (2, 2, 18, 2), (6, 12, 24, 48)),
}
# The original Swin-Unet cuts the third stage of Swin-T to two blocks.
UNET_VARIANTS: dict[Size, Variant] = {
    **SWIN_VARIANTS,
    "tiny": Variant(96, (2, 2, 2, 2), (3, 6, 12, 24)),
}


@dataclass(frozen=True)
class Release:
    """One published classifier.

    Attributes:
        size: Width and depth.
        version: Of the Swin block.
        image_size: Pixels per side.
        window_size: Tokens per window side.
        drop_path_rate: Stochastic depth of its recipe.
        pretrained_window_sizes: Per stage, of the weights it was fine-tuned from; None: its own.
        num_classes: 1,000, or 21,841 before fine-tuning.
    """

    size: Size
    version: Literal[1, 2]
    image_size: int
    window_size: int
    drop_path_rate: float
    pretrained_window_sizes: tuple[int, ...] | None = None
    num_classes: int = 1000


_FROM_192 = (12, 12, 12, 6)  # at 192 pixels the last stage has 6 x 6 tokens
RELEASES: dict[str, Release] = {
    "swin_tiny_patch4_window7_224": Release("tiny", 1, 224, 7, 0.2),
    "swin_small_patch4_window7_224": Release("small", 1, 224, 7, 0.3),
    "swin_base_patch4_window7_224": Release("base", 1, 224, 7, 0.5),
    "swin_base_patch4_window12_384": Release("base", 1, 384, 12, 0.5),
    "swin_large_patch4_window7_224": Release("large", 1, 224, 7, 0.2),
    "swin_large_patch4_window12_384": Release("large", 1, 384, 12, 0.2),
    "swinv2_tiny_patch4_window8_256": Release("tiny", 2, 256, 8, 0.2),
    "swinv2_tiny_patch4_window16_256": Release("tiny", 2, 256, 16, 0.2),
    "swinv2_small_patch4_window8_256": Release("small", 2, 256, 8, 0.3),
    "swinv2_small_patch4_window16_256": Release("small", 2, 256, 16, 0.3),
    "swinv2_base_patch4_window8_256": Release("base", 2, 256, 8, 0.5),
    "swinv2_base_patch4_window16_256": Release("base", 2, 256, 16, 0.5),
    "swinv2_base_patch4_window12to16_192to256": Release("base", 2, 256, 16, 0.2, _FROM_192),
    "swinv2_base_patch4_window12to24_192to384": Release("base", 2, 384, 24, 0.2, _FROM_192),
    "swinv2_large_patch4_window12to16_192to256": Release("large", 2, 256, 16, 0.2, _FROM_192),
    "swinv2_large_patch4_window12to24_192to384": Release("large", 2, 384, 24, 0.2, _FROM_192),
    "swin_tiny_patch4_window7_224_in22k": Release("tiny", 1, 224, 7, 0.1, None, 21841),
    "swin_small_patch4_window7_224_in22k": Release("small", 1, 224, 7, 0.2, None, 21841),
    "swin_base_patch4_window7_224_in22k": Release("base", 1, 224, 7, 0.2, None, 21841),
    "swin_base_patch4_window12_384_in22k": Release("base", 1, 384, 12, 0.2, None, 21841),
    "swin_large_patch4_window7_224_in22k": Release("large", 1, 224, 7, 0.2, None, 21841),
    "swin_large_patch4_window12_384_in22k": Release("large", 1, 384, 12, 0.2, None, 21841),
    "swinv2_base_patch4_window12_192_in22k": Release("base", 2, 192, 12, 0.2, None, 21841),
    "swinv2_large_patch4_window12_192_in22k": Release("large", 2, 192, 12, 0.2, None, 21841),
}
