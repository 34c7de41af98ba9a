"""Fingerprints against numbers computed otherwise, and what is suggested from them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.cases import Case, Dataset, Split
from datasets.check import check
from datasets.examination import examine
from datasets.facts import voxel_digest
from datasets.fingerprint import fingerprint, format_fingerprint, sideways
from datasets.suggestions import class_weights, format_suggestions, suggest
from datasets.survey import Survey
from swin_unet.cli import build_parser, parse_config
from swin_unet.config import Config, DataConfig, ModelConfig
from swin_unet.imaging import Volume
from swin_unet.imaging.orientation import reorient_array

CODES = ("RAS", "LPS", "PSR", "AIL", "SPL")
NAMES = ("a", "b", "c", "d", "e")


def write_case(folder: Path, name: str, image: np.ndarray, label: np.ndarray, affine: Any) -> Case:
    paths = [folder / f"{name}_{kind}.nii.gz" for kind in ("image", "label")]
    for path, array in zip(paths, (image, label), strict=True):
        nib.save(nib.Nifti1Image(array, affine), path)
    return Case(name, (paths[0],), (paths[1],))


def affine_of(codes: str, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """Return an affine whose voxel axes have these directions and, in turn, these sizes."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, code in enumerate(codes):
        world, sign = {c: (i, s) for i, pair in enumerate(("LR", "PA", "IS"))
                       for c, s in zip(pair, (-1, 1), strict=True)}[code]  # fmt: skip
        affine[world, axis] = sign * spacing_mm[axis]
    return affine


@pytest.fixture
def survey(tmp_path: Path) -> Survey:
    """Five small cases of different axes, spacings and sizes, of which the first three train."""
    random = np.random.default_rng(0)
    cases = []
    for name, codes in zip(NAMES, CODES, strict=True):
        shape = tuple(random.integers(6, 14, 3))
        spacing_mm = tuple(random.uniform(0.5, 4, 3))
        image = random.integers(-1000, 500, shape).astype(np.int16)
        label = random.choice(4, shape, p=[0.9, 0.06, 0.04, 0]).astype(np.uint8)
        cases.append(write_case(tmp_path, name, image, label, affine_of(codes, spacing_mm)))
    return survey_of(cases, Split(("a", "b", "c"), ("d",), ("e",)))


def survey_of(cases: list[Case], split: Split | None, **options: Any) -> Survey:
    dataset = Dataset(tuple(cases), {1: "liver", 2: "left_kidney", 3: "right_kidney"}, ("CT",))
    found = {case.name: examine(case, dataset) for case in cases}
    return Survey(DataConfig(**options), "axial", dataset, split, found)


def canonical(case: Case) -> tuple[Any, np.ndarray, np.ndarray]:
    """Read a case by nibabel with axes to the right, anterior and superior."""
    image, label = (
        nib.as_closest_canonical(nib.load(path)) for path in (*case.images, *case.labels)
    )
    return image.header, np.asarray(image.dataobj), np.asarray(label.dataobj)


def test_sizes_and_spacings_are_those_of_upright_slices(survey: Survey) -> None:
    content = fingerprint(survey)
    headers = [canonical(case)[0] for case in survey.dataset.cases[:3]]
    for axis, index in {"columns": 0, "rows": 1, "slices": 2}.items():
        sizes = [header.get_data_shape()[index] for header in headers]
        spacings = [header.get_zooms()[index] for header in headers]
        for key, values in (("size", sizes), ("spacing_mm", spacings)):
            expected = [np.median(values), min(values), max(values)]
            assert list(content[key][axis].values()) == pytest.approx(expected)
    assert content["cases"] == 3
    assert content["orientations"] == {"RAS": 1, "LPS": 1, "PSR": 1}


def test_classes_are_counted(survey: Survey) -> None:
    content = fingerprint(survey)
    cases = [canonical(case) for case in survey.dataset.cases[:3]]
    total = sum(label.size for _, _, label in cases)
    for value, name in enumerate(("background", "liver", "left_kidney", "right_kidney")):
        found = content["classes"][name]
        masks = [label == value for _, _, label in cases]
        assert found["voxels"] == sum(mask.sum() for mask in masks)
        assert found["share"] == pytest.approx(found["voxels"] / total)
        assert found["slices"] == sum(mask.any(axis=(0, 1)).sum() for mask in masks)
        assert found["cases"] == sum(mask.any() for mask in masks)
        millilitres = [
            mask.sum() * np.prod(header.get_zooms()) / 1000
            for mask, (header, _, _) in zip(masks, cases, strict=True)
        ]
        if value == 3:
            assert found["volume_ml"] is None
        else:
            expected = [np.median(millilitres), min(millilitres), max(millilitres)]
            assert list(found["volume_ml"].values()) == pytest.approx(expected)
    labelled = sum((label > 0).any(axis=(0, 1)).sum() for _, _, label in cases)
    slices = sum(label.shape[2] for _, _, label in cases)
    assert content["slices"] == {"total": slices, "with_foreground": labelled}


