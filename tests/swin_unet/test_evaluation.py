"""Files and folders to metrics.json, metrics.csv and a table."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from medpy.metric import binary
from PIL import Image

from swin_unet.config import UserError
from swin_unet.evaluation import print_table, score_volumes, summarize, write_metrics
from swin_unet.evaluation.__main__ import main
from swin_unet.imaging.volume import Volume
from swin_unet.metrics import METRICS, score_case

AFFINE = np.diag([0.5, 0.8, 2.0, 1.0])
SHAPE = (12, 10, 6)
NAN = math.nan


def cube(*corners: tuple[int, int]) -> np.ndarray:
    """Labels 1, 2, ... as cubes of side 3 at (x, y), z 1 to 3."""
    labels = np.zeros(SHAPE, np.uint8)
    for value, (x, y) in enumerate(corners, start=1):
        labels[x : x + 3, y : y + 3, 1:4] = value
    return labels


def write(path: Path, labels: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(labels, affine), path)
    return path


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Case a: label 1 shifted, label 2 missed; case b: label 1 exact, no label 2 at all."""
    predictions, labels = tmp_path / "predictions", tmp_path / "labels"
    write(predictions / "a.nii.gz", cube((1, 1)))
    write(labels / "a.nii.gz", cube((2, 1), (7, 5)))
    write(predictions / "b.nii", cube((4, 4)))
    write(labels / "b.nii.gz", cube((4, 4)).astype(np.float32))
    write(labels / "._b.nii.gz", cube((4, 4)))
    return predictions, labels


def strict_json(path: Path) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


def record(outcome: str = "both", **values: float) -> dict[str, Any]:
    return {**dict.fromkeys(METRICS, 1.0), **values, "outcome": outcome}


def test_folders_end_to_end(folders, capsys):
    predictions, labels = folders
    assert main([str(predictions), str(labels), "--classes", "liver, spleen"]) == 0
    summary = strict_json(predictions / "metrics.json")
    assert (summary["protocol"], summary["classes"]) == ("strict", ["liver", "spleen"])
    assert [case["case"] for case in summary["cases"]] == ["a", "b"]
    first, second = (case["metrics"] for case in summary["cases"])
    masks = cube((1, 1)) == 1, cube((2, 1)) == 1
    assert first["liver"]["dice"] == pytest.approx(binary.dc(*masks))
    assert first["liver"]["hd95_pooled_voxels"] == pytest.approx(binary.hd95(*masks))
    assert first["liver"]["hd95_mm"] == pytest.approx(0.5)
    assert first["liver"]["volume_ml"] == pytest.approx(27 * 0.5 * 0.8 * 2 / 1000)
    assert first["spleen"]["outcome"] == "missed"
    assert first["spleen"]["hd95_mm"] == pytest.approx(math.hypot(6, 8, 12))
    assert second["liver"]["dice"] == 1
    assert second["spleen"]["outcome"] == "absent"
    assert second["spleen"]["dice"] is None
    assert summary["per_class"]["spleen"]["dice"] == 0
    assert summary["per_class"]["spleen"]["missed"] == 1
    assert summary["per_class"]["spleen"]["absent"] == 1
    assert summary["mean"]["dice"] == pytest.approx((first["liver"]["dice"] + 1) / 4)
    assert "Protocol: strict" in capsys.readouterr().out


def test_paper_protocol_is_labelled_everywhere(folders, tmp_path, capsys):
    arguments = [*map(str, folders), "--protocol", "paper", "--output", str(tmp_path / "new/out")]
    assert main(arguments) == 0
    summary = strict_json(tmp_path / "new/out/metrics.json")
    assert summary["protocol"] == "paper"
    assert summary["per_class"]["2"]["dice"] == 0
    assert summary["per_class"]["2"]["hd95_pooled_voxels"] == 0
    output = capsys.readouterr().out
    assert "Protocol: paper" in output
    assert "hd95_mm" not in output
    with (tmp_path / "new/out/metrics.csv").open(newline="") as file:
        assert {row["protocol"] for row in csv.DictReader(file)} == {"paper"}


def test_csv_has_a_row_per_case_and_class(folders):
    predictions, _ = folders
    main([*map(str, folders)])
    with (predictions / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["case"], row["class"]) for row in rows] == [
        ("a", "1"), ("a", "2"), ("b", "1"), ("b", "2"),
    ]  # fmt: skip
    cases = strict_json(predictions / "metrics.json")["cases"]
    for row in rows:
        case = next(case for case in cases if case["case"] == row["case"])
        values = case["metrics"][row["class"]]
        assert row["outcome"] == values["outcome"]
        for key in METRICS:
            assert row[key] == ("" if values[key] is None else str(values[key]))


