"""What is stored, decoded again by others: Pillow for the pictures, zlib for the labels."""

from __future__ import annotations

import base64
import io
import itertools
import zlib

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform
from PIL import Image

from swin_unet.imaging import Volume
from swin_unet.report.cases import Shown, describe_case
from swin_unet.report.encoding import (
    Stack,
    encode,
    intensity_table,
    looks_like_hu,
    reduce_image,
    reduce_labels,
)

CODES = [
    "".join(codes)
    for order in itertools.permutations(("RL", "AP", "SI"))
    for codes in itertools.product(*order)
]


def smooth_ct(shape: tuple[int, int, int]) -> np.ndarray:
    """Something like a body: air outside, tissue inside, a bright centre."""
    grids = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    radius = np.sqrt(sum(grid**2 for grid in grids))
    return np.select([radius < 0.2, radius < 0.8], [700, 40 + 60 * grids[0]], -1000).astype(
        np.int16
    )


def decode(encoded: dict) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return codes and label maps (S, H, W) of an encoded case."""
    depth, height, width = encoded["size"]
    rows, count = encoded["sprite_rows"], encoded["slices_per_sprite"]
    slices = []
    for text in encoded["sprites"]:
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB"))
        assert picture.shape[1] == width
        slices += [picture[i * rows : i * rows + height, :, 0] for i in range(count)]
    dtypes = [{1: np.uint8, 2: "<u2"}[size] for size in encoded["label_bytes"]]
    labels = [
        np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype).reshape(depth, height, width)
        for text, dtype in zip(encoded["labels"], dtypes, strict=True)
    ]
    return np.stack(slices[:depth]), labels


def test_pictures_come_back_nearly_and_labels_exactly() -> None:
    image = smooth_ct((90, 75, 40))
    labels = (image > 0).astype(np.uint8) * 7
    wide = labels.astype(np.uint16) * 1000
    table, is_hu = intensity_table(image)
    assert is_hu
    encoded = encode(Stack(image, (labels, wide), (1.0, 1.0, 2.0)), table, 10_000_000)
    assert (encoded["factors"], encoded["size"]) == ([1, 1, 1], [40, 90, 75])
    codes, (first, second) = decode(encoded)
    np.testing.assert_array_equal(first, np.moveaxis(labels, 2, 0))
    np.testing.assert_array_equal(second, np.moveaxis(wide, 2, 0))
    soft = np.abs(np.moveaxis(image, 2, 0)) < 150
    errors = np.abs(table[codes] - np.moveaxis(image, 2, 0))[soft]
    assert errors.mean() < 6  # HU
    assert np.percentile(errors, 99) < 30


@pytest.mark.parametrize("budget", [80_000, 25_000, 8_000])
def test_a_case_is_reduced_until_it_fits(budget: int) -> None:
    generator = np.random.default_rng(0)
    image = smooth_ct((96, 96, 60)) + generator.normal(0, 30, (96, 96, 60)).astype(np.int16)
    labels = (image > 300).astype(np.uint8)
    table, _ = intensity_table(image)
    encoded = encode(Stack(image, (labels,), (0.8, 0.8, 2.5)), table, budget)
    assert encoded["bytes"] <= budget
    assert encoded["bytes"] == sum(map(len, [*encoded["sprites"], *encoded["labels"]]))
    assert max(encoded["factors"]) > 1
    slices, rows, columns = encoded["factors"]
    assert rows == columns >= slices  # the finest axes first
    codes, (reduced,) = decode(encoded)
    assert codes.shape == reduced.shape == tuple(encoded["size"])


def test_what_fits_is_not_reduced_and_nothing_is_reduced_away() -> None:
    image = smooth_ct((30, 30, 3))
    stack = Stack(image, (np.zeros(image.shape, np.uint8),), (1.0, 1.0, 5.0))
    table, _ = intensity_table(image)
    assert encode(stack, table, 1_000_000)["factors"] == [1, 1, 1]
    assert encode(stack, table, 1)["size"] == [3, 30, 30]


def test_reduction_is_the_mean_of_blocks_and_their_central_label() -> None:
    image = np.arange(7 * 6 * 5, dtype=np.float64).reshape(7, 6, 5)
    table = np.arange(256.0)
    codes = reduce_image(image, table, (2, 3, 2))
    assert codes.shape == (2, 3, 2)
    assert codes[1, 2, 0] == round(image[4:6, 0:3, 2:4].mean())
    labels = image.astype(np.uint8)
    reduced = reduce_labels(labels, (2, 3, 2))
    assert reduced.shape == codes.shape
    assert reduced[1, 2, 0] == labels[5, 1, 3]


@pytest.mark.parametrize(
    ("voxels", "expected"),
    [
        (smooth_ct((20, 20, 20)), True),
        (np.where(smooth_ct((20, 20, 20)) == -1000, -3024, 50), False),  # mostly padding
        (smooth_ct((20, 20, 20)) + 1000, False),
        (np.random.default_rng(0).normal(200, 300, (20, 20, 20)), False),
        (np.zeros((4, 4, 4)), False),
    ],
    ids=["ct", "padding", "no air", "mr", "constant"],
)
def test_hounsfield_units_are_recognised(voxels: np.ndarray, expected: bool) -> None:
    assert looks_like_hu(voxels) is expected


@pytest.mark.parametrize("value", [0.0, -5.0, 1.7e9])
def test_a_constant_image_has_a_table(value: float) -> None:
    table, is_hu = intensity_table(np.full((5, 5, 5), value, np.float32))
    assert not is_hu
    assert np.isfinite(table).all()
    assert (np.diff(table) >= 0).all()
    np.testing.assert_allclose(table, value, atol=1e-6)


@given(codes=st.sampled_from(CODES), seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_orientation_and_voxel_indices_are_those_of_nibabel(codes: str, seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 200, (3, 4, 5)).astype(np.uint8)
    affine = inv_ornt_aff(
        ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(tuple(codes))), (1, 1, 1)
    )
    affine = affine @ np.diag([1.5, 2.0, 2.5, 1])
    image = generator.normal(0, 1, labels.shape)
    volume = Volume(image, affine)
    case = describe_case(volume, [Volume(labels, affine)], Shown({}), 1_000_000)
    _, (stored,) = decode(case)
    canonical = nib.as_closest_canonical(nib.Nifti1Image(labels, affine))
    expected = np.asarray(canonical.dataobj)[::-1, ::-1].T  # slices up, rows back, columns left
    np.testing.assert_array_equal(stored, expected)
    zooms = np.array(canonical.header.get_zooms())
    np.testing.assert_allclose(case["spacing_mm"], zooms[[2, 1, 0]], rtol=1e-6)
    for voxel in np.ndindex(stored.shape):
        index = [0, 0, 0]
        for place, axis in enumerate(case["file_axes"]):
            last = case["full_size"][place] - 1
            index[axis["axis"]] = last - voxel[place] if axis["reversed"] else voxel[place]
        assert stored[voxel] == labels[tuple(index)]


def test_volumes_are_counted_at_full_resolution() -> None:
    generator = np.random.default_rng(0)
    prediction, reference = generator.integers(0, 4, (2, 30, 40, 50)).astype(np.uint16)
    reference[0, 0, 0] = 300
    affine = np.diag([2.0, 1.0, 0.5, 1])
    case = describe_case(
        Volume(prediction.astype(np.float32), affine),
        [Volume(prediction, affine), Volume(reference, affine)],
        Shown({1: "one", 2: "two", 9: "nine"}),
        2_000,
    )
    assert max(case["factors"]) > 1
    found = {item["value"]: item for item in case["volumes"]}
    assert list(found) == [1, 2, 3, 9, 300]
    assert [item["name"] for item in found.values()] == ["one", "two", "3", "nine", "300"]
    for value, item in found.items():
        p, r = prediction == value, reference == value
        assert item["voxels"] == [p.sum(), r.sum(), (p & r).sum()]
        assert item["voxel_ml"] == pytest.approx(0.001)
