"""Every shipped configuration trains and segments, on a stand-in for its data."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import yaml

from datasets.abdomen import CLASSES
from datasets.cifar10 import write_folders, write_stand_in
from datasets.heart import MIN_SIZE as HEART_SIZE
from datasets.heart import make_heart
from datasets.phantom import _PICTURE_OPTIONS, write_phantoms
from datasets.phantom_ct import MIN_SIZE
from datasets.phantom_layouts import LAYOUTS
from swin_unet.cli import build_parser, parse_config
from swin_unet.imaging import read_image, read_labels

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
# A network and pictures so small that an epoch takes a second or two; the rest is as shipped.
SMALL = {
    "model.embed_dim": "24",
    "data.image_size": "[32, 32]",
    "train.epochs": "2",
    "train.batch_size": "16",
    "train.num_workers": "0",
    "train.device": "cpu",
    "train.precision": "fp32",
}


@dataclass(frozen=True)
class StandIn:
    """Data that a configuration can be run on.

    Attributes:
        make: Writes them into a folder.
        images: Where the images are in it.
        labels: Where label maps of the same names are; None: nowhere, or under other names.
        options: What the configuration must be told.
    """

    make: Callable[[Path], None]
    images: str
    labels: str | None = None
    options: tuple[str, ...] = ()


def phantom(layout: str, file_format: str = "nifti", cases: int = 5) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        size = HEART_SIZE if layout == "acdc" else MIN_SIZE
        test_cases = min(1, LAYOUTS[layout].test_cases)
        write_phantoms(root, cases, test_cases, 0, size, layout, file_format)

    return make


def sunnybrook(root: Path) -> None:
    """Write hearts as pictures of the 30 patients, with two labels: cavity and myocardium."""
    split = json.loads((CONFIGS / "splits/sunnybrook.json").read_text())
    to_sunnybrook = np.array([0, 0, 2, 1], np.uint8)  # the right ventricle is not labelled there
    for name in ("images", "labels"):
        (root / name).mkdir(parents=True)
    patients = [patient for part in ("train", "val", "test") for patient in split[part]]
    for number, patient in enumerate(patients):
        image, label = make_heart(0, number, HEART_SIZE).frames[1]
        grey = np.asarray(image.dataobj, np.float32)
        pictures = {
            "images": (255 * grey / grey.max()).astype(np.uint8),
            "labels": to_sunnybrook[np.asarray(label.dataobj)],
        }
        for folder, array in pictures.items():
            for index in (1, 2):  # those with a heart
                picture = SimpleITK.GetImageFromArray(np.ascontiguousarray(array[..., index].T))
                path = root / folder / f"{patient}-IM-0001-{20 * index:04d}.png"
                SimpleITK.WriteImage(picture, str(path))


STAND_INS = {
    "phantom.yaml": {
        "msd": StandIn(phantom("msd"), "imagesTr", "labelsTr"),
        "nnunet": StandIn(phantom("nnunet"), "imagesTr", "labelsTr"),
    },
    "hippocampus.yaml": {"msd": StandIn(phantom("msd"), "imagesTr", "labelsTr")},
    "synapse.yaml": {
        "btcv": StandIn(phantom("btcv"), "RawData/Training/img"),
        "transunet": StandIn(
            phantom("transunet"), "test_vol_h5", "test_vol_h5", ("--data.window", "[0, 1]")
        ),
    },
    "acdc.yaml": {"acdc": StandIn(phantom("acdc", cases=4), "training/*/*_frame??.nii.gz")},
    "folder.yaml": {
        **{
            name: StandIn(phantom("folder", name), "images", "labels")
            for name in ("nifti", "nrrd", "mha", "dicom")
        },
        "png": StandIn(
            phantom("folder", "png"), "images", "labels", ("--data.group_pattern", r"phantom_\d+")
        ),
    },
    "sunnybrook.yaml": {"png": StandIn(sunnybrook, "images", "labels")},
    "sunnybrook_fine.yaml": {"png": StandIn(sunnybrook, "images", "labels")},
}
RUNS = [(config, name) for config, stand_ins in STAND_INS.items() for name in stand_ins]

NO_WIDTH = {key: value for key, value in SMALL.items() if key != "model.embed_dim"}
THIN = {**NO_WIDTH, "model.depths": "[1, 1, 1, 1]"}
STRIPES = StandIn(lambda root: write_stand_in(root, 10), "folders/*", "folders")
SCANS = StandIn(phantom("msd"), "imagesTr", "labelsTr")
# Configurations of other tasks than segmentation, and what makes their networks small.
TASKS = {
    "simmim.yaml": (StandIn(phantom("folder", "nifti"), "images"), SMALL),
    "hippocampus_simmim.yaml": (SCANS, SMALL),
    "organs.yaml": (SCANS, SMALL),
    "organs_localizer.yaml": (SCANS, {**SMALL, "model.depths": "[2]"}),
    "cifar10_swin_tiny.yaml": (STRIPES, SMALL),
    "cifar10_swin_resnet.yaml": (STRIPES, THIN),
    "cifar10_resnet50.yaml": (STRIPES, THIN),
    "cifar10_resnet50_32.yaml": (STRIPES, THIN),
}


def as_flags(options: dict[str, str | Path]) -> list[str | Path]:
    return [part for key, value in options.items() for part in (f"--{key}", value)]


def test_every_shipped_configuration_has_a_stand_in() -> None:
    # The studies below are grids, which test_study.py looks at.
    assert {path.name for path in CONFIGS.glob("*.yaml")} == {*STAND_INS, *TASKS}


@pytest.mark.parametrize(("config", "name"), RUNS, ids=map("-".join, RUNS))
def test_a_shipped_configuration_trains_and_segments(
    call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str, name: str
) -> None:
    monkeypatch.chdir(CONFIGS.parent)  # where commands are run
    stand_in, root, run = STAND_INS[config][name], tmp_path / "data", tmp_path / "run"
    stand_in.make(root)
    places = {"data.root": root, "data.cache_dir": tmp_path / "cache", "output_dir": run}
    flags = as_flags({**SMALL, **places})
    done = call("train", "--config", config, *flags, *stand_in.options)
    assert done.code == 0, done.stderr
    split = json.loads((run / "split.json").read_text())
    assert all(split[part] for part in ("train", "val", "test"))

    inputs = (
        sorted(root.glob(stand_in.images)) if "*" in stand_in.images else [root / stand_in.images]
    )
    labels = [] if stand_in.labels is None else ["--labels", root / stand_in.labels]
    output = tmp_path / "predictions"
    done = call(
        "infer", "--checkpoint", run / "best.pt", "--part", "test", "--input", *inputs,
        "--output", output, *labels,
    )  # fmt: skip
    assert done.code == 0, done.stderr
    written = {path.name.split(".")[0] for path in output.iterdir()}
    assert written - {"run", "metrics"} == set(split["test"])
    classes = yaml.safe_load((run / "config.yaml").read_text())["data"]["classes"]
    check_label_map(root, stand_in, output, split["test"][0], len(classes or CLASSES))
    if labels:
        metrics = json.loads((output / "metrics.json").read_text())
        assert {record["case"] for record in metrics["cases"]} == set(split["test"])


@pytest.mark.parametrize("config", TASKS)
def test_a_shipped_configuration_of_another_task_trains_and_classifies(
    call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str
) -> None:
    monkeypatch.chdir(CONFIGS.parent)
    stand_in, small = TASKS[config]
    root, run = tmp_path / "data", tmp_path / "run"
    stand_in.make(root)
    places = {"data.root": root, "data.cache_dir": tmp_path / "cache", "output_dir": run}
    done = call("train", "--config", config, *as_flags({**small, **places}))
    assert done.code == 0, done.stderr
    split = json.loads((run / "split.json").read_text())
    assert split["train"]
    assert split["val"]
    if config.endswith("simmim.yaml"):
        return
    part = ["--part", "test"]
    if stand_in is STRIPES:
        write_folders(root / "folders", 10)
        part = []
    done = call(
        "infer", "--checkpoint", run / "best.pt", *part, "--input", root / stand_in.images,
        "--labels", root / str(stand_in.labels), "--output", tmp_path / "predictions",
    )  # fmt: skip
    assert done.code == 0, done.stderr
    rows = (tmp_path / "predictions" / "cases.csv").read_text().splitlines()
    assert len(rows) == 1 + (len(split["test"]) if part else 10)


def check_label_map(
    root: Path, stand_in: StandIn, output: Path, case: str, num_classes: int
) -> None:
    """The label map of a case lies on the grid of its image and holds classes only."""
    pattern = stand_in.images if "*" in stand_in.images else f"{stand_in.images}/*"
    (image_path,) = (
        path for path in root.glob(pattern) if re.match(rf"{case}(_0000)?\b", path.name)
    )
    (label_path,) = (path for path in output.iterdir() if path.name.split(".")[0] == case)
    image, label = read_image([image_path]), read_labels(label_path, num_classes + 1)
    assert label.array.shape == image.array.shape[:3]
    np.testing.assert_allclose(label.affine, image.affine, atol=1e-3)


def test_pictures_of_a_patient_stay_together() -> None:
    """The command that the phantom prints for pictures keeps a patient on one side."""
    options = STAND_INS["folder.yaml"]["png"].options
    assert options == tuple(shlex.split(_PICTURE_OPTIONS))


OPTIONAL = re.findall(r"^  # (\w+): ", (CONFIGS / "folder.yaml").read_text(), re.MULTILINE)


@pytest.mark.parametrize("key", OPTIONAL)
def test_what_the_template_leaves_out_can_be_put_in(tmp_path: Path, key: str) -> None:
    text = (CONFIGS / "folder.yaml").read_text()
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace(f"  # {key}: ", f"  {key}: "))
    config, _ = parse_config(build_parser("train.py", ""), ["--config", str(path)])
    assert getattr(config.data, key) is not None


@pytest.mark.parametrize("config", sorted({**STAND_INS, **TASKS}))
def test_the_head_of_a_configuration_is_a_command_that_parses(config: str) -> None:
    """It says how to train with it, and its options exist."""
    head = re.match(r"(#.*\n)+", (CONFIGS / config).read_text(encoding="utf8"))
    assert head is not None
    lines = re.findall(r"# +python train\.py (.*)", head[0].replace("\\\n#", " "))
    assert lines, "no command"
    assert lines[0].startswith(f"--config {config} ")
    for line in lines:  # the others may be of the configuration that comes next
        arguments = shlex.split(re.split(r" {3,}", line)[0])
        parsed, _ = parse_config(build_parser("train.py", ""), arguments)
        assert parsed.data.root == Path(arguments[arguments.index("--data.root") + 1])