def test_classes_found_in_one_case_only_are_absent_in_the_others(folders):
    predictions, _ = folders
    main([*map(str, folders)])
    unnamed = strict_json(predictions / "metrics.json")
    main([*map(str, folders), "--classes", "1,2"])
    assert strict_json(predictions / "metrics.json") == unnamed


def test_two_files(folders, tmp_path):
    predictions, labels = folders
    files = [str(predictions / "b.nii"), str(labels / "b.nii.gz")]
    assert main([*files, "--output", str(tmp_path)]) == 0
    summary = strict_json(tmp_path / "metrics.json")
    assert summary["per_class"] == {"1": summary["per_class"]["1"]}
    assert summary["mean"]["dice"] == 1


def save_png(path: Path, labels: np.ndarray) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(labels[:, :, 2].T.copy()).save(path)
    return path


def test_what_is_in_mm_is_null_without_a_voxel_size(tmp_path, capsys):
    """Pictures, scored by folder: distances in voxels and all ratios are still there."""
    predictions, labels = tmp_path / "predictions", tmp_path / "labels"
    save_png(predictions / "a.png", cube((1, 1)))
    save_png(labels / "a.png", cube((2, 1), (7, 5)))
    save_png(predictions / "b.png", cube((4, 4)))
    save_png(labels / "b.png", cube((4, 4)))
    assert main([str(predictions), str(labels)]) == 0
    summary = strict_json(predictions / "metrics.json")
    unknown = {"hd95_mm", "surface_dice", "volume_ml", "reference_volume_ml"}
    for case in summary["cases"]:
        for values in case["metrics"].values():
            assert all(values[key] is None for key in unknown)
    first = summary["cases"][0]["metrics"]
    masks = [cube(corner)[:, :, 2] == 1 for corner in ((1, 1), (2, 1))]
    assert first["1"]["dice"] == pytest.approx(binary.dc(*masks))
    assert first["1"]["hd95_pooled_voxels"] == pytest.approx(binary.hd95(*masks))
    assert first["2"]["outcome"] == "missed"
    assert first["2"]["hd95_pooled_voxels"] == pytest.approx(math.hypot(12, 10, 1))
    assert summary["mean"]["hd95_mm"] is None
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("mean"))
    assert row.split()[2:5] == [f"{summary['mean']['dice']:.4f}", "-", "-"]
    with (predictions / "metrics.csv").open(newline="") as file:
        assert all(row[key] == "" for row in csv.DictReader(file) for key in unknown)
    main([str(predictions), str(labels), "--classes", "1,2"])
    assert strict_json(predictions / "metrics.json") == summary


def test_files_of_different_formats_are_paired_and_turned(tmp_path):
    nifti = write(tmp_path / "predictions" / "a.nii.gz", cube((1, 1), (7, 5)))
    image = nib.load(nifti)
    turned = image.as_reoriented([[2, 1], [0, -1], [1, -1]])
    write(tmp_path / "labels" / "a.nii", np.asarray(turned.dataobj), turned.affine)
    main([str(tmp_path / "predictions"), str(tmp_path / "labels")])
    summary = strict_json(tmp_path / "predictions" / "metrics.json")
    assert summary["mean"]["dice"] == 1
    np.savez(tmp_path / "labels" / "a.npz", label=cube((1, 1), (7, 5)).T)
    (tmp_path / "labels" / "a.nii").unlink()
    main([str(tmp_path / "predictions"), str(tmp_path / "labels")])
    summary = strict_json(tmp_path / "predictions" / "metrics.json")
    assert (summary["mean"]["dice"], summary["mean"]["hd95_mm"]) == (1, None)


def test_labels_without_prediction_are_mentioned(folders, capsys):
    predictions, labels = folders
    (predictions / "a.nii.gz").unlink()
    main([str(predictions), str(labels)])
    assert "1 label maps have no prediction" in capsys.readouterr().err
    assert [case["case"] for case in strict_json(predictions / "metrics.json")["cases"]] == ["b"]


def shifted(folders: tuple[Path, Path]) -> None:
    affine = AFFINE.copy()
    affine[0, 3] = 5
    write(folders[0] / "a.nii.gz", cube((1, 1)), affine)


