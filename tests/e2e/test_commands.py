"""Train, segment and score by the commands; every promise that a user relies on."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml

from benchmarks.kill_points import unequal
from datasets.cases import PARTS
from swin_unet import checkpoint as checkpoints
from swin_unet.config import Config, to_plain

CLASSES = ["body", "organs"]


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf8"))


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf8") as file:
        return list(csv.DictReader(file))


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


@pytest.fixture(scope="session")
def predictions(command, data: Path, run_folder: Path, tmp_path_factory) -> Path:
    """The validation cases of a run, segmented and scored by its best.pt."""
    output = tmp_path_factory.mktemp("predictions")
    done = command(
        "infer.py",
        *("--checkpoint", run_folder / "best.pt", "--input", data / "imagesTr", "--part", "val"),
        *("--labels", data / "labelsTr", "--output", output),
    )
    assert done.stderr == ""
    assert "Protocol: strict" in done.stdout
    return output


def test_run_folder_holds_what_the_design_lists(run_folder: Path, data: Path) -> None:
    assert {path.name for path in run_folder.iterdir()} == {
        *("config.yaml", "split.json", "last.pt", "last.previous.pt", "best.pt", "metrics.csv"),
        *("tensorboard", "progress.png", "log.txt", "run.json"),
        *("validation_metrics.json", "test_metrics.json"),
    }
    config = yaml.safe_load((run_folder / "config.yaml").read_text())
    assert config.keys() == to_plain(Config()).keys()
    for section in ("model", "data", "train", "inference"):
        assert config[section].keys() == to_plain(Config())[section].keys()
    assert config["data"]["root"] == str(data)
    assert config["data"]["fit"] == run_folder.name
    split = read_json(run_folder / "split.json")
    assert [len(split[part]) for part in ("train", "val", "test")] == [2, 2, 1]
    assert len({name for part in PARTS for name in split[part]}) == 5
    run = read_json(run_folder / "run.json")
    assert run["finished"]
    assert run["epoch"] == 4
    assert "train.py" in run["command"][0]
    assert (run_folder / "progress.png").read_bytes().startswith(b"\x89PNG")
    assert list((run_folder / "tensorboard").iterdir())
    assert "epoch 4/4" in (run_folder / "log.txt").read_text()


def test_checkpoints_hold_plain_values_and_the_best_score(run_folder: Path) -> None:
    rows = read_csv(run_folder / "metrics.csv")
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert all(
        10 < float(row["train/peak_memory_mb"]) < 100_000 for row in rows
    )  # torch alone: 200
    scores = [float(row["dice/mean"]) for row in rows]
    best, last = (checkpoints.load(run_folder / f"{name}.pt") for name in ("best", "last"))
    assert last["epoch"] == 4
    assert best["best_epoch"] == best["epoch"] == last["best_epoch"]
    assert best["best_score"] == last["best_score"] == pytest.approx(max(scores), abs=1e-12)
    assert best["best_epoch"] == 1 + scores.index(max(scores))
    assert best["classes"] == CLASSES
    assert "optimizer" not in best


def test_validation_dice_is_what_infer_reports(run_folder: Path, predictions: Path) -> None:
    best = checkpoints.load(run_folder / "best.pt")
    metrics = read_json(predictions / "metrics.json")
    assert best["best_score"] > 0.05  # a network that finds nothing agrees with anything
    assert metrics["mean"]["dice"] == pytest.approx(best["best_score"], abs=1e-6)
    row = read_csv(run_folder / "metrics.csv")[best["best_epoch"] - 1]
    for name in CLASSES:
        expected = float(row[f"dice/{name}"])
        assert metrics["per_class"][name]["dice"] == pytest.approx(expected, abs=1e-6)


def test_predictions_lie_on_the_grid_of_their_images(
    run_folder: Path, predictions: Path, data: Path
) -> None:
    names = {f"{name}.nii.gz" for name in read_json(run_folder / "split.json")["val"]}
    written = {path.name for path in predictions.iterdir()}
    assert written == names | {"metrics.json", "metrics.csv", "run.json"}
    for name in names:
        prediction, image = nib.load(predictions / name), nib.load(data / "imagesTr" / name)
        assert prediction.shape == image.shape
        assert prediction.get_data_dtype() == np.uint8
        np.testing.assert_array_equal(prediction.affine, image.affine)
        assert set(np.unique(voxels(predictions / name))) <= {0, 1, 2}


def test_scores_and_provenance_are_written(predictions: Path, run_folder: Path) -> None:
    metrics = read_json(predictions / "metrics.json")
    names = read_json(run_folder / "split.json")["val"]
    assert metrics["protocol"] == "strict"
    assert metrics["classes"] == CLASSES
    assert [case["case"] for case in metrics["cases"]] == names
    rows = read_csv(predictions / "metrics.csv")
    expected = [(case, name) for case in names for name in CLASSES]
    assert [(row["case"], row["class"]) for row in rows] == expected
    run = read_json(predictions / "run.json")
    assert run["checkpoint"] == str(run_folder / "best.pt")
    assert [case["case"] for case in run["cases"]] == names


def test_the_scorer_finds_the_same_scores(
    command, predictions: Path, data: Path, tmp_path: Path
) -> None:
    command(
        *("-m", "swin_unet.evaluation", predictions, data / "labelsTr"),
        *("--classes", ",".join(CLASSES), "--output", tmp_path),
    )
    assert read_json(tmp_path / "metrics.json") == read_json(predictions / "metrics.json")


def test_last_checkpoint_segments_too(call, resize_run: Path, data: Path, tmp_path: Path) -> None:
    options = ("--part", "val", "--labels", data / "labelsTr", "--output", tmp_path / "out")
    arguments = ("--checkpoint", resize_run / "last.pt", "--input", data / "imagesTr", *options)
    assert call("infer", *arguments).code == 0
    score = float(read_csv(resize_run / "metrics.csv")[-1]["dice/mean"])
    found = read_json(tmp_path / "out" / "metrics.json")["mean"]["dice"]
    assert found == pytest.approx(score, abs=1e-6)


def test_header_is_kept_and_channel_number_dropped(
    call, crop_run: Path, data: Path, tmp_path: Path
) -> None:
    image = nib.load(data / "imagesTr" / "phantom_002.nii.gz")
    image.set_sform(image.affine, code=4)
    image.set_qform(image.affine, code=2)
    source = tmp_path / "images" / "scan_0000.nii"
    source.parent.mkdir()
    nib.save(image, source)
    arguments = ("--checkpoint", crop_run / "best.pt", "--input", source, "--overlap", "0.25")
    assert call("infer", *arguments, "--output", tmp_path / "out").code == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"scan.nii", "run.json"}
    expected, found = nib.load(source).header, nib.load(tmp_path / "out" / "scan.nii").header
    for field in ("srow_x", "srow_y", "srow_z", "quatern_b", "quatern_c", "quatern_d"):
        np.testing.assert_array_equal(found[field], expected[field])
    for field in ("pixdim", "dim", "sform_code", "qform_code", "xyzt_units"):
        np.testing.assert_array_equal(found[field], expected[field])


def test_folders_and_files_are_segmented_together(
    call, resize_run: Path, data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for number, name in ((1, "first"), (2, "PAT_0012"), (3, "PAT_0013")):
        shutil.copy(data / f"imagesTr/phantom_00{number}.nii.gz", folder / f"{name}.nii.gz")
    inputs = (folder, data / "imagesTr/phantom_004.nii.gz", data / "imagesTr/phantom_005.nii.gz")
    arguments = ("--checkpoint", resize_run / "best.pt", "--input", *inputs)
    assert call("infer", *arguments, "--output", tmp_path / "out").code == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("first.nii.gz", "PAT_0012.nii.gz", "PAT_0013.nii.gz"),
        *("phantom_004.nii.gz", "phantom_005.nii.gz", "run.json"),
    }


def test_a_bad_case_does_not_stop_the_others(
    call, resize_run: Path, data: Path, tmp_path: Path
) -> None:
    images = shutil.copytree(data / "imagesTr", tmp_path / "images")
    broken = images / "phantom_002.nii.gz"
    broken.write_bytes(broken.read_bytes()[:5000])
    arguments = ("--checkpoint", resize_run / "best.pt", "--input", images)
    options = ("--labels", data / "labelsTr", "--output", tmp_path / "out")
    outcome = call("infer", *arguments, *options)
    assert outcome.code == 3
    assert outcome.stderr.count("error: ") == 1
    assert str(broken) in outcome.stderr
    good = [f"phantom_00{number}" for number in (1, 3, 4, 5)]
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {
        *(f"{name}.nii.gz" for name in good),
        *("metrics.json", "metrics.csv", "run.json"),
    }
    metrics = read_json(tmp_path / "out" / "metrics.json")
    assert [case["case"] for case in metrics["cases"]] == good
    (failed,) = (c for c in read_json(tmp_path / "out" / "run.json")["cases"] if "error" in c)
    assert failed["case"] == "phantom_002"


def test_a_done_run_gets_more_epochs_in_another_folder(
    call, config: Path, resize_run: Path, tmp_path: Path
) -> None:
    torch.set_num_threads(2)
    options = ("--train.epochs", "5", "--output_dir", tmp_path / "new")
    last = resize_run / "last.pt"
    outcome = call("train", "--config", config, "--resume", last, *options)
    assert outcome.code == 0, outcome.stderr
    assert torch.get_num_threads() == 1  # as before: sums depend on it
    splits = [read_json(run / "split.json") for run in (tmp_path / "new", resize_run)]
    assert all(splits[0][key] == splits[1][key] for key in (*PARTS, "sha256"))
    assert [row["epoch"] for row in read_csv(tmp_path / "new" / "metrics.csv")] == ["5"]
    assert checkpoints.load(last)["epoch"] == 4
    best = [checkpoints.load(run / "best.pt") for run in (resize_run, tmp_path / "new")]
    assert best[1]["epoch"] in (best[0]["epoch"], 5)


def test_a_done_run_is_told_again_and_not_trained(
    call, config: Path, resize_run: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(resize_run, tmp_path / "run")
    before = {path: path.read_bytes() for path in run.glob("*.pt")}
    options = ("--output_dir", run, "--resume", "auto", "--deterministic")
    outcome = call("train", "--config", config, *options)
    assert outcome.code == 0
    assert yaml.safe_load((run / "config.yaml").read_text())["train"]["deterministic"] is True
    assert "after epoch 4" in outcome.stdout
    assert "epoch 1/4" not in outcome.stdout
    assert "scoring the test cases" not in outcome.stdout  # test_metrics.json has the scores
    assert "chose nothing" in outcome.stdout
    assert {path: path.read_bytes() for path in run.glob("*.pt")} == before
    sessions = read_json(run / "run.json")["sessions"]
    assert sessions[0]["status"] == "finished"


@pytest.mark.parametrize("has_run", [False, True])
def test_a_probe_tells_the_time_of_a_step_and_keeps_nothing(
    call, config: Path, resize_run: Path, tmp_path: Path, has_run: bool
) -> None:
    run = tmp_path / "run"
    if has_run:
        shutil.copytree(resize_run, run)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    outcome = call("train", "--config", config, "--output_dir", run, "--probe", "3")
    assert outcome.code == 0, outcome.stderr
    measured = json.loads(outcome.stdout.splitlines()[-1])
    last = checkpoints.load(resize_run / "last.pt")
    assert measured["steps"] == last["step"]  # those of the whole training
    assert 0 < measured["seconds_per_step"] < 10
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert run.exists() is has_run


def test_runs_of_two_seeds_start_alike_from_initial_weights(
    call, config: Path, resize_run: Path, tmp_path: Path
) -> None:
    """At a learning rate of almost zero the weights stay what they were at the start."""
    giver = resize_run / "best.pt"
    options = ("--train.learning_rate", "1e-30", "--train.epochs", "1", "--seed", "5")
    runs = (tmp_path / "with", ("--train.initial_weights", giver)), (tmp_path / "without", ())
    for run, more in runs:
        outcome = call("train", "--config", config, "--output_dir", run, *options, *more)
        assert outcome.code == 0, outcome.stderr
        assert ("tensors taken as they are" in outcome.stdout) is bool(more)
    expected = checkpoints.load(giver)["model"]
    found = [checkpoints.load(run / "last.pt")["model"] for run, _ in runs]
    assert unequal(expected, found[0]) == []
    assert unequal(expected, found[1]) != []


@pytest.mark.parametrize("part", ["validation", "test"])
def test_both_results_are_reported(run_folder: Path, part: str) -> None:
    results = read_json(run_folder / f"{part}_metrics.json")
    last, best = (checkpoints.load(run_folder / f"{name}.pt") for name in ("last", "best"))
    if part == "test":
        assert 0 < results.pop("seconds_per_case") < 60
    assert list(results) == ["best", "last"]
    for name, content in (("best", best), ("last", last)):
        assert results[name]["checkpoint"] == f"{name}.pt"
        assert results[name]["epoch"] == content["epoch"]
        cases = [case["case"] for case in results[name]["cases"]]
        expected = read_json(run_folder / "split.json")[part.removesuffix("idation")]
        assert cases == expected
    if part == "validation":
        assert results["best"]["mean"]["dice"] == best["best_score"]
    log = (run_folder / "log.txt").read_text()
    assert f"{part} cases" in log
    shown = log[log.index(f"{part} cases") :]
    assert "worst first" in shown
    assert shown.index(expected[0]) > shown.index("worst first")


@pytest.mark.parametrize("name", ["best", "last"])
def test_test_scores_are_what_infer_reports(
    call, resize_run: Path, data: Path, tmp_path: Path, name: str
) -> None:
    options = ("--part", "test", "--labels", data / "labelsTr", "--output", tmp_path / "out")
    path = resize_run / f"{name}.pt"
    assert call("infer", "--checkpoint", path, "--input", data / "imagesTr", *options).code == 0
    found = read_json(tmp_path / "out" / "metrics.json")
    expected = read_json(resize_run / "test_metrics.json")[name]
    assert {key: expected[key] for key in found} == found


def test_two_processes_share_a_cache(start, config: Path, tmp_path: Path) -> None:
    options = ("--data.cache_dir", tmp_path / "cache", "--train.epochs", "1")
    folders = [tmp_path / "a", tmp_path / "b"]
    arguments = ("train.py", "--config", config, *options, "--output_dir")
    processes = [start(*arguments, folder) for folder in folders]
    for process in processes:
        _, stderr = process.communicate(timeout=300)
        assert process.returncode == 0, stderr
    assert unequal(*(checkpoints.load(folder / "last.pt")["model"] for folder in folders)) == []
    entries = sorted(path.name.split("-")[0] for path in (tmp_path / "cache").iterdir())
    assert entries[0] == "contents.json"
    assert len(entries) == 3  # one per training case
