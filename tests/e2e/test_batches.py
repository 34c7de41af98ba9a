"""Many cases by infer.py: skipped, failed and interrupted ones, and options that need a run."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from swin_unet.inference import VolumeSegmenter

NAMES = [f"phantom_00{number}" for number in range(1, 6)]


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf8"))


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def contents(folder: Path) -> dict[str, bytes]:
    """Return the label maps and maps by name."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.nii.gz")}


@pytest.fixture
def arguments(resize_run: Path, data: Path, tmp_path: Path) -> list[str | Path]:
    options = ("--checkpoint", resize_run / "best.pt", "--input", data / "imagesTr")
    return [*options, "--output", tmp_path / "out"]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_cases_that_are_there_are_skipped_and_still_scored(call, arguments, output, data) -> None:
    assert call("infer", *arguments, "--labels", data / "labelsTr").code == 0
    before, metrics = contents(output), (output / "metrics.json").read_bytes()
    (output / "phantom_002.nii.gz").unlink()
    (output / "metrics.json").unlink()
    times = {
        name: (output / f"{name}.nii.gz").stat().st_mtime_ns for name in NAMES if name[-1] != "2"
    }
    outcome = call("infer", *arguments, "--labels", data / "labelsTr", "--skip-existing")
    assert outcome.code == 0, outcome.stderr
    assert contents(output) == before
    assert (output / "metrics.json").read_bytes() == metrics
    for name, mtime in times.items():
        assert (output / f"{name}.nii.gz").stat().st_mtime_ns == mtime
    assert outcome.stdout.count("there already") == 4
    records = read_json(output / "run.json")["cases"]
    assert [record.get("skipped", False) for record in records] == [True, False, True, True, True]


def test_a_case_that_lacks_a_map_is_done_again(call, arguments, output) -> None:
    assert call("infer", *arguments).code == 0
    outcome = call("infer", *arguments, "--skip_existing", "--entropy")
    assert "there already" not in outcome.stdout
    outcome = call("infer", *arguments, "--skip_existing", "--entropy")
    assert outcome.stdout.count("there already") == 5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("--precision", "bf16"), ("precision", "fp32 instead of bf16")),
        (("--scales", "0.5", "1"), ("scales", "[1.0] instead of [0.5, 1.0]")),
        (("--protocol", "paper"), ("protocol", "strict instead of paper")),
        (("--largest_component", "body"), ("largest component", "[] instead of ['body']")),
        (("--checkpoint", "last.pt"), ("checkpoint sha256",)),
    ],
)
def test_label_maps_of_other_settings_are_not_added_to(
    call, arguments, output, resize_run, change, words
) -> None:
    assert call("infer", *arguments).code == 0
    (output / "phantom_002.nii.gz").unlink()
    if change[0] == "--checkpoint":
        change = ("--checkpoint", resize_run / "last.pt")
    before = contents(output)
    outcome = call("infer", *arguments, *change, "--skip-existing")
    outcome.assert_refused(str(output), *words)
    assert contents(output) == before


def test_an_unexpected_failure_in_a_case_does_not_end_the_others(
    call, arguments, output, monkeypatch
) -> None:
    predict = VolumeSegmenter.predict
    monkeypatch.setattr(VolumeSegmenter, "predict", fails_at(2, predict))
    outcome = call("infer", *arguments)
    assert outcome.code == 3
    assert "ZeroDivisionError: a bug" in outcome.stderr
    assert "Traceback" in outcome.stderr
    assert "[2/5] phantom_002: error: a bug" in outcome.stderr
    assert set(contents(output)) == {f"{name}.nii.gz" for name in NAMES if name != "phantom_002"}
    failed = [record for record in read_json(output / "run.json")["cases"] if "error" in record]
    assert failed == [{"case": "phantom_002", "error": "a bug"}]


def test_unexpected_failures_of_all_cases_are_no_usage_error(call, arguments, monkeypatch) -> None:
    monkeypatch.setattr(VolumeSegmenter, "predict", fails_at(0, VolumeSegmenter.predict))
    outcome = call("infer", *arguments)
    assert outcome.code == 1
    assert "5 of 5 cases failed" in outcome.stderr


def fails_at(number: int, predict: Callable[..., Any]) -> Callable[..., Any]:
    """Fail at one call, counted from 1, or at all of them."""
    calls = []

    def failing(self: VolumeSegmenter, *arguments: Any) -> Any:
        calls.append(None)
        if number in (0, len(calls)):
            raise ZeroDivisionError("a bug")
        return predict(self, *arguments)

    return failing


@pytest.fixture
def long_cases(tmp_path: Path) -> Path:
    """Three volumes of many slices: seconds each."""
    folder = tmp_path / "images"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(-200, 300, (32, 32, 1500), dtype=np.int16)
    for name in "abc":
        nib.save(nib.Nifti1Image(noise, np.diag([2, 2, 2, 1])), folder / f"{name}.nii.gz")
    return folder


def test_one_label_map_scores_one_case(call, place) -> None:
    label = place.label().rename(place.folder / "reference.nii.gz")
    outcome = call("infer", *place.infer(input=place.image(), labels=label))
    assert outcome.code == 0, outcome.stderr
    assert (place.output / "metrics.json").is_file()
    refused = call("infer", *place.infer(input=place.data / "imagesTr", labels=label))
    refused.assert_refused(str(label), "a folder of label maps", "one file")


def interrupt(process: subprocess.Popen[str], seconds: float) -> None:
    """Press Ctrl-C some time after the first case is done."""
    assert process.stdout is not None
    assert process.stdout.readline().startswith("[1/3] a: ")
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)