def smaller(folders: tuple[Path, Path]) -> None:
    write(folders[0] / "a.nii.gz", cube((1, 1))[:-1])


def unpaired(folders: tuple[Path, Path]) -> None:
    write(folders[0] / "c.nii", cube((1, 1)))


def doubled(folders: tuple[Path, Path]) -> None:
    write(folders[0] / "a.nii", cube((1, 1)))


def emptied(folders: tuple[Path, Path]) -> None:
    for path in folders[0].iterdir():
        path.unlink()


def other_label(folders: tuple[Path, Path]) -> None:
    write(folders[0] / "b.nii", cube((1, 1)) * 9)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shifted, "a.nii.gz.*origin"),
        (smaller, "a.nii.gz.*shape"),
        (unpaired, "labels: expected a label map for every prediction.*none for c"),
        (doubled, "predictions: expected one label map per case.*a.nii"),
        (emptied, "predictions: expected one label map per case, found none"),
        (other_label, "b.nii: expected label values from 0 to 2, found 27 voxels with 9"),
    ],
)
def test_what_cannot_be_compared_is_refused(folders, damage, message):
    damage(folders)
    with pytest.raises(UserError, match=message):
        main([*map(str, folders), "--classes", "liver,spleen"])
    assert not (folders[0] / "metrics.json").exists()


def test_wrong_arguments_are_refused(folders, tmp_path):
    predictions, labels = map(str, folders)
    with pytest.raises(UserError, match="nothing there"):
        main([str(tmp_path / "typo"), labels])
    with pytest.raises(UserError, match="a single file"):
        main([str(folders[0] / "b.nii"), labels])
    for classes in ("liver,,spleen", "liver,liver", ""):
        with pytest.raises(UserError, match="--classes"):
            main([predictions, labels, "--classes", classes])
    (tmp_path / "occupied").touch()
    with pytest.raises(UserError, match="occupied"):
        main([predictions, labels, "--output", str(tmp_path / "occupied" / "folder")])


def run_module(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "swin_unet.evaluation", *arguments]
    return subprocess.run(command, capture_output=True, encoding="utf8", check=False)


def test_module_exit_codes(folders):
    done = run_module(*map(str, folders))
    assert (done.returncode, (folders[0] / "metrics.json").exists()) == (0, True)
    smaller(folders)
    refused = run_module(*map(str, folders))
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in refused.stderr


def test_help_does_not_import_torch():
    code = "import sys; import swin_unet.evaluation; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_volumes_on_other_grids_are_refused():
    labels = cube((1, 1))
    with pytest.raises(UserError, match="spacing"):
        score_volumes(Volume(labels, AFFINE), Volume(labels, np.eye(4)))


def test_volumes_are_scored_with_their_spacing():
    prediction, reference = Volume(cube((1, 1)), AFFINE), Volume(cube((2, 1)), AFFINE)
    records = score_volumes(prediction, reference, {1: "liver"})
    expected = score_case(prediction.array, reference.array, (0.5, 0.8, 2.0), {1: "liver"})
    assert records == expected


def test_means_leave_out_undefined_values():
    cases = [
        {"case": "a", "metrics": {"x": record(dice=0.5), "y": record("absent", dice=NAN)}},
        {"case": "b", "metrics": {"x": record(dice=1.0), "y": record("false_positive", dice=0.0)}},
        {"case": "c", "metrics": {"x": record(dice=0.9), "y": record("absent", dice=None)}},
    ]
    summary = summarize(cases, ["x", "y"])
    assert summary["per_class"]["x"]["dice"] == pytest.approx(0.8)
    assert summary["per_class"]["y"]["dice"] == 0
    assert summary["mean"]["dice"] == pytest.approx(0.4)
    assert "volume_ml" not in summary["mean"]
    counts = {key: summary["per_class"]["y"][key] for key in ("missed", "false_positive", "absent")}
    assert counts == {"missed": 0, "false_positive": 1, "absent": 2}