def test_small_volumes_give_exact_percentiles(survey: Survey) -> None:
    found = fingerprint(survey)["intensity"]["CT"]
    cases = [canonical(case) for case in survey.dataset.cases[:3]]
    whole = np.concatenate([image.ravel() for _, image, _ in cases])
    labelled = np.concatenate([image[label > 0] for _, image, label in cases])
    for part, voxels in (("whole", whole), ("foreground", labelled)):
        expected = np.percentile(voxels, [float(key) for key in found[part]])
        assert list(found[part].values()) == pytest.approx(expected.tolist())


def test_large_volumes_are_sampled(tmp_path: Path) -> None:
    """Ten thousand of 216,000 voxels give the percentiles to half a hundredth of the range."""
    values = np.random.default_rng(1).permutation(60**3).reshape(60, 60, 60).astype(np.int32)
    label = (values % 3 == 0).astype(np.uint8)
    survey = survey_of([write_case(tmp_path, "a", values, label, np.eye(4))], None)
    for part in fingerprint(survey)["intensity"]["CT"].values():
        expected = np.array([float(key) for key in part]) / 100
        np.testing.assert_allclose(np.array(list(part.values())) / 60**3, expected, atol=0.02)


def test_test_cases_do_not_count(survey: Survey) -> None:
    """What is chosen by a fingerprint must not have seen a test case."""
    kept = {name: survey.examinations[name] for name in ("a", "b", "c")}
    assert survey.split is not None
    split = replace(survey.split, val=(), test=())
    dataset = replace(survey.dataset, cases=survey.dataset.cases[:3])
    other = replace(survey, examinations=kept, split=split, dataset=dataset)
    assert fingerprint(other) == fingerprint(survey)
    assert suggest(other, Config()) == suggest(survey, Config())


def test_sides_are_the_patients(tmp_path: Path) -> None:
    """A label right of the middle is found there however the file is stored."""
    for codes in CODES:
        label = np.zeros((20, 10, 8), np.uint8)
        label[14:18] = 1  # to the right in RAS
        label[2:4] = 2
        turned = reorient_array(label, "RAS", codes)
        case = write_case(
            tmp_path, codes, turned.astype(np.int16), turned, affine_of(codes, (1,) * 3)
        )
        sides = sideways(survey_of([case], None))
        assert sides == pytest.approx({"liver": 16 / 20 - 0.5, "left_kidney": 3 / 20 - 0.5})


@settings(max_examples=20)
@given(st.lists(st.integers(0, 10**9), min_size=2, max_size=15).filter(any))
def test_class_weights_are_inverse_shares(voxels: list[int]) -> None:
    content = {
        "classes": {str(i): {"share": count / sum(voxels)} for i, count in enumerate(voxels)}
    }
    weights = class_weights(content)
    known = [(w, v) for w, v in zip(weights.values(), voxels, strict=True) if w is not None]
    assert len(known) == np.count_nonzero(voxels)
    assert np.mean([weight for weight, _ in known]) == pytest.approx(1)
    assert [w * v for w, v in known] == pytest.approx([known[0][0] * known[0][1]] * len(known))


@settings(max_examples=25)
@given(
    st.permutations(["LR", "PA", "IS"]).flatmap(
        lambda pairs: st.tuples(*map(st.sampled_from, pairs))
    ),
    st.sampled_from([np.int16, np.uint8, np.float32, np.float64, np.int32]),
)
def test_a_digest_knows_voxels_and_places_only(codes: tuple[str, ...], dtype: type) -> None:
    voxels = np.random.default_rng(2).integers(0, 200, (4, 5, 6)).astype(np.int16)
    original = Volume(voxels, affine_of("RAS", (1, 1, 1)))
    stored = reorient_array(voxels, "RAS", "".join(codes)).astype(dtype)
    copy = Volume(stored, affine_of("".join(codes), (1, 1, 1)))
    assert voxel_digest(copy) == voxel_digest(original)
    stored = stored.copy()
    stored[0, 0, 0] += 1
    assert voxel_digest(replace(copy, array=stored)) != voxel_digest(original)


def anatomy(tmp_path: Path, voxel_mm: tuple[float, float, float], **changes: Any) -> Survey:
    """Make one case of 40 x 48 x 10 voxels, RAS: a liver on the right and two kidneys."""
    label = np.zeros((40, 48, 10), np.uint8)
    label[26:36, 20:30, 2:4] = 1
    label[8:12, 8:12, 2:4] = 2
    label[28:32, 8:12, 2:4] = 3
    if changes.pop("central", False):
        label[label == 1] = 0
    air, tissue = changes.pop("values", (-1000, 60))
    image = np.where(label > 0, tissue, air).astype(np.int16)
    image[20, 24, 5] = 300
    case = write_case(tmp_path, "a", image, label, np.diag([*voxel_mm, 1]))
    return survey_of([case], None, **changes)


