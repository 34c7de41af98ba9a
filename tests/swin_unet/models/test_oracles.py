"""The encoder against implementations that we did not write, all parameters random."""

from __future__ import annotations

import re

import pytest
import torch

from swin_unet.models.encoder import SwinEncoder

DEPTHS, HEADS = (2, 2, 2, 2), (3, 6, 12, 24)


def randomise(module):
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.05 + (parameter.ndim == 1) * 0.5)
    return module.eval()


def our_encoder(in_channels=3, window=7):
    rates = [[0.0] * depth for depth in DEPTHS]
    return SwinEncoder(
        in_channels,
        96,
        depths=DEPTHS,
        num_heads=HEADS,
        window_sizes=(window,) * 4,
        drop_path_rates=rates,
    ).eval()


@pytest.fixture(scope="module")
def hugging_face():
    transformers = pytest.importorskip("transformers")
    config = transformers.SwinConfig(
        image_size=224, embed_dim=96, depths=DEPTHS, num_heads=HEADS, window_size=7
    )
    return randomise(transformers.SwinModel(config, add_pooling_layer=False))


HUGGING_FACE_NAMES = (
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.norm\.", "patch_embed.norm."),
    (r"^layernorm\.", "norm."),
    (r"^encoder\.layers\.(\d+)\.blocks\.", r"stages.\1.blocks."),
    (r"^encoder\.layers\.(\d+)\.downsample\.", r"merges.\1."),
    (r"layernorm_before|input_layernorm", "norm1"),
    (r"layernorm_after|post_attention_layernorm", "norm2"),
    (r"attention\.(?:relative_position_bias\.|self\.)?relative_pos", "attn.relative_pos"),
    (r"attention\.(?:output\.dense|o_proj)", "attn.proj"),
    (r"attention\.(?:self\.)?(?:query|q_proj)", "attn.q"),
    (r"attention\.(?:self\.)?(?:key|k_proj)", "attn.k"),
    (r"attention\.(?:self\.)?(?:value|v_proj)", "attn.v"),
    (r"(?:intermediate\.dense|mlp\.up_proj)\.", "mlp.fc1."),
    (r"(?:output\.dense|mlp\.down_proj)\.", "mlp.fc2."),
)


def rename_hugging_face(tensors):
    """Translate the names of transformers 4 and 5 to ours and join query, key and value."""
    ours = {}
    for name, value in tensors.items():
        for pattern, replacement in HUGGING_FACE_NAMES:
            name = re.sub(pattern, replacement, name)
        ours[name] = value
    for name in [name for name in ours if ".attn.q." in name]:
        parts = [ours.pop(name.replace(".q.", f".{part}.")) for part in "qkv"]
        ours[name.replace(".q.", ".qkv.")] = torch.cat(parts)
    return {name: value for name, value in ours.items() if "relative_position_index" not in name}


def test_equals_hugging_face_at_224(hugging_face):
    encoder = our_encoder()
    encoder.load_state_dict(rename_hugging_face(hugging_face.state_dict()))
    image = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        theirs = hugging_face(image).last_hidden_state
        ours = encoder(image)[-1].flatten(1, 2)
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


def rename_monai(tensors):
    ours = {}
    for name, value in tensors.items():
        name = name.removeprefix("0.")
        stage, _, rest = name.partition(".")
        if stage.startswith("layers") and rest:
            number = int(stage.removeprefix("layers")) - 1
            rest = rest.removeprefix("0.")
            is_merge = rest.startswith("downsample.")
            name = f"merges.{number}.{rest[11:]}" if is_merge else f"stages.{number}.{rest}"
            name = name.replace("mlp.linear1", "mlp.fc1").replace("mlp.linear2", "mlp.fc2")
        ours[name] = value
    return {name: value for name, value in ours.items() if "relative_position_index" not in name}


def test_equals_monai_before_its_own_norms():
    """MONAI's stages end with the merge, and its feature maps are normalised without weights."""
    nets = pytest.importorskip("monai.networks.nets.swin_unetr")
    theirs = randomise(
        nets.SwinTransformer(
            in_chans=1,
            embed_dim=96,
            window_size=(7, 7),
            patch_size=(4, 4),
            depths=DEPTHS,
            num_heads=HEADS,
            spatial_dims=2,
            patch_norm=True,
        )
    )
    tensors = rename_monai(theirs.state_dict())
    encoder = our_encoder(in_channels=1)
    missing, unexpected = encoder.load_state_dict(tensors, strict=False)
    assert set(missing) == {"norm.weight", "norm.bias"}
    assert all(name.startswith("merges.3.") for name in unexpected)  # which MONAI only adds
    image = torch.randn(1, 1, 224, 224)
    with torch.no_grad():
        x = theirs.patch_embed(image)
        for stage, merge, layers in zip(
            encoder.stages[:3],
            encoder.merges,
            (theirs.layers1, theirs.layers2, theirs.layers3),
            strict=True,
        ):
            ours = merge(stage(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
            x = layers[0](x)
            assert (ours - x).abs().max() <= 1e-4 * x.abs().max()
