"""The baselines go the same way as Swin-UNet: train, then segment and score by best.pt alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

MODELS = {
    "basic_unet": {"embed_dim": 4},
    "attention_unet": {"embed_dim": 4},
    "dyn_unet": {"embed_dim": 4},
    "swin_unetr": {"embed_dim": 12, "window_size": 4},
}


@pytest.mark.parametrize("name", MODELS)
def test_baseline_trains_resumes_and_infers(
    call, config: Path, data: Path, tmp_path: Path, name: str
) -> None:
    content = yaml.safe_load(config.read_text(encoding="utf8"))
    own = tmp_path / "own.yaml"
    own.write_text(yaml.safe_dump({**content, "model": {"name": name, **MODELS[name]}}))
    run = tmp_path / "run"
    outcome = call("train", "--config", own, "--output_dir", run, "--train.epochs", "2")
    assert outcome.code == 0, outcome.stderr
    # The written configuration names every option, also those that do not apply.
    arguments = ("--config", run / "config.yaml", "--train.epochs", "3", "--resume", "auto")
    outcome = call("train", *arguments)
    assert outcome.code == 0, outcome.stderr
    assert f"{name}: " in (run / "log.txt").read_text(encoding="utf8")
    arguments = ("--checkpoint", run / "best.pt", "--input", data / "imagesTr", "--part", "val")
    options = ("--labels", data / "labelsTr", "--output", tmp_path / "out")
    outcome = call("infer", *arguments, *options)
    assert outcome.code == 0, outcome.stderr
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf8"))
    assert len(metrics["cases"]) == 2
    assert metrics["mean"]["dice"] > 0


def test_a_baseline_refuses_the_options_of_others(call, config: Path, tmp_path: Path) -> None:
    arguments = ("--config", config, "--model.name", "dyn_unet", "--output_dir", tmp_path / "run")
    outcome = call("train", *arguments)
    assert outcome.code == 2
    assert outcome.stderr.startswith("error: model.patch_size: expected no value unless model.name")
    assert not (tmp_path / "run").exists()
