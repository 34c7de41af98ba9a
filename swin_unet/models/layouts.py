"""Whose weights a file holds, and how their names translate to ours.

Our names: `encoder.patch_embed`, `encoder.stages.I.blocks.J`, `encoder.merges.I`, `encoder.norm`,
`decoder.levels.I`, `head`. A layout is a table of regular expressions, applied in order.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor

# Values that are computed from sizes, in anybody's checkpoint.
_DERIVED = re.compile(r"(^|\.)(attn_mask|relative_position_index|relative_coords_table|k_bias)$")

_MICROSOFT = (
    (r"^(patch_embed|norm|absolute_pos_embed)\b", r"encoder.\1"),
    (r"^layers\.(\d+)\.blocks\.", r"encoder.stages.\1.blocks."),
    (r"^layers\.(\d+)\.downsample\.", r"encoder.merges.\1."),
    (r"\.rpe_mlp\.", ".cpb_mlp."),
)
_TIMM_NEW = (
    (r"^layers\.(\d+)\.downsample\.", lambda m: f"encoder.merges.{int(m[1]) - 1}."),
    *_MICROSOFT,
    (r"^head\.fc\.", "head."),
)
_SWIN_UNET = (
    (r"^layers_up\.0\.", "decoder.levels.0.upsample."),
    (r"^layers_up\.(\d+)\.upsample\.", r"decoder.levels.\1.upsample."),
    (r"^layers_up\.(\d+)\.blocks\.", lambda m: f"decoder.levels.{int(m[1]) - 1}.stage.blocks."),
    (r"^concat_back_dim\.(\d+)\.", lambda m: f"decoder.levels.{int(m[1]) - 1}.fuse."),
    (r"^norm_up\.", "decoder.norm."),
    (r"^up\.", "decoder.final_upsample."),
    (r"^output\.", "head."),
    *_MICROSOFT,
)
_TORCHVISION = (
    (r"^features\.0\.0\.", "encoder.patch_embed.proj."),
    (r"^features\.0\.2\.", "encoder.patch_embed.norm."),
    (r"^features\.(\d*[13579])\.", lambda m: f"encoder.stages.{int(m[1]) // 2}.blocks."),
    (r"^features\.(\d*[2468])\.", lambda m: f"encoder.merges.{int(m[1]) // 2 - 1}."),
    (r"^norm\.", "encoder.norm."),
    (r"\.mlp\.0\.", ".mlp.fc1."),
    (r"\.mlp\.3\.", ".mlp.fc2."),
)
_HUGGING_FACE = (
    (r"^(swin|swinv2)\.", ""),
    (r"^embeddings\.patch_embeddings\.projection\.", "encoder.patch_embed.proj."),
    (r"^embeddings\.norm\.", "encoder.patch_embed.norm."),
    (r"^embeddings\.position_embeddings$", "encoder.absolute_pos_embed"),
    (r"^embeddings\.mask_token$", "mask_token"),
    (r"^layernorm\.", "encoder.norm."),
    (r"^encoder\.layers\.(\d+)\.blocks\.", r"encoder.stages.\1.blocks."),
    (r"^encoder\.layers\.(\d+)\.downsample\.", r"encoder.merges.\1."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.attention\.o_proj\.", ".attn.proj."),
    (r"\.attention\.(?:relative_position_bias\.)?(?:self\.)?", ".attn."),
    (r"\.attn\.relative_position_bias\.", ".attn."),
    (r"\.attn\.(?:query|q_proj)\.", ".attn.q."),
    (r"\.attn\.(?:key|k_proj)\.", ".attn.k."),
    (r"\.attn\.(?:value|v_proj)\.", ".attn.v."),
    (r"\.continuous_position_bias_mlp\.", ".cpb_mlp."),
    (r"\.(?:intermediate\.dense|mlp\.up_proj|mlp\.fc1)\.", ".mlp.fc1."),
    (r"\.(?:output\.dense|mlp\.down_proj|mlp\.fc2)\.", ".mlp.fc2."),
    (r"^classifier\.", "head."),
)
_TABLES = {
    "ours": (),
    "microsoft": _MICROSOFT,
    "timm": _TIMM_NEW,
    "swin-unet": _SWIN_UNET,
    "torchvision": _TORCHVISION,
    "hugging face": _HUGGING_FACE,
    "simmim": _MICROSOFT,
}


@dataclass(frozen=True)
class Description:
    """What a set of weights in our names looks like.

    Attributes:
        layout: Whose names the file uses.
        version: Of the Swin blocks; 0: no Swin at all.
        in_channels: Channels of the image.
        patch_size: Pixels per token side.
        embed_dim: Channels of the first stage.
        depths: Blocks per stage.
        num_heads: Attention heads per stage.
        window_sizes: Tokens per window side and stage (V1 only; V2's weights do not depend on it).
        num_classes: Outputs of the head, 0 without one.
        has_decoder: Whether it is a whole segmentation network.
    """

    layout: str
    version: int
    in_channels: int = 0
    patch_size: int = 0
    embed_dim: int = 0
    depths: tuple[int, ...] = ()
    num_heads: tuple[int, ...] = ()
    window_sizes: tuple[int, ...] = ()
    num_classes: int = 0
    has_decoder: bool = False

    def __str__(self) -> str:
        """Say it in one line."""
        if not self.version:
            return f"no Swin that we know (names like {self.layout})"
        kind = "segmentation network" if self.has_decoder else "classifier or encoder"
        windows = f", windows {list(self.window_sizes)}" if self.window_sizes else ""
        return (
            f"{self.layout}: Swin V{self.version} {kind}, {self.in_channels} input channels, "
            f"patch {self.patch_size}, width {self.embed_dim}, depths {list(self.depths)}, "
            f"heads {list(self.num_heads)}{windows}, {self.num_classes} classes"
        )


def detect_layout(names: set[str]) -> str:
    """Tell whose names these are; `unknown` when they are nobody's."""
    if any(name.startswith("layers_up.") for name in names):
        return "swin-unet"
    if any(".stages." in f".{name}" and ".blocks." in name for name in names):
        return "ours"
    if any(name.startswith("features.0.0.") for name in names):
        return "torchvision"
    if any("embeddings.patch_embeddings." in name for name in names):
        return "hugging face"
    if any(name.startswith("encoder.layers.") for name in names):
        return "simmim"
    if any(name.startswith("layers.0.blocks.") for name in names):
        return "microsoft" if "layers.0.downsample.reduction.weight" in names else "timm"
    return "unknown"


def translate(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """Rename a checkpoint's tensors to ours, dropping derived values.

    Args:
        tensors: By the file's names, without `module.` and the like.

    Returns:
        Tensors by our names, and the layout they had.
    """
    layout = detect_layout(set(tensors))
    if layout == "simmim":  # the encoder alone; its decoder only reconstructs pixels
        tensors = {
            name.removeprefix("encoder."): value
            for name, value in tensors.items()
            if name.startswith("encoder.") and not name.endswith("mask_token")
        }
    if layout == "ours" and not any(name.startswith("encoder.") for name in tensors):
        tensors = {f"encoder.{name}": value for name, value in tensors.items()}
    rules = [(re.compile(pattern), new) for pattern, new in _TABLES.get(layout, ())]
    ours = {}
    for name, value in tensors.items():
        if _DERIVED.search(name):
            continue
        for pattern, replacement in rules:
            name = pattern.sub(replacement, name)
        ours[name] = value
    return _join_projections(ours), layout


def describe(tensors: dict[str, Tensor], layout: str) -> Description:
    """Read sizes off tensors in our names."""
    if "encoder.patch_embed.proj.weight" not in tensors or not _depths(tensors):
        return Description(_some_names(tensors), version=0)
    dim, in_channels, patch_size, _ = tensors["encoder.patch_embed.proj.weight"].shape
    depths = _depths(tensors)
    first_blocks = [f"encoder.stages.{stage}.blocks.0.attn." for stage in range(len(depths))]
    version = 2 if f"{first_blocks[0]}logit_scale" in tensors else 1
    key = "logit_scale" if version == 2 else "relative_position_bias_table"
    values = [tensors[prefix + key] for prefix in first_blocks]
    heads = [value.shape[0 if version == 2 else 1] for value in values]
    windows = [(round(len(value) ** 0.5) + 1) // 2 for value in values] if version == 1 else []
    head = tensors.get("head.weight")
    return Description(
        layout,
        version,
        in_channels=in_channels,
        patch_size=patch_size,
        embed_dim=dim,
        depths=depths,
        num_heads=tuple(heads),
        window_sizes=tuple(windows),
        num_classes=0 if head is None else len(head),
        has_decoder=any(name.startswith("decoder.levels.") for name in tensors),
    )


def trained_windows(tensors: dict[str, Tensor]) -> list[int]:
    """Return per stage the window that V2 weights normalise coordinates by, [] if unknown.

    Read off the table of coordinates c that Microsoft's checkpoints hold: its edge is
    log2(8 (M - 1) / (W - 1) + 1) / 3 for a window of M, trained with a window of W.
    """
    windows: list[int] = []
    while (name := f"layers.{len(windows)}.blocks.0.attn.relative_coords_table") in tensors:
        table = tensors[name]
        reach = (table.shape[1] + 1) // 2 - 1
        edge = float(table.abs().max())
        windows.append(round(8 * reach / (2 ** (3 * edge) - 1)) + 1 if edge else 1)
    return windows


def _join_projections(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Make one qkv of separate query, key and value, and V2's biases of a whole bias."""
    joined = dict(tensors)
    for name in [name for name in tensors if name.endswith(".attn.q.weight")]:
        prefix = name.removesuffix("q.weight")
        weights = [joined.pop(f"{prefix}{part}.weight") for part in "qkv"]
        joined[f"{prefix}qkv.weight"] = torch.cat(weights)
        biases = [joined.pop(f"{prefix}{part}.bias", None) for part in "qkv"]
        q, k, v = biases
        if q is not None and v is not None:
            joined[f"{prefix}qkv.bias"] = torch.cat([q, torch.zeros_like(q) if k is None else k, v])
    for name in [name for name in joined if name.endswith(".attn.logit_scale")]:
        prefix = name.removesuffix("logit_scale")
        bias = joined.pop(f"{prefix}qkv.bias", None)
        if bias is not None:
            joined[f"{prefix}q_bias"], _, joined[f"{prefix}v_bias"] = bias.chunk(3)
    return joined


def _depths(tensors: dict[str, Tensor]) -> tuple[int, ...]:
    pattern = re.compile(r"^encoder\.stages\.(\d+)\.blocks\.(\d+)\.norm1\.weight$")
    found = [tuple(map(int, m.groups())) for m in map(pattern.match, tensors) if m]
    num_stages = max((stage for stage, _ in found), default=-1) + 1
    return tuple(sum(1 for stage, _ in found if stage == number) for number in range(num_stages))


def _some_names(tensors: dict[str, Tensor]) -> str:
    return ", ".join(sorted(tensors)[:3])
