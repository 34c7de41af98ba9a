"""What train.py says and keeps about the data."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml

from datasets.abdomen import CLASSES
from datasets.phantom_ct import make_case


@pytest.mark.parametrize("name", ["synapse", "acdc", "folder", "decathlon"])
@pytest.mark.parametrize("root", [None, "nowhere"])
def test_without_data_three_lines_say_what_to_do(call, tmp_path, name, root) -> None:
    place = [] if root is None else ["--data.root", tmp_path / root]
    outcome = call("train", "--data.name", name, *place, "--output_dir", tmp_path / "run")
    assert outcome.code == 2
    first, *lines = outcome.stderr.splitlines()
    assert first.startswith("error: data.root:" if root is None else "error: ")
    assert [line.split(":")[0].strip() for line in lines] == [
        "the data",
        "the layout",
        "a stand-in",
    ]
    assert "python -m datasets.phantom DIR --layout" in lines[2]
    assert list(tmp_path.iterdir()) == []


def test_the_log_shows_pairs_split_and_plane(call, config: Path, tmp_path: Path) -> None:
    outcome = call(
        "train", "--config", config, "--output_dir", tmp_path / "run", "--train.epochs", "1",
        "--data.plane", "auto", "--data.folds", "2", "--data.fold", "1",
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    log = (tmp_path / "run" / "log.txt").read_text()
    for text in (
        "imagesTr/phantom_001.nii.gz  labelsTr/phantom_001.nii.gz",
        "5 cases, 5 with labels, in ",
        "nothing says which cases are of one patient",
        "split: fold 1 of 2 drawn by seed 3, test cases drawn by seed 3 aside",
        "data.plane auto: axial, by the spacing of the training cases",
    ):
        assert text in log
    split = json.loads((tmp_path / "run" / "split.json").read_text())
    assert (split["seed"], split["folds"], split["fold"]) == (3, 2, 1)
    assert [len(split[part]) for part in ("train", "val", "test")] == [2, 2, 1]


def test_a_run_goes_on_with_its_own_split_or_not_at_all(place, call) -> None:
    arguments = place.resume("--train.epochs", "5")
    path = place.output / "split.json"
    content = json.loads(path.read_text())
    content["train"], content["test"] = content["train"][1:], content["train"][:1]
    path.write_text(json.dumps(content))
    call("train", *arguments).assert_refused("split.json", "edited by hand", "Remove the line")


def test_labels_in_another_order_are_warned_of(call, config: Path, tmp_path: Path) -> None:
    for number in range(1, 4):
        image, label = make_case(7, number, (64, 64, 24))
        values = np.asarray(label.dataobj)
        swapped = np.where(values == 1, 7, np.where(values == 7, 1, values)).astype(np.uint8)
        label = nib.Nifti1Image(swapped, label.affine)  # spleen and aorta exchanged
        for folder, volume in (("images", image), ("labels", label)):
            (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
            nib.save(volume, tmp_path / "data" / folder / f"p{number}.nii.gz")
    content = yaml.safe_load(config.read_text())
    content["data"] |= {"name": "folder", "root": str(tmp_path / "data"), "classes": list(CLASSES)}
    (tmp_path / "folder.yaml").write_text(yaml.safe_dump(content))
    outcome = call(
        "train", "--config", tmp_path / "folder.yaml", "--output_dir", tmp_path / "run",
        "--train.epochs", "1",
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "warning: the label values contradict data.classes" in log
    assert "aorta has a larger cross-section than spleen" in log
