import json
import os
from pathlib import Path
from typing import Any

import pytest

from datasets import DATASETS, Dataset, build_dataset, load_case
from swin_unet.config import DataConfig, UserError

MSD: dict[str, Any] = {
    "modality": {"0": "CT"},
    "labels": {"0": "background", "1": "liver", "2": "spleen"},
    "training": [
        {"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"}
        for name in ("b", "a")
    ],
}
NNUNET: dict[str, Any] = {
    "channel_names": {"0": "T1", "1": "T2"},
    "labels": {"background": 0, "liver": 1, "spleen": 2},
    "file_ending": ".nii.gz",
    "numTraining": 2,
}


def read(root: Path) -> Dataset:
    return build_dataset(DataConfig(root=root))


def make_folder(root: Path, content: dict[str, Any], suffixes: tuple[str, ...]) -> Path:
    """Lay out two cases with empty files."""
    ending = content.get("file_ending", ".nii.gz")
    for name in ("a", "b"):
        for suffix in suffixes:
            _touch(root / "imagesTr" / f"{name}{suffix}{ending}")
        _touch(root / "labelsTr" / f"{name}{ending}")
    (root / "dataset.json").write_text(json.dumps(content))
    return root


def _touch(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.touch()


def msd(root: Path, **changes: Any) -> Path:
    return make_folder(root, MSD | changes, ("",))


def nnunet(root: Path, **changes: Any) -> Path:
    return make_folder(root, NNUNET | changes, ("_0000", "_0001"))


def assert_refused(root: Path, subject: Path, *parts: str) -> None:
    with pytest.raises(UserError) as caught:
        read(root)
    assert str(caught.value).startswith(f"{subject}: expected ")
    for part in parts:
        assert part in str(caught.value)


def test_msd(tmp_path: Path) -> None:
    dataset = read(msd(tmp_path))
    assert dataset.classes == {1: "liver", 2: "spleen"}
    assert dataset.channels == ("CT",)
    assert (dataset.num_classes, dataset.num_channels) == (3, 1)
    assert [case.name for case in dataset.cases] == ["a", "b"]
    assert dataset.cases[0].images == (tmp_path / "imagesTr" / "a.nii.gz",)
    assert dataset.cases[0].labels == (tmp_path / "labelsTr" / "a.nii.gz",)


def test_nnunet(tmp_path: Path) -> None:
    _touch(tmp_path / "imagesTr" / "._a_0000.nii.gz")  # what a Mac leaves in archives
    dataset = read(nnunet(tmp_path))
    assert dataset.classes == {1: "liver", 2: "spleen"}
    assert dataset.channels == ("T1", "T2")
    assert [case.name for case in dataset.cases] == ["a", "b"]
    images = tmp_path / "imagesTr"
    assert dataset.cases[1].images == (images / "b_0000.nii.gz", images / "b_0001.nii.gz")


def test_msd_with_channel_files_as_nnunets_first_version(tmp_path: Path) -> None:
    content = MSD | {"modality": {"0": "T1", "1": "T2"}}
    dataset = read(make_folder(tmp_path, content, ("_0000", "_0001")))
    assert [path.name for path in dataset.cases[0].images] == ["a_0000.nii.gz", "a_0001.nii.gz"]


def test_more_than_ten_channels_stay_in_order(tmp_path: Path) -> None:
    names = {str(index): f"echo{index}" for index in range(12)}
    dataset = read(msd(tmp_path, modality=names))
    assert dataset.channels == tuple(names.values())


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    path = msd(tmp_path) / "dataset.json"
    path.write_text(path.read_text(), encoding="utf-8-sig")
    assert len(read(tmp_path).cases) == 2


def test_a_missing_root_is_named(tmp_path: Path) -> None:
    assert_refused(
        tmp_path / "x", tmp_path / "x", "a data set folder", "nothing there", "--data.root DIR"
    )


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    assert_refused(tmp_path, tmp_path, "a data set", "an empty folder", "--data.root")


def test_a_folder_without_dataset_json_is_named(tmp_path: Path) -> None:
    _touch(tmp_path / "other.txt")
    assert_refused(tmp_path, tmp_path, "a dataset.json", "none in the folder", "--data.root")


@pytest.mark.parametrize("text", ["", "{", '{"labels": }', "[1]", b"\xff\xfe{"])
def test_invalid_json_is_refused(tmp_path: Path, text: str | bytes) -> None:
    path = tmp_path / "dataset.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert_refused(tmp_path, path, "JSON")


@pytest.mark.parametrize("key", ["modality", "labels", "training"])
def test_missing_keys_are_listed(tmp_path: Path, key: str) -> None:
    path = msd(tmp_path) / "dataset.json"
    path.write_text(json.dumps({name: MSD[name] for name in MSD if name != key}))
    assert_refused(tmp_path, path, "modality, labels, training", f"found no {key}", "Add them")


@pytest.mark.parametrize(
    "labels",
    [
        {"0": "background", "2": "liver"},
        {"1": "liver", "2": "spleen"},
        {"0": "background"},
        {"0": "background", "1": "liver", "2": "liver"},
        {"background": 0, "liver": 2},
        {"background": 0, "liver": 1, "spleen": 1},
        {"background": 0, "abdomen": [1, 2], "liver": 1},
        {"background": 0, "liver": 1, "ignore": 2},
        {"background": 0, "liver": "one"},
        ["background", "liver"],
        {},
        None,
    ],
)
def test_labels_that_are_no_list_of_classes_are_refused(tmp_path: Path, labels: Any) -> None:
    msd(tmp_path, labels=labels)
    assert_refused(tmp_path, tmp_path / "dataset.json", "labels", f"found {labels}")


@pytest.mark.parametrize("channels", [{}, {"1": "CT"}, {"CT": 0}, ["CT"], "CT"])
def test_channels_are_numbered(tmp_path: Path, channels: Any) -> None:
    msd(tmp_path, modality=channels)
    assert_refused(tmp_path, tmp_path / "dataset.json", "channels numbered", f"found {channels}")


@pytest.mark.parametrize("training", [["a.nii.gz"], [{"image": "a.nii.gz"}], {"a": 1}, None])
def test_training_entries_need_image_and_label(tmp_path: Path, training: Any) -> None:
    msd(tmp_path, training=training)
    assert_refused(tmp_path, tmp_path / "dataset.json", "entries with image and label", "Write")


@pytest.mark.parametrize("make", [msd, nnunet])
def test_a_missing_label_is_named(tmp_path: Path, make: Any) -> None:
    path = make(tmp_path) / "labelsTr" / "a.nii.gz"
    path.unlink()
    assert_refused(tmp_path, path, "nothing there", "Restore it")


@pytest.mark.parametrize(("make", "name"), [(msd, "a.nii.gz"), (nnunet, "a_0001.nii.gz")])
def test_a_missing_image_is_named(tmp_path: Path, make: Any, name: str) -> None:
    path = make(tmp_path) / "imagesTr" / name
    path.unlink()
    assert_refused(tmp_path, path, "nothing there", "Restore it")


def test_a_label_without_any_image_is_named(tmp_path: Path) -> None:
    _touch(nnunet(tmp_path) / "labelsTr" / "c.nii.gz")
    assert_refused(tmp_path, tmp_path / "imagesTr" / "c_0000.nii.gz", "nothing there")


def test_a_data_set_without_cases_is_refused(tmp_path: Path) -> None:
    msd(tmp_path, training=[])
    assert_refused(tmp_path, tmp_path, "labelled training cases, found none", "Add images")


def test_missing_folders_are_named(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps(NNUNET))
    assert_refused(tmp_path, tmp_path / "imagesTr", "a folder", "nothing there")


def test_a_case_listed_twice_is_refused(tmp_path: Path) -> None:
    msd(tmp_path, training=MSD["training"] * 2)
    assert_refused(tmp_path, tmp_path / "dataset.json", "a, b more than once", "once")


def test_other_file_formats_are_refused(tmp_path: Path) -> None:
    nnunet(tmp_path, file_ending=".bmp")
    assert_refused(tmp_path, tmp_path / "dataset.json", "found '.bmp'", "Convert")


@pytest.mark.parametrize("ending", [".nii", ".nrrd", ".mha", ".png", ".tif", ".TIF"])
def test_nnunets_file_endings(tmp_path: Path, ending: str) -> None:
    dataset = read(nnunet(tmp_path, file_ending=ending))
    assert [case.name for case in dataset.cases] == ["a", "b"]
    images = tmp_path / "imagesTr"
    assert dataset.cases[0].images == (images / f"a_0000{ending}", images / f"a_0001{ending}")
    assert dataset.cases[0].labels == (tmp_path / "labelsTr" / f"a{ending}",)


def test_a_colour_picture_of_nnunet_holds_its_channels(tmp_path: Path) -> None:
    colours = {"0": "R", "1": "G", "2": "B"}
    content = NNUNET | {"channel_names": colours, "file_ending": ".png"}
    dataset = read(make_folder(tmp_path, content, ("_0000",)))
    assert dataset.cases[0].images == (tmp_path / "imagesTr" / "a_0000.png",)
    assert dataset.num_channels == 3


@pytest.mark.parametrize("make", [msd, nnunet])
def test_test_cases_are_unlabelled(tmp_path: Path, make: Any) -> None:
    suffixes = ("",) if make is msd else ("_0000", "_0001")
    root = make(tmp_path, test=["./imagesTs/c.nii.gz", "./imagesTs/d.nii.gz"])
    for suffix in suffixes:
        _touch(root / "imagesTs" / f"c{suffix}.nii.gz")
    dataset = build_dataset(DataConfig(root=root))
    assert [(case.name, len(case.images), len(case.labels)) for case in dataset.cases] == [
        ("a", len(suffixes), 1),
        ("b", len(suffixes), 1),
        ("c", len(suffixes), 0),
    ]
    assert any(
        "without a label map" in note and "1 of 3 cases (c)" in note for note in dataset.notes
    )
    absent = [note for note in dataset.notes if "are not there: 1 (d)" in note]
    assert len(absent) == (make is msd)  # nnU-Net's dataset.json does not list them


def test_a_test_case_with_the_name_of_a_training_case_is_refused(tmp_path: Path) -> None:
    root = msd(tmp_path, test=["./imagesTs/a.nii.gz"])
    assert_refused(root, root / "dataset.json", "a more than once", "once")


def test_build_dataset_reads_the_configured_folder(tmp_path: Path) -> None:
    config = DataConfig(root=msd(tmp_path), classes=["liver", "spleen"])
    assert isinstance(build_dataset(config), Dataset)


def test_build_dataset_needs_a_root() -> None:
    with pytest.raises(UserError, match=r"data\.root: .*Give --data\.root DIR\."):
        build_dataset(DataConfig())


def test_build_dataset_compares_the_classes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the classes \['liver'\].*\['liver', 'spleen'\]"):
        build_dataset(DataConfig(root=msd(tmp_path), classes=["liver"]))


def test_build_dataset_refuses_a_class_called_as_the_mean_of_all(tmp_path: Path) -> None:
    root = msd(tmp_path, labels={"0": "background", "1": "mean", "2": "spleen"})
    with pytest.raises(UserError, match=r"a name of its own for every class.*found mean\."):
        build_dataset(DataConfig(root=root))


def test_build_dataset_knows_its_names(tmp_path: Path) -> None:
    assert "decathlon" in DATASETS
    with pytest.raises(UserError, match=r"data\.name: expected one of .*decathlon"):
        build_dataset(DataConfig(name="other", root=tmp_path))  # type: ignore[arg-type]


@pytest.mark.skipif("SWIN_UNET_DATA" not in os.environ, reason="real data are not part of this")
def test_the_real_hippocampus_data() -> None:
    dataset = read(Path(os.environ["SWIN_UNET_DATA"]) / "msd_hippocampus")
    assert len(dataset.cases) == 208
    assert list(dataset.classes.values()) == ["Anterior", "Posterior"]
    for case in dataset.cases[:20]:
        image, label = load_case(case, dataset)
        assert image.shape == label.shape
        assert set(range(3)) == set(label.array.ravel().tolist())
