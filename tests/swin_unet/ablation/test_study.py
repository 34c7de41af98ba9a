"""Study files and grids."""

from pathlib import Path

import pytest
import yaml

from swin_unet.ablation.study import grid_study, load_study
from swin_unet.cli import CONFIG_FOLDER, config_keys
from swin_unet.config import UserError

FOLDER = CONFIG_FOLDER / "studies"
GOOD = {"settings": {"a": {"model.skips": 1}}}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_studies_vary_options_that_exist(path: Path) -> None:
    study = load_study(path.stem, FOLDER)
    assert len(study.settings) >= 2
    for setting in study.settings:
        assert set(setting.overrides) <= set(config_keys())
    if study.published:
        assert set(study.published.dice) <= {setting.name for setting in study.settings}


def test_the_papers_skip_table() -> None:
    """Rows add up: the published mean is that of the eight organs."""
    published = load_study("skips", FOLDER).published
    assert published is not None
    for row in published.dice.values():
        organs = [value for name, value in row.items() if name != "mean"]
        assert len(organs) == 8
        assert sum(organs) / 8 == pytest.approx(row["mean"], abs=2e-4)


def test_a_study_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("settings:\n  slow: {train.learning_rate: 0.01}\n  2: {model.skips: 2}\n")
    study = load_study(str(path), FOLDER)
    assert [setting.name for setting in study.settings] == ["slow", "2"]
    assert study.baseline == "2"
    assert study.name == "mine"


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("settings: [", "YAML"),
        ("- a", "mapping"),
        ("title: x", "settings"),
        (yaml.safe_dump({**GOOD, "colour": 1}), "colour"),
        (yaml.safe_dump({"settings": {"a": 3}}), "below `a:`"),
        (yaml.safe_dump({**GOOD, "baseline": "b"}), "baseline among a"),
        (yaml.safe_dump({**GOOD, "published": {"source": "x"}}), "published"),
    ],
)
def test_faults_of_a_study_file(tmp_path: Path, content: str, word: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    with pytest.raises(UserError, match=word) as error:
        load_study(str(path), FOLDER)
    assert str(path) in str(error.value)


def test_an_unknown_study_lists_those_there_are() -> None:
    with pytest.raises(UserError, match="skip_source, skips"):
        load_study("skps", FOLDER)


def test_a_grid_is_the_product_of_its_values() -> None:
    study = grid_study(["model.skips=0,[4,16]", "train.learning_rate=0.01,0.05"])
    assert [dict(setting.overrides) for setting in study.settings] == [
        {"model.skips": 0, "train.learning_rate": 0.01},
        {"model.skips": 0, "train.learning_rate": 0.05},
        {"model.skips": [4, 16], "train.learning_rate": 0.01},
        {"model.skips": [4, 16], "train.learning_rate": 0.05},
    ]
    assert study.baseline == study.settings[0].name == "skips 0, learning_rate 0.01"
    assert len({setting.name for setting in study.settings}) == 4


@pytest.mark.parametrize("varied", [["model.skips"], ["=1"], ["a=1", "a=2"], ["model.skips="]])
def test_faults_of_a_grid(varied: list[str]) -> None:
    with pytest.raises(UserError, match="--vary"):
        grid_study(varied)