def test_a_class_absent_everywhere_is_null_and_left_out_of_the_mean(tmp_path, capsys):
    absent = record("absent", **dict.fromkeys(METRICS, NAN))
    cases = [{"case": "a", "metrics": {"x": record(), "y": absent}}]
    summary = summarize(cases, ["x", "y"])
    assert summary["per_class"]["y"]["dice"] is None
    assert summary["mean"]["dice"] == 1
    write_metrics(summary, tmp_path)
    assert strict_json(tmp_path / "metrics.json") == summary
    print_table(summary)
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("y"))
    assert row.split() == ["y", *["-"] * 5, "0", "0", "1"]


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
def test_the_tolerance_of_the_surface_dice_is_monais(folders, capsys):
    """By the command, at a tolerance between two voxel distances."""
    import monai.metrics as monai
    import torch

    predictions, _ = folders
    masks = [torch.from_numpy(cube(corner) == 1)[None, None] for corner in ((1, 1), (2, 1))]
    for tolerance_mm in (0.4, 0.5, 0.9):
        options = ["--tolerance_mm", str(tolerance_mm), "--classes", "liver,spleen"]
        assert main([*map(str, folders), *options]) == 0
        summary = strict_json(predictions / "metrics.json")
        assert summary["tolerance_mm"] == tolerance_mm
        expected = monai.compute_surface_dice(
            *masks, [tolerance_mm], include_background=True, spacing=(0.5, 0.8, 2.0)
        )
        found = summary["cases"][0]["metrics"]["liver"]["surface_dice"]
        assert found == pytest.approx(expected.item(), abs=1e-6)
    assert f"within {tolerance_mm} mm" in capsys.readouterr().out
    for wrong in ("0", "-1", "inf", "a"):
        with pytest.raises(SystemExit, match="2"):
            main([*map(str, folders), "--tolerance_mm", wrong])


def test_another_grid_is_resampled_when_told_to(tmp_path, capsys):
    """The prediction, onto the grid of its label map, as SimpleITK does it."""
    random = np.random.default_rng(0)
    labels = cube((1, 1), (7, 5))
    finer = np.diag([0.3, 0.5, 1.1, 1.0])
    finer[:3, 3] = 0.17, -0.23, 0.31
    prediction = np.kron(random.integers(0, 3, (6, 5, 4)), np.ones((4, 4, 3))).astype(np.uint8)
    predicted = write(tmp_path / "predictions" / "a.nii", prediction, finer)
    reference = write(tmp_path / "labels" / "a.nii", labels)
    arguments = [str(predicted), str(reference), "--classes", "x,y"]
    with pytest.raises(UserError, match=r"shape.*--on_mismatch"):
        main(arguments)
    assert main([*arguments, "--on_mismatch", "resample"]) == 0
    resampled = sitk.Resample(
        sitk.ReadImage(str(predicted)),
        sitk.ReadImage(str(reference)),
        sitk.Transform(),
        sitk.sitkNearestNeighbor,
    )
    expected = sitk.GetArrayFromImage(resampled).T
    metrics = strict_json(tmp_path / "predictions" / "metrics.json")["cases"][0]["metrics"]
    for value, name in ((1, "x"), (2, "y")):
        assert metrics[name]["dice"] == pytest.approx(binary.dc(expected == value, labels == value))
        num_voxels = np.count_nonzero(expected == value)
        assert metrics[name]["volume_ml"] == pytest.approx(num_voxels * 0.8 / 1000)
    capsys.readouterr()


def test_worst_cases_come_first_with_their_worst_class(capsys):
    cases = [
        {"case": name, "metrics": {"x": record(dice=dice), "y": record(**other)}}
        for name, dice, other in [
            ("good", 0.9, {"dice": 0.8}),
            ("missed", 0.9, {"dice": 0.0, "outcome": "missed"}),
            ("absent", 0.7, {"dice": NAN, "outcome": "absent"}),
            *((f"fine{number}", 1.0, {"dice": 1.0}) for number in range(4)),
        ]
    ]
    summary = summarize(cases, ["x", "y"])
    assert [row["case"] for row in summary["worst"]] == [
        *("missed", "absent", "good", "fine0", "fine1"),
    ]
    missed, absent = summary["worst"][:2]
    assert (missed["dice"], missed["worst_class"], missed["worst_dice"]) == (0.45, "y", 0)
    assert (absent["dice"], absent["worst_class"]) == (0.7, "x")
    print_table(summary)
    output = capsys.readouterr().out
    assert "y 0.0000 (missed)" in output
    assert "95% intervals" in output


def test_a_single_case_has_neither_intervals_nor_a_worst_case(capsys):
    print_table(summarize([{"case": "a", "metrics": {"x": record()}}], ["x"]))
    output = capsys.readouterr().out
    assert "intervals" not in output
    assert "worst" not in output
