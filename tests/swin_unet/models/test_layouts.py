"""Everybody's names to ours: the same weights must give the same logits.

timm and torchvision do not import beside this project's torch, so their files are made here from
the published names; Hugging Face's and MONAI's own models are in test_oracles.py.
"""

from __future__ import annotations

import re

import pytest
import torch

from swin_unet import SwinUNet
from swin_unet.config import UserError
from swin_unet.models.classifier import SwinClassifier, create_classifier
from swin_unet.models.encoder import SwinEncoder
from swin_unet.models.layouts import detect_layout, trained_windows, translate
from swin_unet.models.weights import load_weights, main

SMALL = {
    "embed_dim": 8,
    "depths": (2, 2, 2, 2),
    "num_heads": (1, 2, 2, 4),
    "window_size": 4,
    "image_size": 128,
}


def small(version=1, **options):
    model = SwinClassifier(3, 5, version=version, **SMALL | options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2)
    return model.eval()


def microsoft(model):
    """Name tensors as Microsoft does, buffers included."""
    named = {}
    for name, value in model.state_dict().items():
        name = name.removeprefix("encoder.")
        name = re.sub(r"^stages\.", "layers.", name)
        named[re.sub(r"^merges\.(\d+)\.", r"layers.\1.downsample.", name)] = value
    for stage, swin_stage in enumerate(model.encoder.stages):
        prefix = f"layers.{stage}.blocks.0.attn."
        window = swin_stage.blocks[0].attn.window_size[0]
        named[f"{prefix}relative_position_index"] = torch.zeros(window**2, window**2).long()
        named[f"layers.{stage}.blocks.1.attn_mask"] = torch.zeros(1, 16, 16)
    return named


def timm(model):
    """As Microsoft's, but the merge opens the next stage and the head is nested."""
    named = {}
    for name, value in microsoft(model).items():
        name = re.sub(
            r"^layers\.(\d+)\.downsample\.",
            lambda match: f"layers.{int(match[1]) + 1}.downsample.",
            name,
        )
        named[re.sub(r"^head\.", "head.fc.", name)] = value
    return named


def torchvision(model):
    """Stages and merges alternate in one sequence; V2 stores a whole qkv bias."""
    names = {
        r"^encoder\.patch_embed\.proj\.": "features.0.0.",
        r"^encoder\.patch_embed\.norm\.": "features.0.2.",
        r"^encoder\.stages\.(\d+)\.blocks\.": lambda m: f"features.{2 * int(m[1]) + 1}.",
        r"^encoder\.merges\.(\d+)\.": lambda m: f"features.{2 * int(m[1]) + 2}.",
        r"^encoder\.norm\.": "norm.",
        r"\.fc1\.": ".0.",
        r"\.fc2\.": ".3.",
    }
    named = {}
    for name, value in model.state_dict().items():
        for pattern, new in names.items():
            name = re.sub(pattern, new, name)
        named[name] = value
    for name in [name for name in named if name.endswith(".q_bias")]:
        q, v = named.pop(name), named.pop(name.replace("q_bias", "v_bias"))
        named[name.replace("q_bias", "qkv.bias")] = torch.cat([q, torch.randn_like(q), v])
    return named


def simmim(model):
    named = {f"encoder.{name}": value for name, value in microsoft(model).items()}
    named = {name.replace("cpb_mlp", "rpe_mlp"): value for name, value in named.items()}
    named = {name: value for name, value in named.items() if "head" not in name}
    return {**named, "encoder.mask_token": torch.zeros(1, 1, 8), "decoder.0.weight": torch.ones(2)}


LAYOUTS = {"microsoft": microsoft, "timm": timm, "torchvision": torchvision, "simmim": simmim}


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_round_trip(tmp_path, layout, version):
    source, target = small(version), small(version)
    torch.save({"model": LAYOUTS[layout](source)}, tmp_path / "w.pth")
    report = load_weights(target, tmp_path / "w.pth")
    assert report.description.layout == layout
    assert report.encoder_fraction == 1
    assert report.unexpected == ()
    image = torch.randn(2, 3, 128, 128)
    if layout == "simmim":
        assert set(report.missing) == {"head.weight", "head.bias"}
        assert torch.equal(source.forward_features(image), target.forward_features(image))
    else:
        assert report.missing == ()
        assert torch.equal(source(image), target(image))


def test_a_bare_encoder_takes_and_gives_weights(tmp_path):
    source = small()
    rates = [[0.0] * 2] * 4
    shape = {"depths": (2, 2, 2, 2), "num_heads": (1, 2, 2, 4), "window_sizes": (4, 4, 4, 4)}
    encoder = SwinEncoder(3, 8, drop_path_rates=rates, **shape).eval()
    torch.save(microsoft(source), tmp_path / "w.pth")
    assert load_weights(encoder, tmp_path / "w.pth").encoder_fraction == 1
    image = torch.randn(1, 3, 128, 128)
    assert torch.equal(encoder(image)[-1], source.encoder(image)[-1])
    torch.save(encoder.state_dict(), tmp_path / "ours.pt")
    assert load_weights(small(), tmp_path / "ours.pt").encoder_fraction == 1


def test_the_decoder_can_be_left_as_it_is(tmp_path):
    torch.save({"model": microsoft(create_classifier("swin_tiny_window7_224"))}, tmp_path / "w.pth")
    model = SwinUNet(3, 9)
    before = {name: value.clone() for name, value in model.decoder.state_dict().items()}
    report = load_weights(model, tmp_path / "w.pth", mirror=False)
    assert report.encoder_fraction == 1
    assert report.mirrored == ()
    for name, value in model.decoder.state_dict().items():
        assert torch.equal(value, before[name])


