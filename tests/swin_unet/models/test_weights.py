from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from swin_unet import SwinUNet
from swin_unet.config import UserError
from swin_unet.models.weights import load_weights, resize_input_kernel

TINY = {"embed_dim": 8, "num_heads": (1, 2, 2, 4), "window_size": 4}


def tiny(in_channels=3, **settings):
    model = SwinUNet(in_channels, 4, **{**TINY, **settings})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


# Our names and the original's, as its published structure has them.
LAYOUT = {
    "encoder.stages.{}.blocks.": "layers.{}.blocks.",
    "encoder.merges.{}.": "layers.{}.downsample.",
    "encoder.patch_embed.": "patch_embed.",
    "encoder.norm.": "norm.",
    "decoder.norm.": "norm_up.",
    "decoder.final_upsample.": "up.",
    "head.": "output.",
    "decoder.levels.0.upsample.": "layers_up.0.",
    "decoder.levels.1.upsample.": "layers_up.1.upsample.",
    "decoder.levels.2.upsample.": "layers_up.2.upsample.",
    "decoder.levels.0.stage.": "layers_up.1.",
    "decoder.levels.1.stage.": "layers_up.2.",
    "decoder.levels.2.stage.": "layers_up.3.",
    "decoder.levels.0.fuse.": "concat_back_dim.1.",
    "decoder.levels.1.fuse.": "concat_back_dim.2.",
    "decoder.levels.2.fuse.": "concat_back_dim.3.",
}


def original_layout(model):
    """Rename our tensors to the original's names and add its derived buffers."""
    prefixes = {
        ours.format(stage): theirs.format(stage)
        for ours, theirs in LAYOUT.items()
        for stage in range(4)
    }
    renamed = {
        theirs + name.removeprefix(ours): value
        for name, value in model.state_dict().items()
        for ours, theirs in prefixes.items()
        if name.startswith(ours)
    }
    assert len(renamed) == len(model.state_dict())
    renamed["layers.0.blocks.1.attn_mask"] = torch.zeros(4, 16, 16)
    renamed["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(16, 16).long()
    return renamed


@pytest.mark.parametrize("prefix", ["", "swin_unet.", "module.swin_unet.", "module."])
@pytest.mark.parametrize("wrapped", [False, True])
def test_original_checkpoints_in_any_prefix(tmp_path, prefix, wrapped):
    source, target = tiny(), tiny()
    tensors = {prefix + name: value for name, value in original_layout(source).items()}
    torch.save({"model": tensors} if wrapped else tensors, tmp_path / "w.pth")
    report = load_weights(target, tmp_path / "w.pth")
    assert report.encoder_fraction == 1
    assert (report.missing, report.unexpected, report.skipped) == ((), (), ())
    image = torch.randn(1, 3, 40, 50)
    assert torch.equal(source(image), target(image))


def test_our_own_checkpoint_and_safetensors(tmp_path):
    source = tiny()
    torch.save({"model": source.state_dict(), "epoch": 3}, tmp_path / "best.pt")
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    image = torch.randn(1, 3, 40, 50)
    for name in ("best.pt", "w.safetensors"):
        target = tiny()
        load_weights(target, tmp_path / name)
        assert torch.equal(source(image), target(image))


def test_one_channel_takes_the_sum_so_grey_images_keep_their_logits(tmp_path):
    source, target = tiny(3), tiny(1)
    torch.save(source.state_dict(), tmp_path / "w.pt")
    report = load_weights(target, tmp_path / "w.pt")
    assert report.resized == ("encoder.patch_embed.proj.weight",)
    grey = torch.randn(1, 1, 40, 50)
    assert torch.allclose(target(grey), source(grey.expand(-1, 3, -1, -1)), atol=1e-5)
    kernel = torch.randn(8, 3, 4, 4)
    refined = [tiny(channels, pixel_refinement=True) for channels in (3, 1)]
    torch.save(refined[0].state_dict(), tmp_path / "r.pt")
    assert len(load_weights(refined[1], tmp_path / "r.pt").resized) == 2
    assert torch.allclose(refined[1](grey), refined[0](grey.expand(-1, 3, -1, -1)), atol=1e-5)
    five = resize_input_kernel(kernel, 5)
    assert torch.allclose(five.sum(1), kernel.sum(1), atol=1e-5)
    assert torch.allclose(five[:, 0], five[:, 4])


def test_bias_tables_are_interpolated_to_another_window(tmp_path):
    source, target = tiny(window_size=4), tiny(window_size=6)
    torch.save(source.state_dict(), tmp_path / "w.pt")
    report = load_weights(target, tmp_path / "w.pt")
    assert len(report.resized) == 14
    assert "resized (14)" in str(report)


def test_fewer_skips_leave_the_surplus_linears_unexpected(tmp_path):
    torch.save(tiny().state_dict(), tmp_path / "w.pt")
    report = load_weights(tiny(skips=1), tmp_path / "w.pt")
    assert len(report.unexpected) == 4
    assert all(".fuse." in name for name in report.unexpected)


def refused(path, model=None):
    model = model or tiny()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(UserError) as caught:
        load_weights(model, path)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_another_architecture_is_refused(tmp_path):
    torch.save(tiny(embed_dim=16).state_dict(), tmp_path / "w.pt")
    message = refused(tmp_path / "w.pt")
    assert "for at least 90% of this model's encoder, found 1%; the file looks like" in message
    assert "ours: Swin V1 segmentation network, 3 input channels, patch 4, width 16" in message


class Evil:
    def __reduce__(self):
        return (print, ("code ran",))


def test_pickled_code_is_refused_and_never_run(tmp_path, capsys):
    torch.save({"model": tiny().state_dict(), "config": Evil()}, tmp_path / "w.pt")
    assert "pickled Python code" in refused(tmp_path / "w.pt")
    assert "code ran" not in capsys.readouterr().out


def test_broken_files_are_refused(tmp_path):
    torch.save(tiny().state_dict(), tmp_path / "whole.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:5000])
    (tmp_path / "empty.pt").touch()
    (tmp_path / "text.safetensors").write_text("hello, this is no weights file")
    torch.save({"epoch": 1}, tmp_path / "none.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    for name in ("cut.pt", "empty.pt", "text.safetensors", "none.pt", "list.pt", "missing.pt"):
        assert "expected a weights file" in refused(tmp_path / name)
