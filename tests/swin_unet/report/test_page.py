"""The page and its command: what is in the file, what is refused."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from swin_unet.cli import run
from swin_unet.report import ReportCase, Shown, write_report
from swin_unet.report.__main__ import main

AFFINE = np.diag([1.0, 1.0, 3.0, 1])
SCORE = {"dice": 0.5, "hd95_mm": None, "outcome": "both"}
SUMMARY = {
    "protocol": "strict",
    "classes": ["liver"],
    "cases": [{"case": "a", "metrics": {"liver": SCORE}}],
    "mean": {"dice": 0.5},
    "per_class": {"liver": {"dice": 0.5, "missed": 0}},
}


def write_volumes(folder: Path, *names: str) -> Path:
    """Write an image, a prediction and a reference per name."""
    generator = np.random.default_rng(len(names))
    for part in ("images", "predictions", "labels"):
        (folder / part).mkdir(exist_ok=True)
        for name in names:
            voxels = generator.integers(0, 2, (12, 10, 4)).astype(np.uint8)
            nib.save(nib.Nifti1Image(voxels, AFFINE), folder / part / f"{name}.nii.gz")
    return folder


def block(page: str, name: str) -> dict:
    """Return a data block of the page."""
    match = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', page)
    assert match
    return json.loads(match[1])


def call(*arguments: str | Path) -> int:
    return run(lambda: main([str(argument) for argument in arguments]))


def test_the_command_finds_images_scores_and_provenance(tmp_path: Path, capsys) -> None:
    folder = write_volumes(tmp_path, "a", "b")
    predictions = folder / "predictions"
    (predictions / "metrics.json").write_text(json.dumps(SUMMARY))
    facts = {"settings": {"device": "cpu"}, "git_commit": "abc", "cases": [], "classes": ["liver"]}
    (predictions / "run.json").write_text(json.dumps(facts))
    with (predictions / "statistics.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "class", "components", "touches_border", "mean_intensity"])
        writer.writerow(["b", "liver", "2", "True", ""])
    paths = ["--images", folder / "images", "--labels", folder / "labels"]
    assert call(predictions, *paths) == 0
    page = (predictions / "report.html").read_text(encoding="utf8")
    content = block(page, "report")
    assert [case["name"] for case in content["cases"]] == ["a", "b"]
    assert content["cases"][0]["metrics"] == {"liver": SCORE}
    assert content["cases"][1]["statistics"] == {
        "liver": {"components": 2, "touches_border": True, "mean_intensity": None}
    }
    assert content["classes"] == [{"value": 1, "name": "liver"}]
    assert content["settings"] == {"device": "cpu"}
    assert content["provenance"]["git_commit"] == "abc"
    assert len(block(page, "case-1")["labels"]) == 2
    out, err = capsys.readouterr()
    assert "2 cases" in out
    assert err == ""


def test_without_scores_and_references_it_shows_what_there_is(tmp_path: Path, capsys) -> None:
    folder = write_volumes(tmp_path, "a")
    output = tmp_path / "new" / "page.html"
    arguments = (folder / "predictions", "--images", folder / "images", "--output", output)
    assert call(*arguments, "--classes", "cyst, tumour") == 0
    content = block(output.read_text(encoding="utf8"), "report")
    assert [item["name"] for item in content["classes"]] == ["cyst", "tumour"]
    assert content["cases"][0]["has_reference"] is False
    assert content["summary"] is None
    assert call(*arguments, "--labels", folder / "labels") == 0
    assert "swin_unet.evaluation" in capsys.readouterr().err


def test_numbered_classes_of_the_evaluation_keep_their_values(tmp_path: Path) -> None:
    folder = write_volumes(tmp_path, "a")
    summary = {**SUMMARY, "classes": ["2", "7"], "cases": []}
    (folder / "predictions" / "metrics.json").write_text(json.dumps(summary))
    assert call(folder / "predictions", "--images", folder / "images") == 0
    page = (folder / "predictions" / "report.html").read_text(encoding="utf8")
    assert block(page, "report")["classes"] == [
        {"value": 2, "name": "2"},
        {"value": 7, "name": "7"},
    ]


def test_one_unreadable_case_is_listed_and_the_others_are_shown(tmp_path: Path, capsys) -> None:
    folder = write_volumes(tmp_path, "a", "b")
    path = folder / "images" / "a.nii.gz"
    path.write_bytes(path.read_bytes()[:60])
    assert call(folder / "predictions", "--images", folder / "images") == 3
    page = (folder / "predictions" / "report.html").read_text(encoding="utf8")
    first, second = block(page, "report")["cases"]
    assert "a.nii.gz: expected" in first["error"]
    assert second["error"] is None
    assert 'id="case-0"' not in page
    assert "a could not be read" in capsys.readouterr().err
    (folder / "predictions" / "b.nii.gz").unlink()
    assert call(folder / "predictions", "--images", folder / "images") == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / "images" / "a.nii.gz").unlink(), "images: expected an image"),
        (lambda folder: (folder / "labels" / "a.nii.gz").unlink(), "labels: expected a label map"),
        (lambda folder: (folder / "labels").rename(folder / "elsewhere"), "labels: expected"),
        (lambda folder: (folder / "images").rename(folder / "elsewhere"), "expected a folder"),
        (lambda folder: (folder / "predictions/run.json").write_text("{"), "run.json: expected"),
        (lambda folder: (folder / "predictions/metrics.json").write_text("[]"), "found list"),
    ],
    ids=["no image", "no label", "no labels", "no images", "bad run.json", "bad metrics.json"],
)
def test_faults_are_named_and_nothing_is_written(tmp_path: Path, capsys, change, words) -> None:
    folder = write_volumes(tmp_path, "a", "b")
    change(folder)
    before = sorted(tmp_path.rglob("*"))
    paths = ["--images", folder / "images", "--labels", folder / "labels"]
    assert call(folder / "predictions", *paths) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.startswith("error: ")
    assert sorted(tmp_path.rglob("*")) == before


def test_names_cannot_break_the_page(tmp_path: Path) -> None:
    """Names come from files; one must not end the data block, nor another be taken for it."""
    folder = write_volumes(tmp_path, "a")
    name = "</script><script>alert(1)</script><!-- {{cases}}"
    case = ReportCase(name, [folder / "images/a.nii.gz"], folder / "predictions/a.nii.gz")
    write_report(tmp_path / "page.html", [case], Shown({1: name}), provenance={name: name})
    page = (tmp_path / "page.html").read_text(encoding="utf8")
    content = block(page, "report")
    assert content["cases"][0]["name"] == content["classes"][0]["name"] == name
    assert content["provenance"] == {name: name}
    assert "alert(1)</script>" not in page


def test_the_page_names_no_other_file(tmp_path: Path) -> None:
    write_report(tmp_path / "page.html", [ReportCase("a", error="failed")], Shown({}))
    page = (tmp_path / "page.html").read_text(encoding="utf8")
    assert "default-src 'none'" in page
    assert "{{" not in page
    assert re.findall(r"(?:src|href)\s*=\s*.(\w*:)", page) == ["data:", "data:"]
    assert len(re.findall(r"(?<![-\w])(?:src|href)\b", page)) == 2
    assert not re.search(r"https?://|@import|url\(", page)


def test_many_cases_share_one_budget(tmp_path: Path, monkeypatch) -> None:
    folder = write_volumes(tmp_path, "a")
    monkeypatch.setattr("swin_unet.report.page.REPORT_BYTES", 120_000)
    generator = np.random.default_rng(0)
    image = generator.normal(0, 1, (100, 100, 30)).astype(np.float32)
    path = folder / "images" / "a.nii"
    nib.save(nib.Nifti1Image(image, AFFINE), path)
    labels = folder / "labels" / "a.nii"
    nib.save(nib.Nifti1Image(np.zeros(image.shape, np.uint8), AFFINE), labels)
    cases = [ReportCase(str(number), [path], labels) for number in range(8)]
    assert write_report(tmp_path / "page.html", cases, Shown({})) == []
    page = (tmp_path / "page.html").read_text(encoding="utf8")
    stored = [block(page, f"case-{number}") for number in range(8)]
    assert sum(case["bytes"] for case in stored) <= 120_000
    assert all(max(case["factors"]) > 1 for case in stored)
