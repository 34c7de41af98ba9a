"""Data that train, with a result that may be worthless: the check says so, and training starts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from swin_unet.training.engine import Trainer
from swin_unet.training.signals import Stopped
from tests.e2e.bad_data import (
    FIRST,
    GOOD_ROWS,
    NAMES,
    Bench,
    Call,
    Fault,
    assert_reported,
    decathlon,
    save_nifti,
    set_voxels,
    truncate,
    voxels,
)

IMAGE, LABEL = f"imagesTr/{FIRST}.nii.gz", f"labelsTr/{FIRST}.nii.gz"


def image(change: Callable[[np.ndarray], np.ndarray], **options: Any) -> Callable[[Bench], object]:
    return decathlon(lambda bench: [bench.change_image(change), bench.options(**options)])


def label(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Bench], object]:
    return decathlon(lambda bench: bench.change_label(change))


def set_options(**options: Any) -> Callable[[Bench], object]:
    return decathlon(lambda bench: bench.options(**options))


def store_as(codes: str, *kinds: str) -> Callable[[Bench], object]:
    """Store files of the first case with other axes, the voxels at their places."""

    def change(bench: Bench) -> None:
        for kind in kinds:
            path = bench.root / kind / f"{FIRST}.nii.gz"
            volume = nib.load(path)
            target = axcodes2ornt(tuple(codes))
            nib.save(
                volume.as_reoriented(ornt_transform(io_orientation(volume.affine), target)), path
            )

    return decathlon(change)


def copy_case(bench: Bench, source: str, target: str) -> None:
    for path in (bench.image, bench.label):
        path(target).write_bytes(path(source).read_bytes())


def scale_case(bench: Bench, factor: float) -> None:
    """Change the voxel size of a case."""
    for path in (bench.image(), bench.label()):
        bench.move(path, np.diag([factor, factor, factor, 1]))


def without_organ(bench: Bench, *names: str) -> None:
    for name in names:
        bench.change_label(lambda array: np.minimum(array, 1), name)


def three_classes(bench: Bench) -> None:
    bench.describe(labels={"0": "background", "1": "body", "2": "organ", "3": "rare"})


def swapped_organs(bench: Bench) -> None:
    bench.describe(labels={"0": "background", "1": "gallbladder", "2": "liver"})


def shifted_label(bench: Bench, mode: str) -> None:
    matrix = np.eye(4)
    matrix[0, 3] = 3
    bench.move(bench.label(), matrix)
    bench.options(on_mismatch=mode)


def patients_by_name(bench: Bench) -> None:
    names = ("pat1_visit1", "pat1_visit2", "pat2_visit1", "pat3_visit1")
    bench.list_cases([{**row, "name": name} for row, name in zip(GOOD_ROWS, names, strict=True)])
    bench.split(train=[names[0], names[2]], val=[names[1]], test=[names[3]])


def damaged_unlabelled(bench: Bench) -> None:
    save_nifti(bench.root / "more" / "x.nii.gz", voxels("x")[0])
    truncate(bench.root / "more" / "x.nii.gz")
    bench.list_cases([*GOOD_ROWS, {"image": "more/x.nii.gz"}])


def stretched(bench: Bench) -> None:
    bench.change_image(lambda array: array.astype(np.int32) * 100)


def pictures_with_context(bench: Bench) -> None:
    bench.pictures()
    bench.options(context_slices=3)


ROWS = {
    "constant image": Fault(
        image(lambda array: np.full_like(array, 7)), IMAGE, ("all voxels are 7",), "warning"
    ),
    "empty label map": Fault(label(np.zeros_like), LABEL, ("no voxel is labelled",), "warning"),
    "class that no case has": Fault(
        decathlon(three_classes), "", ("none of the label maps (4 readable)", "3 (rare)"), "warning"
    ),
    "class that no training case has": Fault(
        decathlon(lambda bench: without_organ(bench, *NAMES[:2])),
        "",
        ("none of the training label maps (2 readable)", "2 (organ)"),
        "warning",
    ),
    "class that no validation case has": Fault(
        decathlon(lambda bench: without_organ(bench, NAMES[2])),
        "",
        ("none of the validation label maps (1 readable)", "2 (organ)"),
        "info",
    ),
    "classes in another order": Fault(
        decathlon(swapped_organs), "data.classes", ("gallbladder is larger than liver",), "warning"
    ),
    "duplicate within a part": Fault(
        decathlon(lambda bench: copy_case(bench, NAMES[0], NAMES[1])),
        f"{NAMES[1]}.nii.gz",
        (f"the same voxels as {NAMES[0]}",),
        "warning",
    ),
    "values beside the window": Fault(
        image(lambda array: array + 3000),
        IMAGE,
        ("0.0% of the voxels lie in data.window [-150, 250]", "from 1985 to 3135"),
        "warning",
    ),
    "values without the rescale intercept": Fault(
        image(lambda array: array + 1024), IMAGE, ("no value is below -50", "-1024"), "warning"
    ),
    "padding that a window clips": Fault(
        image(set_voxels(-3024, np.int16)), IMAGE, ("below -1024 HU, down to -3024",), "info"
    ),
    "padding that moves the percentiles": Fault(
        image(
            lambda array: np.concatenate([np.full_like(array[:4], -3024), array[4:]]),
            intensity="zscore",
            window=None,
        ),
        IMAGE,
        ("16.", "below -1024 HU", "moves the percentiles"),
        "warning",
    ),
    "scales that no window fits": Fault(
        decathlon(stretched), "", ("differs 100-fold", "one window cannot fit"), "warning"
    ),
    "scales that zscore measures": Fault(
        decathlon(lambda bench: [stretched(bench), bench.options(intensity="zscore", window=None)]),
        "",
        ("differs 100-fold", "measures every volume"),
        "info",
    ),
    "large intensities": Fault(
        image(lambda array: array.astype(np.int32) * 100, intensity="zscore", window=None),
        "",
        ("above 10,000 in 1 of 4 images", f"13,500 in {FIRST}"),
        "info",
    ),
    "mixed orientation": Fault(
        store_as("RAS", "imagesTr", "labelsTr"), "", ("LPS (3), RAS (1)",), "info"
    ),
    "label map with other axes": Fault(
        store_as("LAS", "labelsTr"), LABEL, ("stored as LAS", "LPS", "turned, exactly"), "info"
    ),
    "label map of real numbers": Fault(
        label(lambda array: array.astype(np.float32)), LABEL, ("stored as float32",), "info"
    ),
    "label map to resample": Fault(
        decathlon(lambda bench: shifted_label(bench, "resample")),
        LABEL,
        ("grid of", "origin", "on_mismatch resample"),
        "warning",
    ),
    "label map to move": Fault(
        decathlon(lambda bench: shifted_label(bench, "copy_geometry")),
        LABEL,
        ("grid of", "origin", "on_mismatch copy_geometry"),
        "warning",
    ),
    "unusual spacing": Fault(
        decathlon(lambda bench: scale_case(bench, 4)),
        IMAGE,
        ("6 x 6 x 12 mm", "1.5 x 1.5 x 3 mm"),
        "warning",
    ),
    "slices far smaller than the crop": Fault(
        set_options(fit="crop", image_size=[64, 64]),
        "data.image_size",
        ("4 of 4 images", "20 x 24", "88% of a crop"),
        "warning",
    ),
    "slices somewhat smaller than the crop": Fault(
        set_options(fit="crop", image_size=[24, 24]),
        "data.image_size",
        ("4 of 4 images", "17% of a crop"),
        "info",
    ),
    "slices along the thick axis": Fault(
        set_options(plane="sagittal"), "data.plane", ("3 x 1.5 mm", "data.plane auto"), "warning"
    ),
    "context of single slices": Fault(
        pictures_with_context, f"images/{FIRST}.png", ("no neighbours",), "warning"
    ),
    "pictures without voxel size": Fault(
        lambda bench: bench.pictures(), "", ("4 of 4 images have no voxel size",), "info"
    ),
    "patients by name": Fault(
        decathlon(patients_by_name), "", ("1 of 3 patients", "pat1", "group_pattern"), "warning"
    ),
    "damaged file that no part uses": Fault(
        decathlon(damaged_unlabelled), "more/x.nii.gz", ("truncated or damaged",), "warning"
    ),
    "cases in no part": Fault(
        decathlon(lambda bench: bench.split(test=[])),
        "",
        (f"1 labelled cases are in no part of the split: {NAMES[3]}",),
        "info",
    ),
    "one validation case": Fault(
        decathlon(lambda bench: None), "", ("best.pt is chosen by 1 of 4 cases",), "info"
    ),
}
# What training cannot see, or does not look at, but what makes its scores worthless or impossible.
GRAVE_ROWS = {
    "duplicate across the split": Fault(
        decathlon(lambda bench: copy_case(bench, NAMES[0], NAMES[3])),
        f"{NAMES[3]}.nii.gz",
        (f"the same voxels as {NAMES[0]}", "which is in `train`, this one in `test`"),
    ),
    "damaged test case": Fault(
        decathlon(lambda bench: truncate(bench.image(NAMES[3]))),
        f"{NAMES[3]}.nii.gz",
        ("truncated or damaged",),
    ),
}
ALL_ROWS = ROWS | GRAVE_ROWS


@pytest.mark.parametrize("fault", ALL_ROWS)
def test_check_reports(call: Call, bench: Bench, fault: str) -> None:
    assert_reported(call, bench, ALL_ROWS[fault])


@pytest.mark.parametrize("fault", ALL_ROWS)
def test_train_gets_to_the_first_epoch(
    call: Call, bench: Bench, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that can be refused is refused before; the epochs themselves would take a while."""
    started = []

    def stop_at_once(trainer: Trainer) -> NoReturn:
        started.append(trainer)
        raise Stopped("stopped by the test", 0)

    monkeypatch.setattr(Trainer, "train", stop_at_once)
    ALL_ROWS[fault].make(bench)
    outcome = call("train", *bench.arguments())
    assert outcome.code == 0, outcome.stderr
    assert len(started) == 1


@pytest.mark.parametrize("fault", ["constant image", "empty label map"])
def test_train_comes_to_an_end(call: Call, bench: Bench, fault: str) -> None:
    ROWS[fault].make(bench)
    assert call("train", *bench.arguments()).code == 0
    assert (bench.output / "best.pt").is_file()


def test_good_data_have_no_problems(call: Call, bench: Bench) -> None:
    """What is said of them: one validation case is few, and nothing tells the patients apart."""
    bench.decathlon()
    outcome = call("datasets.check", *bench.arguments("--jobs", "1"))
    assert outcome.code == 0
    assert "0 errors, 0 warnings, 2 remarks. Training can start." in outcome.stdout
    assert {item["kind"] for item in bench.report()["problems"]} == {
        "few validation cases",
        "note",
    }
