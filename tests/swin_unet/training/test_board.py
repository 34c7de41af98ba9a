from __future__ import annotations

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from swin_unet.training.board import Board, cut_back, flatten

PICTURE = {"a": np.zeros((4, 4, 3), np.uint8)}


def write(folder, after, steps):
    board = Board(folder, after)
    for step in steps:
        board.write(step, {"loss": 1.0 / step}, PICTURE)
    board.close()
    return board


def read(folder):
    events = EventAccumulator(str(folder), {"scalars": 0, "images": 0}, purge_orphaned_data=False)
    events.Reload()
    return events


def points(folder):
    return [(event.step, event.value) for event in read(folder).Scalars("loss")]


def expected(last):
    return [(step, pytest.approx(1.0 / step)) for step in range(1, last + 1)]


@pytest.mark.parametrize("after", [1, 3, 5])
def test_a_restart_leaves_every_point_once(tmp_path, after):
    write(tmp_path, None, range(1, 6))
    board = write(tmp_path, after, range(after + 1, 8))
    assert board.continues
    assert points(tmp_path) == expected(7)
    tag = "a"
    assert [event.step for event in read(tmp_path).Images(tag)] == list(range(1, 8))


def test_a_new_run_drops_what_is_there(tmp_path):
    write(tmp_path, None, range(1, 6))
    assert not write(tmp_path, None, range(1, 3)).continues
    assert points(tmp_path) == expected(2)


def test_many_restarts_and_half_written_files_do_no_harm(tmp_path):
    write(tmp_path, None, range(1, 4))
    for last in range(4, 8):
        write(tmp_path, last - 1, [last])
        newest = max(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        newest.write_bytes(newest.read_bytes() + b"\x10\0\0\0half a record")
        (tmp_path / ".0123456789abcdef.1.0").write_text("left by a killed process")
    cut_back(tmp_path, 7)
    assert points(tmp_path) == expected(7)
    assert len(list(tmp_path.iterdir())) == 1


def test_killed_between_the_rewritten_file_and_the_old_ones(tmp_path):
    write(tmp_path, None, range(1, 4))
    write(tmp_path, 3, range(4, 7))
    old = {path: path.read_bytes() for path in tmp_path.iterdir()}
    cut_back(tmp_path, 5)
    (rewritten,) = tmp_path.iterdir()
    for path, data in old.items():
        if path != rewritten:
            path.write_bytes(data)
    cut_back(tmp_path, 5)
    assert points(tmp_path) == expected(5)


def test_the_configuration_is_there_as_text_and_as_hyper_parameters(tmp_path):
    config = {"seed": 3, "model": {"skips": [4, 8], "size": "tiny", "depths": None}}
    board = Board(tmp_path, None)
    board.describe(config, "dice")
    board.write(1, {"dice/mean": 0.5}, {})
    board.close()
    assert [path.is_file() for path in tmp_path.iterdir()] == [True]  # no run of its own
    events = read(tmp_path)
    assert "config/text_summary" in events.Tags()["tensors"]
    plugin = events.PluginTagToContent("hparams")
    assert b"model.size" in b"".join(plugin.values())
    assert dict(flatten(config)) == {
        "seed": 3,
        "model.skips": [4, 8],
        "model.size": "tiny",
        "model.depths": None,
    }
