"""A whole study on tiny volumes: trained, tabulated, continued, and what is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tests.e2e.conftest import Command


@pytest.fixture(scope="module")
def study(config: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str | Path]:
    folder = tmp_path_factory.mktemp("ablation")
    options = ["--vary", "model.skips=0,1", "--seeds", "0,1", "--train.epochs", "2"]
    places = ["--output_dir", folder / "study", "--runs_dir", folder / "runs"]
    return ["ablate.py", "--config", config, *options, *places]


@pytest.fixture(scope="module")
def folder(command: Command, study: list[str | Path]) -> Path:
    command(*study)
    return Path(study[study.index("--output_dir") + 1])


def test_every_setting_is_compared_on_the_same_test_cases(folder: Path) -> None:
    runs = json.loads((folder / "study.json").read_text())["runs"]
    assert len({run["folder"] for run in runs}) == 4
    splits = {(Path(run["folder"]) / "split.json").read_text() for run in runs}
    assert len(splits) == 1
    with (folder / "table.csv").open(newline="", encoding="utf8") as file:
        rows = list(csv.DictReader(file))
    assert {row["setting"] for row in rows} == {"skips 0", "skips 1"}
    page = (folder / "index.html").read_text(encoding="utf8")
    assert "data:image/png;base64," in page
    assert "http" not in page.split("</style>")[1].replace("http://www.w3.org", "")
    assert (folder / "table.md").read_text(encoding="utf8").count("skips 1") >= 2
    assert list((folder / "overlays").glob("*.png"))
    assert list((folder / "tensorboard").rglob("events*"))


def test_runs_start_from_the_same_weights_where_they_can(folder: Path) -> None:
    runs = json.loads((folder / "study.json").read_text())["runs"]
    logs = [(Path(run["folder"]) / "log.txt").read_text() for run in runs]
    assert all("initial-seed" in log for log in logs)


def test_a_second_call_trains_nothing_and_gives_the_same_table(
    command: Command, study: list[str | Path], folder: Path
) -> None:
    before = (folder / "table.md").read_bytes()
    done = command(*study)
    assert "4 trainings, 4 of them done" in done.stdout
    assert (folder / "table.md").read_bytes() == before


def test_a_setting_that_cannot_be_built_is_named(
    command: Command, study: list[str | Path], tmp_path: Path
) -> None:
    options = [item if item != "model.skips=0,1" else "model.skips=1,2" for item in study]
    options[options.index("--output_dir") + 1] = tmp_path / "study"
    done = command(*options, code=2)
    assert "error: setting skips 2: expected a network that can be built" in done.stderr
    assert "Traceback" not in done.stderr
