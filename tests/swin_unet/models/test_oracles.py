"""Our encoders against implementations that we did not write, all parameters random."""

from __future__ import annotations

import pytest
import torch

from swin_unet.models.classifier import SwinClassifier
from swin_unet.models.encoder import SwinEncoder
from swin_unet.models.weights import load_weights

DEPTHS, HEADS = (2, 2, 6, 2), (3, 6, 12, 24)
BASE_HEADS = (4, 8, 16, 32)


def randomise(module):
    """Give every parameter a value that shows: V2's zero norms would hide any error."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            offset = 2.0 if "logit_scale" in name else 0.5 * (parameter.ndim == 1)
            parameter.copy_(torch.randn_like(parameter) * 0.05 + offset)
    return module.eval()


def relative_difference(ours, theirs):
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def hugging_face(version, image_size, window, **options):
    transformers = pytest.importorskip("transformers")
    config_class, model_class = {
        1: (transformers.SwinConfig, transformers.SwinForImageClassification),
        2: (transformers.Swinv2Config, transformers.Swinv2ForImageClassification),
    }[version]
    config = config_class(
        image_size=image_size,
        window_size=window,
        num_labels=10,
        **{"embed_dim": 96, "depths": DEPTHS, "num_heads": HEADS, **options},
    )
    return randomise(model_class(config))


@pytest.mark.parametrize(
    ("version", "image_size", "window", "size"),
    [(1, 224, 7, "tiny"), (2, 256, 8, "tiny"), (2, 256, 16, "tiny"), (1, 384, 12, "base")],
)
def test_logits_equal_hugging_face(tmp_path, version, image_size, window, size):
    options = {"embed_dim": 128, "num_heads": BASE_HEADS} if size == "base" else {}
    depths = (2, 2, 2, 2) if size == "base" else DEPTHS  # 18 blocks more of the same take seconds
    theirs = hugging_face(version, image_size, window, depths=depths, **options)
    torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
    ours = SwinClassifier(
        3,
        10,
        image_size=image_size,
        size=size,
        depths=depths,
        version=version,
        window_size=window,
    )
    report = load_weights(ours, tmp_path / "pytorch_model.bin")
    assert (report.missing, report.skipped, report.unexpected) == ((), (), ())
    image = torch.randn(1, 3, image_size, image_size)
    with torch.no_grad():
        assert relative_difference(ours.eval()(image), theirs(image).logits) <= 1e-5


def rename_monai(tensors):
    ours = {}
    for name, value in tensors.items():
        stage, _, rest = name.partition(".")
        if stage.startswith("layers") and rest:
            number = int(stage.removeprefix("layers")) - 1
            rest = rest.removeprefix("0.")
            is_merge = rest.startswith("downsample.")
            name = f"merges.{number}.{rest[11:]}" if is_merge else f"stages.{number}.{rest}"
            name = name.replace("mlp.linear1", "mlp.fc1").replace("mlp.linear2", "mlp.fc2")
        ours[name] = value
    return {name: value for name, value in ours.items() if "relative_position_index" not in name}


def test_stages_equal_monai():
    """MONAI's stages end with the merge, and its feature maps are normalised without weights."""
    nets = pytest.importorskip("monai.networks.nets.swin_unetr")
    depths = (2, 2, 2, 2)
    theirs = randomise(
        nets.SwinTransformer(
            in_chans=1,
            embed_dim=96,
            window_size=(7, 7),
            patch_size=(4, 4),
            depths=depths,
            num_heads=HEADS,
            spatial_dims=2,
            patch_norm=True,
        )
    )
    encoder = SwinEncoder(
        1,
        96,
        depths=depths,
        num_heads=HEADS,
        window_sizes=(7, 7, 7, 7),
        drop_path_rates=[[0.0] * depth for depth in depths],
    ).eval()
    missing, unexpected = encoder.load_state_dict(rename_monai(theirs.state_dict()), strict=False)
    assert set(missing) == {"norm.weight", "norm.bias"}
    assert all(name.startswith("merges.3.") for name in unexpected)  # which MONAI only adds
    with torch.no_grad():
        x = theirs.patch_embed(torch.randn(1, 1, 224, 224))
        for number, layers in enumerate((theirs.layers1, theirs.layers2, theirs.layers3)):
            ours = encoder.merges[number](encoder.stages[number](x.permute(0, 2, 3, 1)))
            x = layers[0](x)
            assert relative_difference(ours.permute(0, 3, 1, 2), x) <= 1e-5