def suggested(survey: Survey, **sections: Any) -> dict[str, Any]:
    suggestions = suggest(survey, Config(data=survey.config, **sections))
    return {item.option: item.value for item in suggestions.options}


@pytest.mark.parametrize(
    ("voxel_mm", "changes", "expected"),
    [
        ((1, 1, 5), {}, {"intensity": "window", "window": [60, 65], "plane": "axial"}),
        ((1, 1, 5), {"values": (0, 900)}, {"intensity": "zscore"}),
        ((5, 1, 1), {}, {"plane": "sagittal"}),
        ((1, 5, 1), {}, {"plane": "coronal"}),
        ((1, 1, 1), {}, {"plane": "axial", "context_slices": 3}),
        ((1, 1, 5), {}, {"context_slices": 1, "foreground_fraction": 0.33}),
        ((1, 1, 2), {}, {"context_slices": 3, "image_size": [64, 64]}),
        ((1, 1, 2), {"fit": "crop", "spacing_mm": (0.5, 0.5)}, {"image_size": [96, 96]}),
    ],
)
def test_options_follow_the_data(
    tmp_path: Path, voxel_mm: Any, changes: Any, expected: dict[str, Any]
) -> None:
    found = suggested(anatomy(tmp_path, voxel_mm, **changes))
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("side", "model", "expected"),
    [
        (512, ModelConfig(), 224),  # the paper's size: whole windows of seven at stride 32
        (512, ModelConfig(window_size=8), 256),
        (300, ModelConfig(name="basic_unet"), 256),
        (100, ModelConfig(), 128),
        (100, ModelConfig(patch_size=2, depths=[2, 2, 2], window_size=8), 104),
        (3, ModelConfig(), 32),
    ],
)
def test_image_sizes_suit_the_network(
    tmp_path: Path, side: int, model: ModelConfig, expected: int
) -> None:
    array = np.zeros((side, side, 2), np.uint8)
    array[0] = 1
    survey = survey_of([write_case(tmp_path, "a", array, array, np.eye(4))], None)
    assert suggested(survey, model=model)["image_size"] == [expected, expected]


def test_flips_are_advised_where_nothing_lies_to_one_side(tmp_path: Path) -> None:
    (note,) = suggest(anatomy(tmp_path, (1, 1, 5)), Config()).notes
    assert "without left_right" in note
    assert "liver on the right" in note
    assert "kidney" not in note
    (note,) = suggest(anatomy(tmp_path, (1, 1, 5), central=True), Config()).notes
    assert "[left_right]" in note
    assert "exchanges left_kidney and right_kidney" in note


def test_suggestions_can_be_pasted(tmp_path: Path) -> None:
    survey = anatomy(tmp_path, (1, 1, 5))
    suggestions = suggest(survey, Config(data=survey.config))
    path = tmp_path / "pasted.yaml"
    path.write_text(format_suggestions(suggestions))
    config, _ = parse_config(build_parser("x", "x"), ["--config", str(path)])
    for item in suggestions.options:
        assert json.loads(json.dumps(getattr(config.data, item.option))) == item.value
    assert set(yaml.safe_load(path.read_text())) == {"data"}


def test_a_data_set_without_labels_has_a_fingerprint(survey: Survey) -> None:
    cases = tuple(replace(case, labels=()) for case in survey.dataset.cases)
    dataset = replace(survey.dataset, cases=cases)
    found = {case.name: examine(case, dataset) for case in cases}
    bare = replace(survey, dataset=dataset, examinations=found, split=None)
    assert fingerprint(bare)["cases"] == 0
    assert format_fingerprint(fingerprint(bare)).startswith("Fingerprint of 0 training cases")
    assert suggest(bare, Config()).options == ()


def test_the_tables_show_the_numbers(survey: Survey) -> None:
    content = fingerprint(survey)
    text = format_fingerprint(content)
    rows = {line.split("  ")[0].strip(): line.split() for line in text.splitlines() if line}
    assert rows["slices"][1:] == [f"{value:g}" for value in content["size"]["slices"].values()]
    assert f"{content['classes']['liver']['share']:.3%}" in rows["liver"]
    assert str(content["classes"]["liver"]["slices"]) in rows["liver"]


def test_a_check_has_the_fingerprint_in_its_report(tmp_path: Path) -> None:
    config = Config(data=DataConfig(root=tmp_path / "nowhere"))
    assert check(config, jobs=1).survey is None
