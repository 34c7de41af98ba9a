"""No label out of range ever reaches the loss, whatever the file and whatever happens to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from datasets.augment import AUGMENTATIONS, build_augmentation
from datasets.btcv import ORGANS, label_values
from datasets.cache import build_cache
from datasets.cases import Case, Dataset, load_case
from datasets.slices import SliceDataset
from datasets.transunet import CLASSES
from swin_unet.config import DataConfig, UserError
from swin_unet.imaging import Preprocessing, read_labels
from swin_unet.losses import SegmentationLoss

SHAPE = (6, 5, 4)
NUM_CLASSES = 3
IMAGE = np.arange(120, dtype=np.int16).reshape(SHAPE)
Save = Callable[[Path, np.ndarray], None]


def save_nifti(path: Path, array: np.ndarray) -> None:
    nib.save(nib.Nifti1Image(array, np.eye(4), dtype=array.dtype), path)


def save_scaled_nifti(path: Path, array: np.ndarray) -> None:
    """Store one above the values, which the header's intercept takes off again."""
    image = nib.Nifti1Image(array + np.array(1, array.dtype), np.eye(4))
    image.header.set_slope_inter(1, -1)
    nib.save(image, path)


def save_itk(path: Path, array: np.ndarray) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(np.ascontiguousarray(array.T)), str(path))


def save_picture(path: Path, array: np.ndarray) -> None:
    Image.fromarray(np.ascontiguousarray(array[..., 0].T)).save(path)


def save_npz(path: Path, array: np.ndarray) -> None:
    np.savez(path, image=IMAGE.T, label=array.T)


def save_h5(path: Path, array: np.ndarray) -> None:
    with h5py.File(path, "w") as file:
        file["image"], file["label"] = IMAGE.T, array.T


# Ending, how to write it, and the data types that it can hold.
FORMATS: dict[str, tuple[str, Save, str]] = {
    "NIfTI": (".nii.gz", save_nifti, "uint8 uint16 int16 int32 int64 uint32 float32 float64"),
    "scaled NIfTI": (".nii", save_scaled_nifti, "int16 int32"),
    "NRRD": (".nrrd", save_itk, "uint8 uint16 int16 int32 int64 float32 float64"),
    "MetaImage": (".mha", save_itk, "uint8 uint16 int16 int32 float32 float64"),
    "PNG": (".png", save_picture, "uint8 uint16"),
    "TIFF": (".tif", save_picture, "uint8 uint16 int32 float32"),
    "NumPy": (".npz", save_npz, "uint8 uint16 int8 int16 int64 uint64 float16 float32 float64"),
    "HDF5": (".h5", save_h5, "uint8 uint16 int8 int16 int64 uint64 float32 float64"),
}
# Values that are no class of three; most of them are one in 8 or 16 bits, or when cut off.
WRONG = (3, -1, -255, 0.5, 1.999, np.nan, np.inf, 255, 256, 258, 65536, 65538, 2.0**32 + 1)


def rows() -> list[Any]:
    """List every format with every type that it holds and every value that this type holds."""
    table = []
    for name, (_, _, dtypes) in FORMATS.items():
        for dtype in map(np.dtype, dtypes.split()):
            for value in WRONG:
                if _holds(dtype, value):
                    table.append(pytest.param(name, dtype, value, id=f"{name}-{dtype}-{value:g}"))
    return table


def _holds(dtype: np.dtype[Any], value: float) -> bool:
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            stored = float(dtype.type(value))
        return stored == value or np.isnan(value)
    limits = np.iinfo(dtype)
    return bool(value == np.floor(value)) and limits.min <= value < limits.max


def label_map(dtype: np.dtype[Any], value: float | None = None) -> np.ndarray:
    array = (np.arange(120).reshape(SHAPE) % NUM_CLASSES).astype(dtype)
    if value is not None:
        array[2, 3, 0] = value
    return array


@pytest.mark.parametrize(("name", "dtype", "value"), rows())
def test_a_wrong_value_is_refused_by_name(
    tmp_path: Path, name: str, dtype: np.dtype[Any], value: float
) -> None:
    ending, save, _ = FORMATS[name]
    path = tmp_path / f"label{ending}"
    save(path, label_map(dtype, value))
    with pytest.raises(UserError, match=r"label values|finite") as caught:
        read_labels(path, NUM_CLASSES)
    assert caught.value.subject == str(path)


@pytest.mark.parametrize(
    ("name", "dtype"), [(name, dtype) for name in FORMATS for dtype in FORMATS[name][2].split()]
)
def test_right_values_are_kept(tmp_path: Path, name: str, dtype: str) -> None:
    """Without this a reader that refuses everything would pass."""
    ending, save, _ = FORMATS[name]
    path = tmp_path / f"label{ending}"
    save(path, label_map(np.dtype(dtype)))
    found = read_labels(path, NUM_CLASSES).array
    expected = label_map(np.dtype(dtype))[..., : found.shape[2]]
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("value", [14, 255, 270])
def test_a_value_that_the_mapping_does_not_name_is_refused(tmp_path: Path, value: int) -> None:
    """270 is 14 in 8 bits, and raw BTCV has 13 organs, five of which become background."""
    path = tmp_path / "label.nii.gz"
    save_nifti(path, label_map(np.dtype(np.uint16), value))
    with pytest.raises(UserError, match=f"voxels with {value}") as caught:
        read_labels(path, len(CLASSES) + 1, values=label_values(CLASSES))
    assert caught.value.subject == str(path)