def test_imagenet_swin_t_fills_encoder_and_mirrored_decoder_as_the_original_does(tmp_path):
    """25,082,820 of the parameters, the number counted in a run of the authors' code."""
    torch.save({"model": microsoft(create_classifier("swin_tiny_window7_224"))}, tmp_path / "w.pth")
    model = SwinUNet(3, 9)
    report = load_weights(model, tmp_path / "w.pth")
    tensors = model.state_dict()
    filled = [*report.loaded, *report.mirrored]
    assert sum(tensors[name].numel() for name in filled) == 25_082_820
    assert report.resized == ()
    assert torch.equal(
        model.encoder.stages[1].blocks[0].mlp.fc1.weight,
        model.decoder.levels[1].stage.blocks[0].mlp.fc1.weight,
    )
    assert all(name.startswith("decoder.") or name == "head.weight" for name in report.missing)
    assert all(".upsample" in n or ".fuse" in n or "norm" in n or "final" in n or n == "head.weight"
               for n in report.missing)  # fmt: skip


@pytest.mark.parametrize("window", [8, 12, 16])
def test_another_window_and_image_size(tmp_path, window):
    torch.save(microsoft(small(window_size=7)), tmp_path / "w.pth")
    model = SwinUNet(1, 4, **{key: SMALL[key] for key in ("embed_dim", "depths", "num_heads")},
                     window_size=window)  # fmt: skip
    report = load_weights(model, tmp_path / "w.pth")
    assert report.encoder_fraction == 1
    assert sum(name.endswith("bias_table") for name in report.resized) == 14
    assert model(torch.randn(1, 1, 96, 72)).isfinite().all()


def test_another_number_of_classes_keeps_the_models_head_and_says_so(tmp_path):
    torch.save(microsoft(small()), tmp_path / "w.pth")
    model = SwinClassifier(3, 7, **SMALL)
    head = model.head.weight.clone()
    report = load_weights(model, tmp_path / "w.pth")
    assert report.skipped == ("head.bias", "head.weight")
    assert torch.equal(model.head.weight, head)


def test_v2_weights_say_which_windows_they_were_trained_with(tmp_path):
    from swin_unet.layers.windows import relative_position_coordinates

    cpu = torch.device("cpu")
    tensors = microsoft(small(version=2))
    for stage, (window, trained) in enumerate([(16, 12), (16, 12), (16, 12), (8, 6)]):
        coordinates = relative_position_coordinates((window, window), (trained, trained), cpu)
        name = f"layers.{stage}.blocks.0.attn.relative_coords_table"
        tensors[name] = coordinates.view(1, 2 * window - 1, 2 * window - 1, 2)
    assert trained_windows(tensors) == [12, 12, 12, 6]
    torch.save(tensors, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"Set model\.pretrained_window_sizes to \[12, 12, 12, 6\]"):
        load_weights(small(version=2), tmp_path / "w.pth")
    model = small(version=2, pretrained_window_sizes=(12, 12, 12, 6))
    assert load_weights(model, tmp_path / "w.pth").encoder_fraction == 1


def test_the_wrong_version_is_named(tmp_path):
    torch.save(microsoft(small(version=2)), tmp_path / "w.pth")
    with pytest.raises(UserError, match="looks like microsoft: Swin V2 classifier or encoder") as e:
        load_weights(small(version=1), tmp_path / "w.pth")
    assert "Set model.version to 2" in str(e.value)


def test_weights_of_another_kind_of_network_are_named(tmp_path):
    resnet = {"conv1.weight": torch.zeros(4, 3, 7, 7), "bn1.weight": torch.zeros(4)}
    torch.save(resnet, tmp_path / "resnet.pth")
    assert detect_layout(set(resnet)) == "unknown"
    with pytest.raises(UserError, match=r"no Swin that we know \(names like bn1\.weight"):
        load_weights(small(), tmp_path / "resnet.pth")


def test_inspect_and_convert(tmp_path, capsys):
    source = small(window_size=7)
    torch.save({"model": timm(source)}, tmp_path / "w.pth")
    assert main(["inspect", str(tmp_path / "w.pth")]) == 0
    assert "timm: Swin V1 classifier or encoder, 3 input channels, patch 4, width 8" in (
        capsys.readouterr().out
    )
    out = tmp_path / "ours.safetensors"
    assert main(["convert", str(tmp_path / "w.pth"), str(out)]) == 0
    target = small(window_size=7)
    report = load_weights(target, out)
    assert report.description.layout == "ours"
    image = torch.randn(1, 3, 128, 128)
    assert torch.equal(source(image), target(image))


def test_convert_to_another_window_by_either_method(tmp_path):
    torch.save(microsoft(small(window_size=7, image_size=256)), tmp_path / "w.pth")
    tables = []
    for method in ("bicubic", "geometric"):
        out = tmp_path / f"{method}.safetensors"
        options = ["--window_size", "8", "--method", method]
        main(["convert", str(tmp_path / "w.pth"), str(out), *options])
        model = small(window_size=8, image_size=256)
        assert load_weights(model, out).resized == ()
        tables.append(model.encoder.stages[0].blocks[0].attn.relative_position_bias_table)
    assert not torch.allclose(*tables, atol=1e-2)


def test_convert_refuses_what_is_no_swin(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "w.pth")
    with pytest.raises(UserError, match="no Swin that we know"):
        main(["convert", str(tmp_path / "w.pth"), str(tmp_path / "out.safetensors")])
    assert not (tmp_path / "out.safetensors").exists()


def test_translation_changes_nothing_of_ours():
    tensors = small().state_dict()
    ours, layout = translate(tensors)
    assert layout == "ours"
    assert ours.keys() == tensors.keys()
