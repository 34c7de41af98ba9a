"""Studies whose trainings are a script that takes no time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from swin_unet.ablation.plan import Fixed, PlannedRun, plan_runs
from swin_unet.ablation.study import Setting, Study
from swin_unet.config import Config, to_plain

STUDY = Study(
    "skips",
    "Number of skip connections",
    tuple(Setting(str(n), {"model.skips": n}) for n in range(4)),
    "3",
)
# Trains in five "epochs"; what it writes depends on its configuration alone. `FAIL` in the
# configuration's output makes it fail.
TRAIN = """
import argparse, json, pathlib, sys, time, yaml
parser = argparse.ArgumentParser()
for name in ("config", "output_dir", "resume"):
    parser.add_argument("--" + name)
arguments = parser.parse_args()
config = yaml.safe_load(open(arguments.config))
folder = pathlib.Path(arguments.output_dir)
skips, seed = config["model"]["skips"], config["seed"]
with open(folder / "starts.txt", "a") as file:
    file.write("x")
if config["train"]["momentum"] == 0.123 and skips == 1:
    sys.exit("error: skips: expected something else, found 1. Change it.")
state = folder / "epochs.txt"
for epoch in range(int(state.read_text()) if state.exists() else 0, 5):
    time.sleep(0.02)
    state.write_text(str(epoch + 1))
(folder / "metrics.csv").write_text("epoch,step,train/seconds\\n1,5,60.0\\n")
def summary(shift):
    cases = []
    for case in range(6):
        dice = 0.5 + 0.05 * skips + 0.01 * case + 0.001 * seed + shift
        record = {"dice": dice, "hd95_mm": 9 - skips}
        cases.append({"case": f"c{case}", "metrics": {"liver": record}})
    mean = {"dice": sum(c["metrics"]["liver"]["dice"] for c in cases) / 6, "hd95_mm": 9 - skips}
    return {"classes": ["liver"], "cases": cases, "mean": mean, "per_class": {"liver": mean}}
content = {"best": summary(0), "last": summary(-0.01), "seconds_per_case": 0.5}
(folder / "test_metrics.json").write_text(json.dumps(content))
(folder / "run.json").write_text(json.dumps({"finished": True}))
"""


@pytest.fixture
def train(tmp_path: Path) -> Path:
    path = tmp_path / "train.py"
    path.write_text(TRAIN)
    return path


@pytest.fixture
def fixed(tmp_path: Path) -> Fixed:
    split, first, second = (tmp_path / name for name in ("split.json", "0.pt", "1.pt"))
    for path in (split, first, second):
        path.write_text(json.dumps(path.name))
    return Fixed({None: split}, {0: first, 1: second})


@pytest.fixture
def base() -> dict[str, Any]:
    return to_plain(Config())


@pytest.fixture
def runs(tmp_path: Path, fixed: Fixed, base: dict[str, Any]) -> list[PlannedRun]:
    return plan_runs(STUDY, base, fixed, tmp_path / "runs", lambda _, config: config)
