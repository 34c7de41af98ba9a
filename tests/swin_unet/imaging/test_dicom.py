"""DICOM series: read as SimpleITK reads them, or refused with what is wrong and what to do."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from swin_unet.config import UserError
from swin_unet.imaging import read, read_header, read_image, read_labels
from swin_unet.imaging.dicom_files import holds_dicom
from tests.dicom_files import REPORT, SEGMENTATION, write_series, write_slice
from tests.imaging_checks import assert_error

VOXELS = np.random.default_rng(0).integers(-1000, 1000, (5, 6, 7), dtype=np.int16)
SLOPE, INTERCEPT = (0x0028, 0x1053), (0x0028, 0x1052)
POSITION, FRAMES = (0x0020, 0x0032), (0x0028, 0x0008)
SPACING = (0x0028, 0x0030)


@settings(deadline=None, max_examples=30)
@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    origin=st.tuples(*[st.floats(-300, 300)] * 3),
    step_mm=st.floats(0.5, 9),
    seed=st.integers(0, 99),
)
def test_the_grid_is_that_of_simpleitk(
    tmp_path_factory: pytest.TempPathFactory,
    angles: tuple[float, ...],
    origin: tuple[float, ...],
    step_mm: float,
    seed: int,
) -> None:
    """Slices of any direction, in files of any order."""
    folder = tmp_path_factory.mktemp("series")
    axes = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    names = np.random.default_rng(seed).permutation(len(VOXELS))
    for index, (name, pixels) in enumerate(zip(names, VOXELS, strict=True)):
        place = np.array(origin) + index * step_mm * axes[:, 2]
        orientation = axes[:, :2].T.ravel()
        path = folder / f"{name}.dcm"
        write_slice(path, pixels, place, orientation=orientation, spacing=(0.7, 0.9))
    volume, header = read(folder), read_header(folder)
    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(image).T)
    np.testing.assert_array_equal(volume.array, VOXELS.T)
    last = image.TransformIndexToPhysicalPoint((6, 5, 4))
    expected = np.diag([-1.0, -1, 1]) @ last
    np.testing.assert_allclose((volume.affine @ [6, 5, 4, 1])[:3], expected, atol=1e-3)
    np.testing.assert_allclose(header.affine, volume.affine, atol=1e-3)
    assert volume.spacing_mm == pytest.approx((0.9, 0.7, step_mm), abs=1e-3)


@pytest.mark.parametrize("slopes", [[1] * 5, [2] * 5, [0.5] * 5, [1, 0.5, 0.25, 2, 3]])
@pytest.mark.parametrize("intercepts", [[0] * 5, [-1024] * 5, [-1, -2, -3, -4, -5]])
def test_every_slice_is_rescaled_by_its_own_slope(
    tmp_path: Path, slopes: list[float], intercepts: list[int]
) -> None:
    for index, (slope, intercept) in enumerate(zip(slopes, intercepts, strict=True)):
        tags = {SLOPE: str(slope), INTERCEPT: str(intercept)}
        write_slice(tmp_path / f"{index}.dcm", VOXELS[index], (0, 0, 2 * index), tags=tags)
    volume = read(tmp_path)
    expected = VOXELS * np.reshape(slopes, (5, 1, 1)) + np.reshape(intercepts, (5, 1, 1))
    np.testing.assert_allclose(volume.array, expected.T, rtol=1e-6)
    is_whole = all(isinstance(slope, int) for slope in slopes)
    assert volume.array.dtype.kind == "i" if is_whole else volume.array.dtype == np.float32
    assert read_header(tmp_path).dtype == volume.array.dtype


@pytest.mark.parametrize("preamble", [True, False])
@pytest.mark.parametrize("ending", [".dcm", "", ".IMA", ".1.2.3"])
def test_the_names_of_the_files_do_not_matter(tmp_path: Path, ending: str, preamble: bool) -> None:
    folder = write_series(tmp_path / "series", VOXELS, preamble=preamble)
    for path in sorted(folder.iterdir()):
        path.rename(path.with_name(path.stem + ending))
    assert holds_dicom(folder)
    np.testing.assert_array_equal(read(folder).array, VOXELS.T)


def test_other_files_and_objects_in_the_folder_are_left_aside(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "series", VOXELS)
    (folder / "notes.txt").write_text("no image")
    (folder / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    (folder / "._000.dcm").write_bytes(b"left by macOS")
    (folder / "more").mkdir()
    write_slice(folder / "report.dcm", VOXELS[0], series="9", sop_class=REPORT)
    write_slice(folder / "labels.dcm", VOXELS[0], series="8", sop_class=SEGMENTATION)
    np.testing.assert_array_equal(read(folder).array, VOXELS.T)


def test_empty_uids_are_no_obstacle(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read(write_series(tmp_path, VOXELS, series="")).array, VOXELS.T)


def test_a_single_file_is_a_volume_of_one_slice(tmp_path: Path) -> None:
    path = write_slice(tmp_path / "a.dcm", VOXELS[0], (1, 2, 3), spacing=(0.5, 0.6))
    volume = read(path)
    assert volume.shape == read_header(path).shape == (7, 6, 1)
    np.testing.assert_allclose(volume.affine[:3, 3], (-1, -2, 3))
    np.testing.assert_array_equal(read(tmp_path).array, volume.array)


@pytest.mark.parametrize("written", [None, "", "0\\0"])
def test_a_file_without_a_pixel_size_says_so(tmp_path: Path, written: str | None) -> None:
    path = write_slice(tmp_path / "a.dcm", VOXELS[0], tags={SPACING: written})
    assert not read(path).has_spacing
    assert not read_header(path).has_spacing


def test_one_file_may_hold_all_slices(tmp_path: Path) -> None:
    tags = {FRAMES: "5"}
    pixels = (VOXELS % 256).astype(np.uint8)
    frames = pixels.reshape(30, 7)  # the frames follow each other
    path = write_slice(tmp_path / "a" / "1.dcm", frames, tags={**tags, (0x0028, 0x0010): 6})
    for place in (path, path.parent):
        np.testing.assert_array_equal(read(place).array, pixels.T)
        assert read_header(place).array_shape == (7, 6, 5)
    shutil.copy(path, path.with_name("2.dcm"))
    with pytest.raises(UserError) as caught:
        read(path.parent)
    assert_error(caught.value, path.parent, "one file per slice", "1.dcm, 2.dcm with several")


def test_colours_are_channels_and_no_labels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (3, 6, 7, 3), dtype=np.uint8)
    folder = write_series(tmp_path, pixels)
    np.testing.assert_array_equal(read_image([folder]).array, pixels.transpose(2, 1, 0, 3))
    assert read_header(folder).num_channels == 3
    with pytest.raises(UserError, match="a 3D label map, found 4D"):
        read_labels(folder)


@pytest.fixture
def two_series(tmp_path: Path) -> Path:
    """A folder with two series; the second has the voxels plus 1."""
    write_series(tmp_path / "both", VOXELS, number="3", description="soft tissue")
    options = {"series": "1.2.3.5", "number": "4", "description": "lung"}
    for path in write_series(tmp_path / "other", VOXELS + np.int16(1), **options).iterdir():
        path.rename(tmp_path / "both" / f"other_{path.name}")
    return tmp_path / "both"


@pytest.mark.parametrize(
    ("wanted", "added"),
    [("3", 0), ("4", 1), ("004", 1), ("1.2.3.4", 0), ("1.2.3.5", 1), ("lung", 1)],
)
def test_one_of_several_series_is_chosen(two_series: Path, wanted: str, added: int) -> None:
    path = two_series.with_name(f"both#{wanted}")
    np.testing.assert_array_equal(read(path).array, VOXELS.T + added)
    assert read(path).path == path
    assert read_header(path).shape == (7, 6, 5)


@pytest.mark.parametrize("wanted", ["", "#5", "#", "#1.2.3"])
def test_several_series_are_listed(two_series: Path, wanted: str) -> None:
    with pytest.raises(UserError) as caught:
        read(two_series.with_name(f"both{wanted}"))
    words = ("'3': number 3, soft tissue, 7 x 6 x 5", "'4': number 4, lung, 7 x 6 x 5")
    assert_error(caught.value, two_series, *words, f"such as '{two_series}#3'")


def test_series_of_one_number_are_told_apart_by_uid(tmp_path: Path) -> None:
    write_series(tmp_path, VOXELS)
    write_slice(tmp_path / "scout.dcm", VOXELS[0], series="1.2.9", description="scout")
    with pytest.raises(UserError) as caught:
        read(tmp_path)
    assert_error(caught.value, tmp_path, "'1.2.9': number 1, scout, 7 x 6 x 1", "'1.2.3.4': number")
    with pytest.raises(UserError, match="found 2 of 2"):
        read(Path(f"{tmp_path}#1"))


def test_series_without_uids_are_told_apart_by_description(tmp_path: Path) -> None:
    write_series(tmp_path, VOXELS, series="", number="")
    path = tmp_path / "scout.dcm"
    write_slice(path, VOXELS[0], series="", number="", description="scout")
    assert read(Path(f"{tmp_path}#scout")).shape == (7, 6, 1)
    assert read(Path(f"{tmp_path}#thorax")).shape == (7, 6, 5)


def test_a_folder_with_a_hash_in_its_name_is_a_folder(tmp_path: Path) -> None:
    write_series(tmp_path / "case#1", VOXELS)
    assert read(tmp_path / "case#1").shape == (7, 6, 5)


def test_text_that_is_not_utf8_is_shown(tmp_path: Path) -> None:
    write_series(tmp_path, VOXELS)
    path = write_slice(tmp_path / "x.dcm", VOXELS[0], series="1", description="SchXdel")
    path.write_bytes(path.read_bytes().replace(b"SchXdel", b"Sch\xe4del"))
    with pytest.raises(UserError, match="Schädel"):
        read(tmp_path)


def shear(folder: Path) -> None:
    for index, pixels in enumerate(VOXELS):
        write_slice(folder / f"{index:03d}.dcm", pixels, (0, index * 0.5, index * 2))


def add(name: str, pixels: np.ndarray = VOXELS[0], **options: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        write_series(folder, VOXELS)
        position = options.pop("position", (0, 0, 10))
        write_slice(folder / name, pixels, position, **options)  # type: ignore[arg-type]

    return change


def at(*heights: float, **options: object) -> Callable[[Path], object]:
    return lambda folder: write_series(folder, VOXELS, heights, **options)


def two_phases(folder: Path) -> None:
    write_series(folder, np.repeat(VOXELS, 2, axis=0), np.repeat(np.arange(5) * 2.0, 2).tolist())


UPRIGHT = (0, 1, 0, 0, 0, -1)
FAULTS: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "gap": (at(0, 2, 4, 8, 10), ("a slice every 2 mm", "1 missing", "002.dcm and 003.dcm", "Copy")),
    "large gap": (at(0, 2, 4, 6, 16), ("4 missing, between 003.dcm and 004.dcm", "export")),
    "unequal": (at(0, 2, 4, 7, 10), ("at equal distances", "from 2 to 3 mm", "Resample")),
    "tilt": (shear, ("straight above each other", "gantry tilt of 14.0 degrees", "dcm2niix")),
    "duplicate": (at(0, 2, 4, 4, 6), ("one slice at each place", "002.dcm, 003.dcm at", "Move")),
    "duplicates": (at(0, 0, 2, 4, 4), ("000.dcm, 001.dcm at the same one, so at 1 more",)),
    "phases": (two_phases, ("2 at each of 5 places", "time series", "a folder of its own")),
    "no position": (
        at(0, 2, 4, 6, 8, tags={POSITION: None}),
        ("a position and an orientation", "none in 000.dcm", "export the series again"),
    ),
    "empty position": (at(0, 2, 4, 6, 8, tags={POSITION: ""}), ("none in 000.dcm",)),
    "no directions": (at(0, 2, 4, 6, 8, orientation=(1, 0, 0, 1, 0, 0)), ("none in 000.dcm",)),
    "size": (add("x.dcm", VOXELS[0, :5]), ("slices of one size", "x.dcm", "of their own")),
    "colours": (
        add("x.dcm", np.zeros((6, 7, 3), np.uint8)),
        ("slices of one size", "x.dcm"),
    ),
    "orientation": (add("x.dcm", orientation=UPRIGHT), ("slices of one orientation", "x.dcm")),
    "spacing": (add("x.dcm", spacing=(2, 2)), ("slices of one pixel spacing", "x.dcm")),
    "no uid, duplicate": (
        at(0, 2, 4, 4, 6, series=""),
        ("002.dcm, 003.dcm", "empty series UIDs", "look like one"),
    ),
    "no uid, size": (
        lambda folder: (
            write_series(folder, VOXELS, series=""),
            write_slice(folder / "x.dcm", VOXELS[0, :5], (0, 0, 10), series=""),
        ),
        ("slices of one size", "x.dcm", "empty series UIDs"),
    ),
    "report": (at(0, 2, 4, 6, 8, sop_class=REPORT), ("found DICOM files without an image",)),
    "labels": (at(0, 2, 4, 6, 8, sop_class=SEGMENTATION), ("files without an image", "Name the")),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_slices_that_make_no_volume_are_refused(
    tmp_path: Path, fault: str, capfd: pytest.CaptureFixture[str]
) -> None:
    make, words = FAULTS[fault]
    make(tmp_path)
    for reader in (read, read_header):
        with pytest.raises(UserError) as caught:
            reader(tmp_path)
        assert_error(caught.value, tmp_path, *words)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("heights", [(0, 2.01, 4, 5.99, 8), (0, 0.3, 0.61, 0.9, 1.2)])
def test_rounded_positions_are_no_fault(tmp_path: Path, heights: tuple[float, ...]) -> None:
    spacing = read(write_series(tmp_path, VOXELS, heights)).spacing_mm
    assert spacing[2] == pytest.approx(heights[-1] / 4)


def test_a_slight_tilt_of_less_than_half_a_pixel_is_no_fault(tmp_path: Path) -> None:
    for index, pixels in enumerate(VOXELS):
        write_slice(tmp_path / f"{index}.dcm", pixels, (0.1 * index, 0, index * 2))
    assert read(tmp_path).shape == (7, 6, 5)


def test_a_segmentation_object_says_what_to_do(tmp_path: Path) -> None:
    path = write_slice(tmp_path / "a.dcm", VOXELS[0], sop_class=SEGMENTATION)
    with pytest.raises(UserError) as caught:
        read(path)
    assert_error(caught.value, path, "another kind of object", "convert a DICOM segmentation")
