"""The sizes of Swin-UNet by name."""

from __future__ import annotations

from dataclasses import dataclass


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


UNET_VARIANTS = {
    "tiny": Variant(96, (2, 2, 2, 2), (3, 6, 12, 24)),  # the third stage of Swin-T has 6 blocks
    "small": Variant(96, (2, 2, 18, 2), (3, 6, 12, 24)),
    "base": Variant(128, (2, 2, 18, 2), (4, 8, 16, 32)),
    "large": Variant(192, (2, 2, 18, 2), (6, 12, 24, 48)),
}
