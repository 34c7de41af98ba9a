"""Foreign weights from the configuration: another window, another size, the other version."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from swin_unet import checkpoint as checkpoints
from swin_unet.models.classifier import SwinClassifier

SHAPE = {"embed_dim": 8, "depths": (2, 2), "num_heads": (1, 2), "patch_size": 2}


@pytest.fixture(scope="session")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Classifiers with Microsoft's names, three channels, window 7 (V1) or 8 (V2)."""
    folder = tmp_path_factory.mktemp("weights")
    paths = {}
    for version, window in ((1, 7), (2, 8)):
        torch.manual_seed(version)
        model = SwinClassifier(3, 5, version=version, window_size=window, image_size=56, **SHAPE)
        names = {
            name: re.sub(r"^merges\.(\d+)\.", r"layers.\1.downsample.", short)
            for name in model.state_dict()
            for short in [re.sub(r"^stages\.", "layers.", name.removeprefix("encoder."))]
        }
        tensors = {names[name]: value for name, value in model.state_dict().items()}
        paths[version] = folder / f"swin_v{version}.pth"
        torch.save({"model": tensors}, paths[version])
    return paths


@pytest.mark.parametrize("window", [7, 8, 12])
@pytest.mark.parametrize("version", [1, 2])
def test_training_starts_from_them_at_any_window_and_size(
    call, config: Path, imagenet: dict[int, Path], tmp_path: Path, window: int, version: int
) -> None:
    run = tmp_path / "run"
    options = ["--model.version", version, "--model.window_size", window]
    if version == 2:
        options += ["--model.pretrained_window_sizes", "[8, 8]"]
    outcome = call(
        "train", "--config", config, "--output_dir", run, "--train.epochs", 1,
        "--data.image_size", "[40, 36]", "--train.learning_rate", 1e-9,
        "--model.pretrained", imagenet[version], *options,
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    log = (run / "log.txt").read_text()
    assert f"microsoft: Swin V{version} classifier or encoder, 3 input channels, patch 2" in log
    assert "encoder filled to 100%" in log
    assert "mirrored (" in log
    trained = checkpoints.load(run / "best.pt")["model"]
    source = torch.load(imagenet[version], weights_only=True)["model"]
    name = "blocks.1.mlp.fc1.weight"
    for ours in (f"encoder.stages.0.{name}", f"decoder.levels.0.stage.{name}"):
        assert torch.allclose(trained[ours], source[f"layers.0.{name}"], atol=1e-5)
    kernel = trained["encoder.patch_embed.proj.weight"]
    assert torch.allclose(kernel, source["patch_embed.proj.weight"].sum(1, True), atol=1e-5)


def test_the_other_version_is_refused_before_a_run_folder_exists(
    call, config: Path, imagenet: dict[int, Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    outcome = call(
        "train", "--config", config, "--output_dir", run, "--model.pretrained", imagenet[2]
    )
    outcome.assert_refused("swin_v2.pth", "Swin V1", "Set model.version to 2")
    assert not (run / "config.yaml").exists()
