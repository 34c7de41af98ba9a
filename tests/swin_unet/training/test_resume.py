from __future__ import annotations

from dataclasses import replace

import pytest

from swin_unet import checkpoint
from swin_unet.cli import config_keys
from swin_unet.config import Config, TrainConfig, UserError, to_plain
from swin_unet.training.board import flatten
from swin_unet.training.resume import (
    FREE_KEYS,
    Restart,
    check_config,
    check_data,
    find_restart,
)

CONFIG = Config(train=TrainConfig(epochs=4))
FACTS = {
    "split": {"train": ["a", "b"], "val": ["c"], "test": []},
    "contents": {"a": "1", "b": "2", "c": "3"},
}


def content(epoch=2, **more):
    config = to_plain(CONFIG)
    return {
        "model_description": {},
        "config": config,
        "epoch": epoch,
        "training": {"facts": FACTS},
        **more,
    }


def restart(tmp_path, **changes):
    return Restart(tmp_path / "last.pt", content(**changes))


def changed(key, value):
    section, _, name = key.rpartition(".")
    if not section:
        return replace(CONFIG, **{name: value})
    return replace(CONFIG, **{section: replace(getattr(CONFIG, section), **{name: value})})


def test_free_keys_exist():
    assert set(config_keys()) >= FREE_KEYS


@pytest.mark.parametrize("key", config_keys())
def test_every_change_is_refused_unless_it_is_free(tmp_path, key):
    """A new option is refused until somebody decides that it is free."""
    new = changed(key, "something else")
    if key in FREE_KEYS:
        check_config(restart(tmp_path), new)
        return
    old = dict(flatten(to_plain(CONFIG)))[key]
    with pytest.raises(UserError) as caught:
        check_config(restart(tmp_path), new)
    assert f"found {key}: {old} -> something else. Take them back" in str(caught.value)


def test_all_changes_are_listed(tmp_path):
    new = replace(changed("train.batch_size", 3), seed=9)
    with pytest.raises(UserError, match=r"found seed: 0 -> 9, train\.batch_size: 24 -> 3\."):
        check_config(restart(tmp_path), new)


@pytest.mark.parametrize(
    ("done", "epochs", "allowed"), [(4, 6, True), (4, 3, False), (3, 6, False), (4, 4, True)]
)
def test_more_epochs_are_for_runs_that_have_done_theirs(tmp_path, done, epochs, allowed):
    new = changed("train.epochs", epochs)
    if allowed:
        check_config(restart(tmp_path, epoch=done), new)
        return
    with pytest.raises(UserError, match=f"train.epochs: 4 -> {epochs}.*once the run has done"):
        check_config(restart(tmp_path, epoch=done), new)


def test_more_epochs_and_another_change_are_refused(tmp_path):
    new = replace(changed("train.epochs", 6), seed=1)
    with pytest.raises(UserError, match="seed: 0 -> 1"):
        check_config(restart(tmp_path, epoch=4), new)


def test_an_option_that_the_run_did_not_know_has_its_default(tmp_path):
    old = content()
    del old["config"]["train"]["ema_decay"]
    check_config(Restart(tmp_path, old), CONFIG)
    with pytest.raises(UserError, match=r"train.ema_decay: None -> 0.9"):
        check_config(Restart(tmp_path, old), changed("train.ema_decay", 0.9))


def test_other_data_are_refused(tmp_path):
    check_data(restart(tmp_path), FACTS)
    split = {**FACTS["split"], "test": ["d"]}
    with pytest.raises(UserError, match=r"split.json: .*found another one"):
        check_data(restart(tmp_path), {**FACTS, "split": split})
    with pytest.raises(UserError, match="found other contents for b"):
        check_data(restart(tmp_path), {**FACTS, "contents": {**FACTS["contents"], "b": "9"}})


def test_files_of_a_checkpoint_without_their_hashes_are_not_compared(tmp_path):
    old = content(training={"facts": {"split": FACTS["split"], "files": {"a": "0"}}})
    check_data(Restart(tmp_path, old), FACTS)


def save(path, **more):
    checkpoint.save(path, content(**more))


def test_auto_takes_the_last_or_starts_anew(tmp_path):
    assert find_restart(tmp_path / "none", "auto") is None
    assert find_restart(tmp_path, None) is None
    save(tmp_path / "last.previous.pt", epoch=1)
    assert find_restart(tmp_path, "auto").content["epoch"] == 1  # killed before the rename
    save(tmp_path / "last.pt", epoch=2)
    found = find_restart(tmp_path, "auto")
    assert (found.content["epoch"], found.notes) == (2, [])


def test_a_damaged_last_falls_back_and_says_so(tmp_path):
    save(tmp_path / "last.previous.pt", epoch=1)
    save(tmp_path / "last.pt", epoch=2)
    data = (tmp_path / "last.pt").read_bytes()
    (tmp_path / "last.pt").write_bytes(data[: len(data) // 2])
    found = find_restart(tmp_path, "auto")
    assert found.content["epoch"] == 1
    (note,) = found.notes
    assert "last.pt: expected a checkpoint" in note
    assert note.endswith("Going on from last.previous.pt instead.")
    with pytest.raises(UserError, match=r"last\.pt: .*unreadable"):
        find_restart(tmp_path, str(tmp_path / "last.pt"))  # an explicit path is what it says


def test_both_damaged_is_the_fault_of_the_last(tmp_path):
    for name in ("last.pt", "last.previous.pt"):
        (tmp_path / name).write_text("no")
    with pytest.raises(UserError, match=r"last\.pt: .*unreadable"):
        find_restart(tmp_path, "auto")


def test_an_explicit_path_wins_over_auto(tmp_path):
    save(tmp_path / "last.pt", epoch=2)
    save(tmp_path / "early.pt", epoch=1)
    found = find_restart(tmp_path, str(tmp_path / "early.pt"))
    assert (found.path.name, found.content["epoch"]) == ("early.pt", 1)


@pytest.mark.parametrize("name", ["last.pt", "last.previous.pt", "best.pt"])
def test_a_folder_with_a_run_is_not_touched_otherwise(tmp_path, name):
    (tmp_path / "run").mkdir()
    save(tmp_path / "run" / name)
    save(tmp_path / "other.pt")
    for resume in (None, str(tmp_path / "other.pt")):
        with pytest.raises(UserError, match=r"run: expected a new run folder.*--resume auto"):
            find_restart(tmp_path / "run", resume)


def test_what_is_left_of_a_run_without_its_last_is_not_overwritten(tmp_path):
    save(tmp_path / "best.pt")
    with pytest.raises(
        UserError, match=r"last\.pt: expected a checkpoint to resume, found no such"
    ):
        find_restart(tmp_path, "auto")


def test_a_checkpoint_for_inference_is_refused(tmp_path):
    best = content()
    del best["training"]
    checkpoint.save(tmp_path / "best.pt", best)
    with pytest.raises(UserError, match=r"best\.pt: .*optimizer.*for inference only"):
        find_restart(tmp_path, str(tmp_path / "best.pt"))