@pytest.mark.parametrize("seconds", [0.0, 0.4])
def test_ctrl_c_leaves_whole_files_and_the_rest_can_follow(
    start, call, resize_run, long_cases, output, seconds
) -> None:
    arguments = ["--checkpoint", resize_run / "best.pt", "--input", long_cases, "--output", output]
    process = start("infer.py", *arguments, "--entropy")
    interrupt(process, seconds)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert stderr.splitlines()[-1] == "interrupted"
    assert "Traceback" not in stderr
    files = [path for path in output.rglob("*") if path.is_file()]
    assert not [path for path in files if path.name.startswith(".")]
    done = sorted(path.name for path in output.glob("*.nii.gz"))
    assert done[0] == "a.nii.gz"
    assert len(done) < 3
    for path in output.rglob("*.nii.gz"):
        assert voxels(path).shape == (32, 32, 1500)
    record = read_json(output / "run.json")
    assert record["finished"] is False
    assert record["cases"][0]["case"] == "a"
    outcome = call("infer", *arguments, "--entropy", "--skip-existing")
    assert outcome.code == 0, outcome.stderr
    assert outcome.stdout.count("there already") == len(done)
    assert {path.name for path in output.glob("*.nii.gz")} == {"a.nii.gz", "b.nii.gz", "c.nii.gz"}
    np.testing.assert_array_equal(voxels(output / "a.nii.gz"), voxels(output / "c.nii.gz"))
    assert read_json(output / "run.json")["finished"] is True


def test_a_killed_run_leaves_nothing_half_written_that_the_next_does_not_clear(
    start, call, resize_run, long_cases, output
) -> None:
    arguments = ["--checkpoint", resize_run / "best.pt", "--input", long_cases, "--output", output]
    process = start("infer.py", *arguments)
    interrupt(process, 0.0)
    process.kill()
    process.communicate(timeout=60)
    (output / ".0123456789abcdef.nii.gz").write_bytes(b"half")
    assert call("infer", *arguments, "--skip-existing").code == 0
    assert {path.name for path in output.iterdir()} == {
        *("a.nii.gz", "b.nii.gz", "c.nii.gz", "run.json"),
    }


def test_quality_options_by_the_command(call, arguments, output, data, tmp_path) -> None:
    """Two copies of a checkpoint are the checkpoint; maps agree with the labels."""
    plain = tmp_path / "plain"
    assert call("infer", *arguments[:-1], plain).code == 0
    checkpoint = arguments[1]
    twin = Path(shutil.copy(checkpoint, tmp_path / "twin.pt"))
    arguments[1:2] = [checkpoint, twin]
    assert call("infer", *arguments, "--entropy", "--probabilities").code == 0
    for name in NAMES:
        labels = voxels(output / f"{name}.nii.gz")
        np.testing.assert_array_equal(labels, voxels(plain / f"{name}.nii.gz"))
        probabilities = nib.load(output / "probabilities" / f"{name}.nii.gz").get_fdata()
        entropy = nib.load(output / "entropy" / f"{name}.nii.gz").get_fdata()
        assert probabilities.shape == (*labels.shape, 3)
        np.testing.assert_array_equal(
            probabilities.argmax(-1)[entropy < 0.5], labels[entropy < 0.5]
        )
    record = read_json(output / "run.json")
    assert record["checkpoint"] == [str(checkpoint), str(twin)]
    assert len(set(record["checkpoint_sha256"])) == 1
    rules = (
        "--largest_component",
        "body",
        "--min_volume_mm3",
        "organs=2000",
        "--scales",
        "1",
        "1.5",
    )
    assert call("infer", *arguments, *rules).code == 0
    settings = read_json(output / "run.json")["settings"]
    assert settings["largest_component"] == ["body"]
    assert settings["min_volume_mm3"] == {"organs": 2000.0}
    assert settings["scales"] == [1.0, 1.5]


def test_the_paper_protocol_is_named_wherever_it_is_used(
    call, arguments, output, data, tmp_path
) -> None:
    strict = tmp_path / "strict"
    assert call("infer", *arguments[:-1], strict).code == 0
    outcome = call("infer", *arguments, "--labels", data / "labelsTr", "--protocol", "paper")
    assert outcome.stdout.count("Protocol: paper") == 2
    assert read_json(output / "run.json")["settings"]["protocol"] == "paper"
    assert read_json(output / "metrics.json")["protocol"] == "paper"
    assert set((output / "metrics.csv").read_text().splitlines()[1].split(",")[:1]) == {"paper"}
    names = [f"{name}.nii.gz" for name in NAMES]
    assert any((voxels(strict / name) != voxels(output / name)).any() for name in names)


def test_the_tolerance_and_another_grid_by_the_command(call, arguments, output, data, tmp_path):
    folder = shutil.copytree(data / "labelsTr", tmp_path / "labels")
    for path in folder.iterdir():  # every second voxel: the same place, another grid
        image = nib.load(path)
        coarse = image.slicer[::2, ::2, ::2]
        nib.save(coarse, path)
    refused = call("infer", *arguments, "--labels", folder)
    assert refused.code == 2
    assert re.search(r"shape .*--on_mismatch", refused.stderr)
    options = ("--on_mismatch", "resample", "--tolerance_mm", "8")
    outcome = call("infer", *arguments, "--labels", folder, *options)
    assert outcome.code == 0, outcome.stderr
    metrics = read_json(output / "metrics.json")
    assert metrics["tolerance_mm"] == 8
    assert metrics["mean"]["dice"] > 0.05
