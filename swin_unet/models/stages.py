"""What the constructors of Swin networks have in common: per-stage arguments."""

from __future__ import annotations

from collections.abc import Sequence

from swin_unet.layers.stage import Version


def per_stage(value: int | Sequence[int], num_stages: int) -> tuple[int, ...]:
    """Return a window size for every stage, given one number or one per stage.

    Raises:
        ValueError: For another number of stages or sizes below 1.
    """
    values = (value,) * num_stages if isinstance(value, int) else tuple(value)
    if len(values) != num_stages or min(values) < 1:
        raise ValueError(f"window_size must be one positive number or {num_stages}, not {value}")
    return values


def check_stages(
    embed_dim: int,
    depths: Sequence[int],
    num_heads: Sequence[int],
    version: Version,
    pretrained_window_sizes: Sequence[int] | None,
) -> None:
    """Raise ValueError unless the arguments fit together, with one entry per stage."""
    if version not in (1, 2):
        raise ValueError(f"version must be 1 or 2, not {version}")
    if len(depths) != len(num_heads) or len(depths) < 2 or min(depths) < 1:
        raise ValueError(f"depths {depths} and num_heads {num_heads} need one entry per stage")
    for stage, heads in enumerate(num_heads):
        dim = embed_dim * 2**stage
        if heads < 1 or dim % heads:
            raise ValueError(f"num_heads {heads} does not divide the {dim} channels of its stage")
    if pretrained_window_sizes is None:
        return
    if version == 1:
        raise ValueError("pretrained_window_sizes belong to version 2; version 1 has none")
    if len(pretrained_window_sizes) != len(depths):
        raise ValueError(f"pretrained_window_sizes need {len(depths)} entries, one per stage")


def spread_drop_path(rate: float, depths: Sequence[int]) -> list[list[float]]:
    """Spread stochastic depth linearly from 0 to `rate` over the blocks of all stages.

    Raises:
        ValueError: For a rate outside [0, 1).
    """
    if not 0 <= rate < 1:
        raise ValueError(f"drop_path_rate must be in [0, 1), not {rate}")
    last = max(sum(depths) - 1, 1)
    rates = iter([rate * block / last for block in range(sum(depths))])
    return [[next(rates) for _ in range(depth)] for depth in depths]
