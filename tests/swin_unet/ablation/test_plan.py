"""Which trainings a study needs, and which it shares with others."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from swin_unet.ablation.plan import Fixed, PlannedRun, apply, plan_runs, unique_runs
from swin_unet.ablation.study import Setting, Study
from swin_unet.config import UserError
from tests.swin_unet.ablation.conftest import STUDY


def test_every_setting_and_seed_has_a_run(runs: list[PlannedRun]) -> None:
    assert {(run.setting, run.seed) for run in runs} == {
        (str(skips), seed) for skips in range(4) for seed in (0, 1)
    }
    assert runs[0].setting == STUDY.baseline
    for run in runs:
        assert run.config["model"]["skips"] == int(run.setting)
        assert run.config["seed"] == run.seed
    assert len({run.folder for run in runs}) == 8


def test_runs_share_split_and_initial_weights(runs: list[PlannedRun]) -> None:
    assert len({run.config["data"]["split_file"] for run in runs}) == 1
    for seed in (0, 1):
        weights = {run.config["train"]["initial_weights"] for run in runs if run.seed == seed}
        assert len(weights) == 1
        assert weights != {None}


def test_another_kind_of_network_starts_by_itself(
    tmp_path: Path, fixed: Fixed, base: dict[str, Any]
) -> None:
    settings = tuple(Setting(name, {"model.name": name}) for name in ("swin_unet", "basic_unet"))
    networks = Study("networks", "Networks", settings, "swin_unet")
    ours, basic = plan_runs(networks, base, fixed, tmp_path / "runs", lambda _, config: config)[:2]
    assert ours.config["train"]["initial_weights"] is not None
    assert basic.config["train"]["initial_weights"] is None


@pytest.mark.parametrize(
    ("key", "value", "is_same"),
    [
        ("data.cache_dir", "elsewhere", True),
        ("train.num_workers", 3, True),
        ("train.epochs", 3, False),
        ("data.window", [0, 1], False),
    ],
)
def test_what_makes_two_runs_one(
    tmp_path: Path,
    runs: list[PlannedRun],
    fixed: Fixed,
    base: dict[str, Any],
    key: str,
    value: Any,
    is_same: bool,
) -> None:
    section, name = key.split(".")
    changed = {**base, section: {**base[section], name: value}}
    others = plan_runs(STUDY, changed, fixed, tmp_path / "runs", lambda _, config: config)
    assert ([run.folder for run in others] == [run.folder for run in runs]) is is_same


def test_another_split_is_another_run(
    tmp_path: Path, runs: list[PlannedRun], fixed: Fixed, base: dict[str, Any]
) -> None:
    """By what the file holds, not by where it is."""
    copy, other = tmp_path / "copy.json", tmp_path / "other.json"
    copy.write_bytes(fixed.split_files[None].read_bytes())
    other.write_text("other")
    for path, is_same in ((copy, True), (other, False)):
        moved = replace(fixed, split_files={None: path})
        again = plan_runs(STUDY, base, moved, tmp_path / "runs", lambda _, config: config)
        assert (again[0].folder == runs[0].folder) is is_same


def test_settings_of_equal_configuration_share_a_run(
    tmp_path: Path, fixed: Fixed, base: dict[str, Any]
) -> None:
    twins = replace(STUDY, settings=(*STUDY.settings, Setting("all", {"model.skips": 3})))
    runs = plan_runs(twins, base, fixed, tmp_path, lambda _, config: config)
    assert len(runs) == 10
    assert len(unique_runs(runs)) == 8


def test_another_network_takes_its_own_options(base: dict[str, Any]) -> None:
    base["model"] |= {"embed_dim": 48, "window_size": 8}
    config = apply(base, Setting("unet", {"model.name": "basic_unet"}))
    assert config["model"] == {"name": "basic_unet"}
    assert base["model"]["window_size"] == 8
    same = apply(base, Setting("swin", {"model.name": "swin_unet"}))
    assert same == base


def test_an_option_of_no_section_is_refused(base: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="setting a: expected options such as"):
        apply(base, Setting("a", {"network.skips": 1}))
