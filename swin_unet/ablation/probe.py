"""What a study would do, and how long that takes."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import yaml

from swin_unet.ablation.execute import is_done
from swin_unet.ablation.plan import PlannedRun, unique_runs
from swin_unet.ablation.study import Study
from swin_unet.config import UserError

PROBE_STEPS = 6


def print_plan(study: Study, runs: Sequence[PlannedRun], command: Sequence[str], jobs: int) -> None:
    """Show every training, and how long they take by a short probe of each setting.

    Args:
        study: What is compared.
        runs: All planned runs.
        command: What trains: an interpreter and a script that takes `--probe STEPS`.
        jobs: Trainings at a time.
    """
    todo = [run for run in unique_runs(runs) if not is_done(run)]
    minutes: dict[str, float] = {}
    for run in todo:
        if run.setting not in minutes:
            minutes[run.setting] = probe_minutes(run, command)
    print(f"{study.title}: {len(runs)} trainings, {len(todo)} of them to do")
    for run in runs:
        state = f"about {minutes[run.setting]:.1f} min" if run in todo else "done, or shared"
        print(f"  {run.name}: {state}, {run.folder}")
    hours = sum(minutes[run.setting] for run in todo) / jobs / 60
    print(f"About {hours:.1f} h with --jobs {jobs}, validation and tests not counted")


def probe_minutes(run: PlannedRun, command: Sequence[str]) -> float:
    """Time some steps of a training and return the minutes of all.

    Raises:
        UserError: When it does not start.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(yaml.safe_dump(run.config), encoding="utf8")
        options = ["--config", str(path), "--output_dir", f"{folder}/run"]
        done = subprocess.run(
            [*command, *options, "--probe", str(PROBE_STEPS)],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        words = done.stderr.strip().splitlines() or ["no output"]
        raise UserError(
            f"setting {run.setting}",
            expected="a training that starts",
            found=words[-1],
            fix="Correct the study or the configuration.",
        )
    measured = json.loads(done.stdout.splitlines()[-1])
    return float(measured["seconds_per_step"] * measured["steps"] / 60)
