"""The check as a command, its table and its report; the faults themselves are in tests/e2e."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from datasets import check as module
from datasets.check import check, main
from datasets.check_report import Report, format_report, to_json
from datasets.fingerprint import main as print_fingerprint
from datasets.phantom import write_phantoms
from datasets.problems import Problem, count_severities, format_table, sort_problems
from swin_unet.config import Config, DataConfig, UserError

ROOT = Path(__file__).resolve().parents[2]
REAL_DATA = os.environ.get("SWIN_UNET_DATA")
needs_data = pytest.mark.skipif(REAL_DATA is None, reason="set SWIN_UNET_DATA to the real data")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_phantoms(tmp_path / "data", cases=5, test_cases=1, seed=0, size=(32, 32, 12))
    return tmp_path / "data"


def config_of(root: Path, **options: Any) -> Config:
    windowed = {"intensity": "window", "window": (-125, 275), "image_size": (24, 24)}
    return Config(data=DataConfig(**({"root": root} | windowed | options)))


def change(path: Path, function: Callable[[np.ndarray], np.ndarray], shift_mm: float = 0) -> None:
    image = nib.load(path)
    affine = image.affine + np.array([[0, 0, 0, shift_mm]] + [[0] * 4] * 3)
    nib.save(nib.Nifti1Image(function(np.asarray(image.dataobj)), affine), path)


def set_first(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def function(array: np.ndarray) -> np.ndarray:
        array = array.astype(np.float32)
        array[0, 0, 0] = value
        return array

    return function


def errors(report: Report) -> list[tuple[str, str]]:
    """Return file name and message of every error."""
    return [
        (Path(problem.file).name, problem.message)
        for problem in report.problems
        if problem.severity == "error"
    ]


def test_everything_is_said_at_once(root: Path) -> None:
    """Five faults in three cases: the second of a file does not hide behind the first."""
    change(root / "imagesTr" / "phantom_001.nii.gz", set_first(np.nan))
    change(root / "labelsTr" / "phantom_001.nii.gz", set_first(9), shift_mm=5)
    (root / "imagesTr" / "phantom_002.nii.gz").unlink()
    change(root / "labelsTr" / "phantom_002.nii.gz", set_first(0.5))
    (root / "labelsTr" / "phantom_003.nii.gz").write_bytes(b"")
    found = errors(check(config_of(root), jobs=1))
    expected = [
        ("phantom_001.nii.gz", "1 of 12288 that are NaN"),
        ("phantom_001.nii.gz", "1 voxels with 9"),
        ("phantom_001.nii.gz", "origin"),
        ("phantom_002.nii.gz", "nothing there"),
        ("phantom_002.nii.gz", "values such as 0.5"),
        ("phantom_003.nii.gz", "NIfTI"),
    ]
    assert len(found) == len(expected)
    for name, words in expected:
        assert any(file == name and words in message for file, message in found), (name, found)


def test_other_classes_do_not_hide_the_rest(root: Path) -> None:
    """A data set that cannot be listed is at least searched for damaged files."""
    path = root / "imagesTr" / "phantom_001.nii.gz"
    path.write_bytes(path.read_bytes()[:500])
    report = check(config_of(root, classes=["liver"]), jobs=1)
    assert report.survey is None
    first, second = report.problems
    assert (first.severity, first.file) == ("error", str(root))
    assert (second.severity, second.file) == ("warning", str(path))


def test_processes_find_the_same(root: Path) -> None:
    change(root / "imagesTr" / "phantom_001.nii.gz", set_first(np.nan))
    alone, together = (check(config_of(root), jobs=jobs) for jobs in (1, 2))
    assert alone.problems == together.problems
    assert to_json(alone) == to_json(together)


def die(item: object) -> None:
    os._exit(9)


def test_a_killed_process_is_no_endless_wait() -> None:
    with pytest.raises(UserError, match=r"--jobs: .* lack of memory .* --jobs 1"):
        module._for_all(die, [1, 2, 3], jobs=2)


def run_as_user(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "datasets.check", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        encoding="utf8",
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120"},
    )


def test_the_command_prints_and_writes(root: Path, tmp_path: Path) -> None:
    arguments = ["--config", "phantom.yaml", "--data.root", root, "--output_dir", tmp_path / "run"]
    good = run_as_user(*arguments, "--jobs", "2")
    assert (good.returncode, "Training can start." in good.stdout) == (0, True), good.stderr
    change(root / "labelsTr" / "phantom_001.nii.gz", set_first(9))
    bad = run_as_user(*arguments, "--json", tmp_path / "elsewhere.json")
    assert (bad.returncode, "Training would be refused." in bad.stdout) == (2, True)
    assert "labelsTr/phantom_001.nii.gz" in bad.stdout
    assert max(map(len, bad.stdout.partition("severity  case")[2].splitlines())) <= 120
    assert bad.stdout.rstrip().endswith(f"{tmp_path / 'elsewhere.json'}")
    reports = [tmp_path / "run" / "check.json", tmp_path / "elsewhere.json"]
    verdicts = [json.loads(path.read_text())["refused"] for path in reports]
    assert verdicts == [False, True]


@pytest.mark.parametrize("jobs", ["0", "-1"])
def test_numbers_of_processes_are_checked(root: Path, tmp_path: Path, jobs: str) -> None:
    with pytest.raises(UserError, match="--jobs: expected at least 1"):
        main([f"--data.root={root}", f"--json={tmp_path / 'x.json'}", f"--jobs={jobs}"])


def test_where_nothing_can_be_written_is_said_first(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="expected a folder, found a file"):
        main([f"--data.root={root}", f"--json={tmp_path / 'file' / 'x.json'}"])


def test_the_fingerprint_alone(root: Path, tmp_path: Path, capsys: Any) -> None:
    arguments = [f"--data.root={root}", f"--json={tmp_path / 'x.json'}", "--jobs=1"]
    assert print_fingerprint(arguments) == main(arguments) == 0
    alone, _, whole = capsys.readouterr().out.partition("x.json")
    assert alone.partition("0 errors")[0] in whole
    assert "severity" not in alone
    assert "Suggested for your configuration" in alone


def test_a_wrong_option_is_a_line_as_everywhere(root: Path) -> None:
    done = run_as_user("--config", "phantom.yaml", "--data.roott", root)
    assert done.returncode == 2
    assert "Did you mean `--data.root`?" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_report_has_every_case(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "check.json"
    main([f"--data.root={root}", "--data.image_size=[24, 24]", f"--json={path}", "--jobs=1"])
    content = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(name))
    assert len(content["cases"]) == 6
    parts = {case["case"]: case["part"] for case in content["cases"]}
    split = {name: part for part, names in content["split"].items() for name in names}
    assert parts == {**split, "phantom_006": None}
    case = content["cases"][0]
    image, label = (nib.load(case[key][0]) for key in ("images", "labels"))
    assert case["shape"] == list(image.shape)
    np.testing.assert_allclose(case["spacing_mm"], image.header.get_zooms(), rtol=1e-4)
    assert case["axes"] == "".join(nib.aff2axcodes(image.affine))
    counts = np.bincount(np.asarray(label.dataobj).ravel(), minlength=9)
    assert case["class_voxels"] == counts.tolist()
    voxels = np.asarray(image.dataobj)
    expected = {key: np.percentile(voxels, float(key)) for key in ("0.5", "50", "99.5")}
    assert case["channels"][0]["percentiles"].items() >= expected.items()
    assert "class_voxels" not in content["cases"][-1]


def test_the_report_of_nan_is_valid(root: Path, tmp_path: Path) -> None:
    change(root / "imagesTr" / "phantom_001.nii.gz", lambda array: np.full(array.shape, np.nan))
    change(root / "imagesTr" / "phantom_002.nii.gz", set_first(np.nan))
    path = tmp_path / "check.json"
    assert main([f"--data.root={root}", f"--json={path}", "--jobs=1"]) == 2
    content = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(name))
    assert "channels" not in content["cases"][0]
    assert content["cases"][1]["channels"][0]["minimum"] <= -1000


def problem(kind: str = "kind", severity: Any = "warning", **changes: str) -> Problem:
    values = {"case": "a", "file": "f", "message": "message", "fix": "fix"}
    return Problem(kind=kind, severity=severity, **(values | changes))


def test_the_gravest_come_first_and_kinds_stay_together() -> None:
    found = [
        problem("x", "info", case="a"),
        problem("y", "warning", case="b"),
        problem("z", "warning", case="a"),
        problem("y", "warning", case="a"),
        problem("v", "warning", case=""),
        problem("w", "error", case="c"),
        problem("w", "error", case="c"),
    ]
    order = [(item.severity, item.kind, item.case) for item in sort_problems(found)]
    assert order == [
        ("error", "w", "c"),
        ("warning", "v", ""),
        ("warning", "y", "a"),
        ("warning", "y", "b"),
        ("warning", "z", "a"),
        ("info", "x", "a"),
    ]
    assert count_severities(sort_problems(found)) == {"error": 1, "warning": 4, "info": 1}


def test_many_cases_of_one_kind_are_counted() -> None:
    found = [problem("blurred", case=f"case{number:02}") for number in range(50)]
    text = format_table(found, None)
    assert text.count("message") == 3
    assert "47 more" in text
    assert "blurred" in text


@pytest.mark.parametrize("columns", ["40", "100", "140", "300"])
def test_the_table_fits_the_terminal(monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    """Below 100 columns nothing could be read."""
    monkeypatch.setenv("COLUMNS", columns)
    long = "word " * 40 + "x" * 250
    found = [problem(message=long, fix="do " * 60 + "\n  and\n  this", file="/data/" + "f" * 120)]
    lines = format_table(found, None).splitlines()
    assert max(map(len, lines)) <= min(max(int(columns), 100), 200)
    squeezed = "".join("".join(lines).split())
    assert "x" * 20 in squeezed
    assert "and" in "\n".join(lines)


def test_paths_are_relative_to_the_root() -> None:
    found = [
        problem(file="/data/set/images/a.nii"),
        problem(file="/elsewhere/b.nii"),
        problem(file="/data/set"),
        problem(file="data.window", case=""),
    ]
    text = format_table(found, Path("/data/set"))
    for word in (" images/a.nii ", " /elsewhere/b.nii ", " /data/set ", " data.window "):
        assert word in text


def test_one_of_each_is_counted_in_the_singular(root: Path) -> None:
    report = check(config_of(root), jobs=1)
    grave = replace(report, problems=(problem(severity="error"),), survey=None)
    assert format_report(grave).endswith(
        "1 error, 0 warnings, 0 remarks. Training would be refused."
    )


@needs_data
def test_hippocampus() -> None:
    """The caveats of the collection's description, counted by nibabel from the files."""
    root = Path(REAL_DATA or "") / "msd_hippocampus"
    config = config_of(root, intensity="zscore", window=None)
    report = check(config)
    assert not report.is_refused
    assert all(item.severity == "info" for item in report.problems)
    images = {path.name[:-7]: nib.load(path) for path in (root / "imagesTr").iterdir()}
    maxima = {name: float(np.asarray(image.dataobj).max()) for name, image in images.items()}
    large = [name for name, value in maxima.items() if value > 10_000]
    (found,) = (item for item in report.problems if item.kind == "large intensities")
    assert f"in {len(large)} of 208 images" in found.message
    assert f"{max(maxima.values()):,.0f} in {max(maxima, key=lambda n: maxima[n])}" in found.message
    real = {
        path.name[:-7]
        for path in (root / "labelsTr").iterdir()
        if nib.load(path).get_data_dtype().kind == "f"
    }
    found_real = {i.case for i in report.problems if i.kind == "label map of real numbers"}
    assert found_real == real
    assert real
    assert any(item.kind == "different intensity scales" for item in report.problems)


@needs_data
def test_a_ct_whose_label_is_stored_the_other_way_is_right(tmp_path: Path) -> None:
    folder = Path(REAL_DATA or "") / "totalsegmentator_examples" / "ct_dicom"
    rows = [{"image": str(folder / "series"), "label": str(folder / "seg_synapse8.nii.gz")}]
    (tmp_path / "cases.json").write_text(json.dumps(rows))
    organs = ["aorta", "gallbladder", "left_kidney", "right_kidney", "liver", "pancreas", "spleen"]
    options = {"name": "folder", "list_file": "cases.json", "classes": [*organs, "stomach"]}
    config = config_of(tmp_path, **options, val_fraction=0.0, test_fraction=0.0)
    report = check(config, jobs=1)
    assert errors(report) == []
    (turned,) = (i for i in report.problems if i.kind == "label map stored with other axes")
    assert turned.severity == "info"
    assert "LAS" in turned.message
    assert "LPS" in turned.message
