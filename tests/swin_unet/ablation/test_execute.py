"""Trainings as processes: shared, failing, killed, waited for."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from swin_unet.ablation.execute import Executor, Outcome, is_done, locked
from swin_unet.ablation.output import write_results
from swin_unet.ablation.plan import Fixed, PlannedRun, plan_runs
from tests.swin_unet.ablation.conftest import STUDY

ROOT = Path(__file__).resolve().parents[3]
NETWORKS = {str(skips): (10 + skips, 100) for skips in range(4)}


def execute(train: Path, runs: list[PlannedRun], jobs: int = 4) -> list[Outcome]:
    reported: list[Outcome] = []
    outcomes = Executor([sys.executable, str(train)], jobs, reported.append).run(runs)
    assert sorted(map(id, reported)) == sorted(map(id, outcomes))
    return outcomes


def test_what_is_done_is_not_done_again(train: Path, runs: list[PlannedRun]) -> None:
    assert all(outcome.error is None for outcome in execute(train, runs))
    assert all(is_done(run) for run in runs)
    again = execute(train, runs)
    assert all(outcome.seconds == 0 for outcome in again)
    assert {(run.folder / "starts.txt").read_text() for run in runs} == {"x"}


def test_a_failed_run_does_not_stop_the_others_and_is_tried_again(
    tmp_path: Path, train: Path, fixed: Fixed, base: dict[str, Any]
) -> None:
    base["train"]["momentum"] = 0.123
    runs = plan_runs(STUDY, base, fixed, tmp_path / "runs", lambda _, config: config)
    for starts in ("x", "xx"):
        outcomes = execute(train, runs)
        failed = {outcome.run.setting for outcome in outcomes if outcome.error}
        assert failed == {"1"}
        assert all(is_done(run) == (run.setting != "1") for run in runs)
        (error,) = {outcome.error for outcome in outcomes if outcome.error}
        assert error == "exit code 1: error: skips: expected something else, found 1. Change it."
        (first,) = {(r.folder / "starts.txt").read_text() for r in runs if r.setting == "1"}
        assert first == starts
    text = write_results(tmp_path / "study", STUDY, runs, NETWORKS, ["a note"], {})
    assert "| 1 |" not in text
    assert "| 2 | 2 |" in text


DRIVER = """
import pickle, sys
from swin_unet.ablation.execute import Executor
runs = pickle.loads(open(sys.argv[1], "rb").read())
Executor([sys.executable, sys.argv[2]], 2, lambda outcome: None).run(runs)
"""


def start_driver(tmp_path: Path, train: Path, runs: list[PlannedRun]) -> subprocess.Popen[bytes]:
    import pickle

    (tmp_path / "runs.pickle").write_bytes(pickle.dumps(runs))
    (tmp_path / "driver.py").write_text(textwrap.dedent(DRIVER))
    return subprocess.Popen(
        [sys.executable, "driver.py", "runs.pickle", str(train)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
    )


def test_killed_at_random_moments_the_table_is_the_same(
    tmp_path: Path, train: Path, fixed: Fixed, base: dict[str, Any], runs: list[PlannedRun]
) -> None:
    whole = plan_runs(STUDY, base, fixed, tmp_path / "whole", lambda _, config: config)
    execute(train, whole)
    generator = random.Random(0)
    for _ in range(10):
        process = start_driver(tmp_path, train, runs)
        time.sleep(generator.uniform(0.2, 1.2))
        process.kill()
        process.wait()
    assert start_driver(tmp_path, train, runs).wait() == 0
    tables = [
        write_results(tmp_path / name, STUDY, group, NETWORKS, [], {})
        for name, group in (("a", whole), ("b", runs))
    ]
    assert tables[0] == tables[1]
    assert "0.6755 ± 0.0007" in tables[0]


def test_a_folder_whose_training_outlives_its_study_is_waited_for(tmp_path: Path) -> None:
    with locked(tmp_path / "lock") as lock:
        child = subprocess.Popen(["sleep", "1.2"], pass_fds=[lock.fileno()])
    started = time.monotonic()
    with locked(tmp_path / "lock"):
        assert time.monotonic() - started > 0.3
    assert child.wait() == 0


def test_ctrl_c_reaches_the_trainings(tmp_path: Path, train: Path, runs: list[PlannedRun]) -> None:
    train.write_text(
        "import argparse, pathlib, signal, sys, time\n"
        "parser = argparse.ArgumentParser()\n"
        "parser.add_argument('--output_dir')\n"
        "folder = pathlib.Path(parser.parse_known_args()[0].output_dir)\n"
        "def stop(*_):\n"
        "    (folder / 'stopped').touch()\n"
        "    sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "(folder / 'started').touch()\n"
        "time.sleep(60)\n"
    )
    process = start_driver(tmp_path, train, runs)
    deadline = time.monotonic() + 30
    while len(list(tmp_path.glob("runs/*/started"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) != 0
    assert len(list(tmp_path.glob("runs/*/stopped"))) == 2
    assert len(list(tmp_path.glob("runs/*/started"))) == 2


@pytest.mark.parametrize("content", ["", "[", '{"finished": false}'])
def test_a_half_written_run_is_not_done(runs: list[PlannedRun], content: str) -> None:
    folder = runs[0].folder
    folder.mkdir(parents=True)
    assert not is_done(runs[0])
    (folder / "test_metrics.json").write_text("{}")
    (folder / "run.json").write_text(content)
    assert not is_done(runs[0])
