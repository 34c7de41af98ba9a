"""What infer.py leaves to look at: the report, the statistics, and the network for others."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from tests.browser import Browser

CLASSES = {1: "body", 2: "organs"}
# Refuses the network to a command and to the processes that it forks.
OFFLINE = """
import runpy, sys
def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        raise AssertionError(f"the network was used: {event} {arguments[1:]}")
sys.addaudithook(refuse)
sys.path[0] = "."
sys.argv = sys.argv[1:]
if sys.argv[0].endswith(".py"):
    runpy.run_path(sys.argv[0], run_name="__main__")
else:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def blocks(page: Path) -> dict[str, Any]:
    """Return the data of a report by the names of its blocks."""
    text = page.read_text(encoding="utf8")
    found = re.findall(r'<script type="application/json" id="([\w-]+)">(.*?)</script>', text)
    return {name: json.loads(content) for name, content in found}


@pytest.fixture(scope="module")
def output(command, data: Path, config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Training, segmentation, report, statistics and export, all without network.

    One of the inputs is no volume.
    """
    folder = tmp_path_factory.mktemp("offline")
    broken = folder / "broken.nii.gz"
    broken.write_bytes(b"no volume")
    label = next((data / "labelsTr").iterdir())
    labels = folder / "labels"
    labels.mkdir()
    for path in (data / "labelsTr").iterdir():
        (labels / path.name).symlink_to(path)
    (labels / broken.name).symlink_to(label)
    command("-c", OFFLINE, "train.py", "--config", config, "--output_dir", folder / "run")
    best = ("--checkpoint", folder / "run" / "best.pt")
    done = command(
        "-c", OFFLINE, "infer.py", *best,
        *("--input", data / "imagesTr", broken, "--labels", labels),
        *("--output", folder / "out", "--report", "--statistics"),
        code=3,
    )  # fmt: skip
    assert "report.html" in done.stdout
    command(
        "-c", OFFLINE, "swin_unet.export", *best, "--format", "onnx", folder / "run" / "best.onnx"
    )
    return folder


def test_a_use_of_the_network_would_be_noticed(command, tmp_path: Path) -> None:
    script = tmp_path / "call.py"
    script.write_text("import socket; socket.create_connection(('127.0.0.1', 9))")
    done = command("-c", OFFLINE, script, code=1)
    assert "the network was used" in done.stderr


def test_statistics_are_those_of_the_label_maps(output: Path, data: Path) -> None:
    with (output / "out" / "statistics.csv").open(newline="", encoding="utf8") as file:
        rows = {(row["case"], row["class"]): row for row in csv.DictReader(file)}
    paths = sorted((data / "imagesTr").iterdir())
    assert set(rows) == {
        (path.name.removesuffix(".nii.gz"), name) for path in paths for name in CLASSES.values()
    }
    for path in paths:
        image, labels = nib.load(path), nib.load(output / "out" / path.name)
        for value, name in CLASSES.items():
            row = rows[path.name.removesuffix(".nii.gz"), name]
            mask = np.asarray(labels.dataobj) == value
            voxel_ml = abs(np.linalg.det(labels.affine[:3, :3])) / 1000
            assert float(row["volume_ml"]) == pytest.approx(mask.sum() * voxel_ml, rel=1e-5)
            assert int(row["components"]) == ndimage.label(mask, np.ones((3, 3, 3)))[1]
            if mask.any():
                mean = np.asarray(image.dataobj)[mask].mean()
                assert float(row["mean_intensity"]) == pytest.approx(mean, rel=1e-5)


def test_the_report_shows_the_run(output: Path, browser: Browser) -> None:
    page = output / "out" / "report.html"
    content = blocks(page)
    metrics = json.loads((output / "out" / "metrics.json").read_text())
    report = content["report"]
    good = [case for case in report["cases"] if case["error"] is None]
    assert len(good) == len(metrics["cases"]) == 5
    assert report["summary"]["mean"] == metrics["mean"]
    (failed,) = (case for case in report["cases"] if case["error"] is not None)
    assert failed["name"] == "broken"
    assert "broken.nii.gz" in failed["error"]
    assert report["settings"]["preprocessing"]["fit"] == "resize"
    assert report["provenance"]["checkpoint"].endswith("best.pt")
    browser.problems.clear()
    browser.open(page)
    browser.wait_for("state.volume !== null")
    dice = browser.evaluate("document.querySelector('#summary-table').textContent")
    assert f"{metrics['mean']['dice']:.4f}" in dice
    assert browser.problems == []


def test_the_report_can_be_made_later(output: Path, data: Path, command) -> None:
    later = output / "later.html"
    (output / "images").mkdir()
    for path in (data / "imagesTr").iterdir():
        (output / "images" / path.name).symlink_to(path)
    command(
        *("-m", "swin_unet.report", output / "out", "--images", output / "images"),
        *("--labels", data / "labelsTr", "--output", later),
    )
    first, second = blocks(output / "out" / "report.html"), blocks(later)
    assert [first[f"case-{i}"] for i in range(5)] == [second[f"case-{i}"] for i in range(5)]
    for i in range(5):
        assert first["report"]["cases"][i]["metrics"] == second["report"]["cases"][i]["metrics"]


@pytest.mark.parametrize("options", [(), ("--backend", "onnx")], ids=["by its ending", "named"])
def test_onnx_runtime_segments_alike(
    output: Path, data: Path, call, tmp_path: Path, options: tuple[str, ...]
) -> None:
    path = next((data / "imagesTr").iterdir())
    onnx = output / "run" / "best.onnx"
    outcome = call(
        "infer",
        *("--checkpoint", onnx, "--input", path, "--output", tmp_path / "o", *options),
    )
    assert outcome.code == 0
    found, wanted = (nib.load(folder / path.name) for folder in (tmp_path / "o", output / "out"))
    np.testing.assert_array_equal(np.asarray(found.dataobj), np.asarray(wanted.dataobj))
    settings = json.loads((tmp_path / "o" / "run.json").read_text())["settings"]
    assert settings["backend"] == "onnx"


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("best.pt", ("--backend", "onnx"), ("an ONNX file", "python -m swin_unet.export")),
        ("best.onnx", ("--backend", "torch"), ("a checkpoint that train.py wrote",)),
        ("best.onnx", ("--precision", "bf16"), ("fp32 with --backend onnx", "bf16")),
    ],
)
def test_backends_refuse_what_is_not_theirs(
    output: Path, data: Path, call, tmp_path: Path, name: str, options: Any, words: Any
) -> None:
    outcome = call(
        "infer",
        *("--checkpoint", output / "run" / name, "--input", data / "imagesTr"),
        *("--output", tmp_path / "o", *options),
    )
    outcome.assert_refused("", *words)
    assert not (tmp_path / "o").exists()