def test_a_mapping_ends_in_the_classes(tmp_path: Path) -> None:
    path = tmp_path / "label.nii.gz"
    save_nifti(path, (np.arange(120).reshape(SHAPE) % 14).astype(np.uint8))
    found = read_labels(path, len(CLASSES) + 1, values=label_values(CLASSES)).array
    names = ["background", *(name if name in CLASSES else "background" for name in ORGANS)]
    expected = [0 if name == "background" else CLASSES.index(name) + 1 for name in names]
    np.testing.assert_array_equal(found, np.array(expected)[np.arange(120).reshape(SHAPE) % 14])


@pytest.mark.parametrize("ending", [".npz", ".h5"])
def test_the_slice_of_a_stack_is_named(tmp_path: Path, ending: str) -> None:
    paths = [tmp_path / f"slice{number}{ending}" for number in range(4)]
    save = {".npz": save_npz, ".h5": save_h5}[ending]
    for number, path in enumerate(paths):
        save(path, label_map(np.dtype(np.uint16), 258 if number == 2 else None)[..., 0])
    with pytest.raises(UserError, match="258") as caught:
        read_labels(paths, NUM_CLASSES, stacked=True)
    assert caught.value.subject == str(paths[2])


def test_slices_of_different_types_stay_labels(tmp_path: Path) -> None:
    paths = [tmp_path / f"slice{number}.npz" for number in range(2)]
    save_npz(paths[0], np.full((6, 5), 7, np.int64))
    save_npz(paths[1], np.full((6, 5), 300, np.float64))
    found = read_labels(paths, 301, stacked=True).array
    assert found.dtype == np.uint16
    assert [found[..., index].max() for index in range(2)] == [7, 300]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    array=hnp.arrays(
        st.sampled_from(["u1", "u2", "i2", "i4", "i8", "f4", "f8"]),
        (2, 3, 2),
        elements=st.one_of(st.integers(0, 3), st.sampled_from([0, 1, 2, 3, 127])),
    ),
    odd=st.sampled_from([None, *WRONG]),
    num_classes=st.sampled_from([2, 3, 4, 200, 300]),
)
def test_any_file_is_refused_or_in_range(
    tmp_path: Path, array: np.ndarray, odd: float | None, num_classes: int
) -> None:
    if odd is not None and _holds(array.dtype, odd):
        array[0, 0, 0] = odd
    path = tmp_path / "label.nii"
    image = nib.Nifti1Image(array, np.eye(4), dtype=array.dtype)
    nib.save(image, path)
    is_right = bool((np.isin(array, np.arange(num_classes))).all())
    try:
        found = read_labels(path, num_classes).array
    except UserError:
        assert not is_right
    else:
        assert is_right
        np.testing.assert_array_equal(found, array)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    """Write a case of 40 x 36 x 6 voxels whose highest label lies at every edge."""
    label = np.zeros((40, 36, 6), np.uint8)
    label[10:30, 10:30] = 1
    label[:3] = label[-3:] = 2
    label[:, :3] = label[:, -3:] = 2
    image = np.random.default_rng(0).normal(size=label.shape).astype(np.float32)
    save_nifti(tmp_path / "image.nii.gz", image)
    save_nifti(tmp_path / "label.nii.gz", label)
    return Case("a", (tmp_path / "image.nii.gz",), (tmp_path / "label.nii.gz",))


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
@pytest.mark.parametrize("fit", ["resize", "crop"])
def test_what_is_done_to_labels_invents_none(
    tmp_path: Path, case: Case, augmentation: Any, fit: Any
) -> None:
    """Resized, cropped beyond the edges, rotated, deformed, flipped: only classes come out."""
    flips = ["left_right", "anterior_posterior"] if augmentation == "default" else None
    options = DataConfig(
        fit=fit,
        image_size=(48, 48),
        augmentation=augmentation,
        flip_axes=flips,  # type: ignore[arg-type]
    )
    classes = {1: "left_half", 2: "right_half"}
    dataset = Dataset((case,), classes, ("MRI",))
    preprocessing = Preprocessing.from_config(options, "axial")
    cached = build_cache([case], dataset, preprocessing, tmp_path / "cache", progress=False)
    slices = SliceDataset(
        cached,
        context_slices=1,
        fit=fit,
        image_size=options.image_size,
        augmentation=build_augmentation(options, "axial", classes),
        seed=0,
    )
    criterion = SegmentationLoss("ce_dice", 0.5, 0.5)
    seen = set()
    for epoch in range(8):
        labels = torch.stack([slices[epoch, index]["label"] for index in range(len(slices))])
        assert labels.dtype == torch.int64
        seen |= set(labels.unique().tolist())
        loss = criterion(torch.zeros(len(slices), 3, *labels.shape[1:]), labels)["loss"]
        assert torch.isfinite(loss)
    assert seen == {0, 1, 2}


@pytest.mark.parametrize("on_mismatch", ["resample", "copy_geometry"])
def test_a_wrong_value_is_refused_on_another_grid_too(
    tmp_path: Path, case: Case, on_mismatch: Any
) -> None:
    label = nib.load(case.labels[0])
    array = np.asarray(label.dataobj).copy()
    array[20, 20, 3] = 3
    affine = np.eye(4)
    affine[0, 3] = 2
    path = tmp_path / "shifted.nii.gz"
    nib.save(nib.Nifti1Image(array, affine), path)
    dataset = Dataset((), {1: "a", 2: "b"}, ("MRI",), on_mismatch=on_mismatch)
    with pytest.raises(UserError, match="1 voxels with 3"):
        load_case(replace(case, labels=(path,)), dataset)
