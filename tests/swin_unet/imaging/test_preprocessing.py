import itertools
import json
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from torch.nn.functional import interpolate

from swin_unet.config import DataConfig, UserError, to_plain
from swin_unet.imaging import Preprocessing, Volume
from swin_unet.imaging.orientation import WORKING_CODES

AXIS_CODES = [
    "".join(codes)
    for order in itertools.permutations(("LR", "PA", "IS"))
    for codes in itertools.product(*order)
]
NATIVE = DataConfig(fit="crop")


def preprocessing(**settings: object) -> Preprocessing:
    return Preprocessing.from_config(replace(NATIVE, **settings))


def affine_of(codes: str, spacing: tuple[float, ...] = (1, 2, 3)) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = 0
    for column, (axis, sign) in enumerate(nib.orientations.axcodes2ornt(tuple(codes))):
        affine[int(axis), column] = sign * spacing[column]
    return affine


def noise(shape: tuple[int, ...] = (6, 7, 8), dtype: str = "i2") -> np.ndarray:
    return np.random.default_rng(0).integers(0, 120, shape).astype(dtype)


@pytest.mark.parametrize(
    "config",
    [
        DataConfig(),
        DataConfig(intensity="window", window=(-125, 275), context_slices=3),
        DataConfig(fit="crop", spacing_mm=(0.8, 0.9), percentiles=(1, 99)),
    ],
)
def test_settings_survive_json(config: DataConfig) -> None:
    settings = Preprocessing.from_config(config)
    plain = json.loads(json.dumps(settings.to_dict()))
    assert Preprocessing.from_dict(plain) == settings
    kept = {key: value for key, value in to_plain(config).items() if value is not None}
    assert {key: plain[key] for key in kept.keys() & plain.keys()}.items() <= kept.items()


def test_percentiles_have_a_default_and_windows_do_not() -> None:
    assert Preprocessing.from_config(DataConfig()).percentiles == (0.5, 99.5)
    with pytest.raises(UserError, match=r"data\.window: expected low and high.*--data.window"):
        Preprocessing.from_config(DataConfig(intensity="window"))


@settings(deadline=None)
@given(
    codes=st.sampled_from(AXIS_CODES),
    plane=st.sampled_from(sorted(WORKING_CODES)),
    angles=st.tuples(*[st.sampled_from([0, 10, 30, 45, 90, -45])] * 3),
    shear=st.sampled_from([0.0, 0.4]),
    dtype=st.sampled_from([np.uint8, np.uint16]),
)
def test_labels_come_back_exactly(
    codes: str, plane: str, angles: tuple[float, ...], shear: float, dtype: type
) -> None:
    affine = affine_of(codes)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, True).as_matrix() @ affine[:3, :3]
    affine[:3, 0] += shear * affine[:3, 1]
    array = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (3, 4, 5)).astype(dtype)
    volume = Volume(array, affine)
    prepared = preprocessing(plane=plane).prepare(volume)
    working = prepared.to_working(volume)
    np.testing.assert_array_equal(working, prepared.voxels[0])
    restored = prepared.restore(working)
    assert restored.dtype == dtype
    np.testing.assert_array_equal(restored, array)


def test_image_and_labels_turn_alike_at_a_tie() -> None:
    """At 45 degrees rounding decides the axis codes; the image's decide for both."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("z", 45, True).as_matrix()
    image, label = (Volume(noise((3, 4, 5)), affine + step) for step in (1e-9, -1e-9))
    prepared = preprocessing().prepare(image)
    np.testing.assert_array_equal(prepared.to_working(label), prepared.voxels[0])


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SAR", "ILP"])
@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_sizes_and_spacing_follow_the_axes(codes: str, plane: str) -> None:
    volume = Volume(noise(), affine_of(codes))
    prepared = preprocessing(plane=plane).prepare(volume)
    letters = [{"R": "L", "A": "P", "S": "I"}.get(code, code) for code in codes]
    axes = [letters.index({"S": "I"}.get(code, code)) for code in WORKING_CODES[plane]]
    size = tuple(volume.shape[axis] for axis in axes)
    assert (*prepared.slice_size, prepared.num_slices) == size
    assert prepared.spacing_mm == pytest.approx([volume.spacing_mm[axis] for axis in axes[:2]])
    assert prepared.input_size == prepared.slice_size


def test_the_input_size_follows_the_fit() -> None:
    volume = Volume(noise(), affine_of("PLS", (0.5, 2.0, 1.0)))
    assert preprocessing(fit="resize").prepare(volume).input_size == (224, 224)
    assert preprocessing(spacing_mm=(1.0, 1.0)).prepare(volume).input_size == (3, 14)
    assert preprocessing(spacing_mm=(99.0, 99.0)).prepare(volume).input_size == (1, 1)


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "u4", "f4", "f8"])
def test_window(dtype: str) -> None:
    array = noise(dtype=dtype)
    prepared = preprocessing(intensity="window", window=(20, 100)).prepare(
        Volume(array, affine_of("PLS"))
    )
    expected = np.moveaxis((np.clip(array.astype(float), 20, 100) - 20) / 80, -1, 0)
    slab = prepared.slab(0, 8)
    assert slab.dtype == torch.float32
    assert type(slab) is torch.Tensor
    np.testing.assert_allclose(slab[:, 0].numpy(), expected, atol=1e-6)


def test_percentiles_are_those_of_each_channel() -> None:
    array = np.stack([noise(), 1000 * noise()], -1).astype("f4")
    prepared = preprocessing(intensity="percentile", percentiles=(5, 90)).prepare(
        Volume(array, affine_of("PLS"))
    )
    slab = prepared.slab(0, 8).numpy()
    for channel in range(2):
        low, high = np.percentile(array[..., channel], (5, 90))
        expected = np.clip((array[..., channel] - low) / (high - low), 0, 1)
        np.testing.assert_allclose(slab[:, channel], np.moveaxis(expected, -1, 0), atol=1e-6)


@pytest.mark.parametrize("scale", [1, 15000])
def test_zscore_has_mean_zero_and_deviation_one(scale: int) -> None:
    array = noise().astype("f4") * scale
    prepared = preprocessing(intensity="zscore").prepare(Volume(array, affine_of("LAS")))
    slab = prepared.slab(0, 8)
    assert float(slab.mean()) == pytest.approx(0, abs=1e-5)
    assert float(slab.std(correction=0)) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("intensity", ["percentile", "zscore"])
def test_a_constant_image_becomes_zero(intensity: str) -> None:
    volume = Volume(np.full((3, 4, 5), 7, np.int16), np.eye(4))
    assert not preprocessing(intensity=intensity).prepare(volume).slab(0, 5).any()


@pytest.mark.parametrize("intensity", ["percentile", "zscore"])
def test_few_bright_voxels_are_not_lost(intensity: str) -> None:
    array = np.zeros((20, 20, 20), np.int16)
    array[3, 4, 5] = 500
    slab = preprocessing(intensity=intensity).prepare(Volume(array, affine_of("PLS"))).slab(0, 20)
    assert torch.isfinite(slab).all()
    assert slab[5, 0, 3, 4] > slab[5, 0, 3, 5]


def test_statistics_of_a_large_volume_come_from_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    volume = Volume(noise((64, 64, 16)), affine_of("PLS"))
    exact = preprocessing().prepare(volume).ranges[0]
    monkeypatch.setattr("swin_unet.imaging.intensity.SAMPLE_SIZE", 10_000)
    sampled = preprocessing().prepare(volume).ranges[0]
    assert sampled != exact
    assert sampled.mapped_high == pytest.approx(exact.mapped_high, rel=0.05)


@pytest.mark.parametrize("context", [1, 3, 5])
@settings(deadline=None)
@given(start=st.integers(0, 7), length=st.integers(1, 8))
def test_context_slices_are_neighbours_with_edges_repeated(
    context: int, start: int, length: int
) -> None:
    stop = min(8, start + length)
    volume = Volume(noise((4, 5, 8, 2)), affine_of("PLS"))
    plain = preprocessing().prepare(volume).slab(0, 8)
    slab = preprocessing(context_slices=context).prepare(volume).slab(start, stop)
    assert slab.shape == (stop - start, 2 * context, 4, 5)
    for position, number in enumerate(range(start, stop)):
        for offset in range(context):
            neighbour = min(max(number + offset - context // 2, 0), 7)
            channels = slab[position, 2 * offset : 2 * offset + 2]
            assert torch.equal(channels, plain[neighbour])


def test_slices_are_resized_antialiased() -> None:
    volume = Volume(noise((40, 30, 3)), affine_of("PLS"))
    native = preprocessing().prepare(volume).slab(0, 3)
    resized = preprocessing(fit="resize", image_size=(16, 50)).prepare(volume).slab(0, 3)
    expected = interpolate(native, (16, 50), mode="bilinear", antialias=True)
    assert torch.equal(resized, expected)
    assert not torch.equal(resized, interpolate(native, (16, 50), mode="bilinear"))


@settings(deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40))
def test_training_labels_are_resized_to_the_nearest(height: int, width: int) -> None:
    volume = Volume(noise((13, 9, 4), "u2"), affine_of("PLS"))
    prepared = preprocessing(fit="resize", image_size=(height, width)).prepare(volume)
    slab = prepared.labels_slab(prepared.to_working(volume), 1, 3)
    assert slab.dtype == np.uint16
    native = torch.from_numpy(np.moveaxis(volume.array[..., 1:3], -1, 0).astype("f4"))
    expected = interpolate(native[None], (height, width), mode="nearest-exact")[0]
    np.testing.assert_array_equal(slab, expected.numpy())


def test_a_large_volume_takes_little_more_than_itself() -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("the peak is read from /proc")
    preprocessing().prepare(Volume(noise(), np.eye(4)))  # imports take memory too
    volume = Volume(np.asfortranarray(noise((256, 256, 400))), affine_of("LPI"))
    Path("/proc/self/clear_refs").write_text("5")  # restart the peak
    before = _status_kb("VmRSS")
    prepared = preprocessing(plane="coronal").prepare(volume)
    slab = prepared.slab(0, 4)
    extra = (_status_kb("VmHWM") - before) * 1024
    assert prepared.voxels.dtype == np.int16
    assert slab.shape[0] == 4
    # Slices of float32, and the sample as int16, as float32 and sorted by NumPy in float64.
    assert extra < 0.1 * volume.array.nbytes + 20 * 4_000_000


def _status_kb(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))
