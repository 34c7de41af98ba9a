"""Pictures: upright as they are stored, indices of palettes for labels, pages as slices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from PIL import Image

from swin_unet.config import DataConfig, UserError
from swin_unet.imaging import Preprocessing, read, read_header, read_image, read_labels
from tests.imaging_checks import assert_error, ramp, save_picture

RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 255, (4, 6, 3), dtype=np.uint8)


def save(path: Path, pixels: np.ndarray, mode: str | None = None, **options: object) -> Path:
    picture = Image.fromarray(pixels)
    (picture.convert(mode) if mode else picture).save(path, **options)
    return path


@pytest.mark.parametrize("ending", [".png", ".tif", ".jpg", ".PNG", ".tiff", ".JPEG"])
def test_the_network_sees_the_picture_as_it_is_stored(tmp_path: Path, ending: str) -> None:
    pixels = np.linspace(0, 250, 12).reshape(3, 4).astype(np.uint8)
    path = save(tmp_path / f"a{ending}", pixels)
    volume = read_image([path])
    assert volume.shape == (4, 3, 1)
    settings = Preprocessing.from_config(DataConfig(intensity="window", window=(0, 255)))
    prepared = settings.prepare(volume)
    np.testing.assert_array_equal(prepared.voxels[0, :, :, 0], np.asarray(Image.open(path)))


@pytest.mark.parametrize(
    ("mode", "shape", "dtype"),
    [
        ("1", (6, 4, 1), "u1"),
        ("L", (6, 4, 1), "u1"),
        ("LA", (6, 4, 1), "u1"),
        ("RGB", (6, 4, 1, 3), "u1"),
        ("RGBA", (6, 4, 1, 3), "u1"),
        ("P", (6, 4, 1, 3), "u1"),
        ("PA", (6, 4, 1, 3), "u1"),
        ("CMYK", (6, 4, 1, 3), "u1"),
        ("I;16", (6, 4, 1), "u2"),
        ("I", (6, 4, 1), "i4"),
        ("F", (6, 4, 1), "f4"),
    ],
)
def test_every_kind_of_pixel_is_read(
    tmp_path: Path, mode: str, shape: tuple[int, ...], dtype: str
) -> None:
    path = tmp_path / "a.tif"
    picture = Image.fromarray(PHOTO)
    if mode.startswith("I;"):
        picture = Image.fromarray(PHOTO[..., 0].astype("u2") * 200)
    elif mode == "PA":  # TIFF cannot hold it
        path = tmp_path / "a.png"
        picture = picture.convert("P")
        picture.info["transparency"] = 3
    else:
        picture = picture.convert(mode)
    picture.save(path)
    volume = read(path)
    assert (volume.array.shape, volume.array.dtype) == (shape, np.dtype(dtype))
    header = read_header(path)
    assert (header.array_shape, header.dtype) == (shape, np.dtype(dtype))
    if mode in ("L", "I", "F", "I;16"):
        np.testing.assert_array_equal(volume.array[..., 0].T, np.asarray(picture))
    if mode in ("RGB", "RGBA"):
        np.testing.assert_array_equal(volume.array[:, :, 0].transpose(1, 0, 2), PHOTO)


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_colours_of_16_bits_keep_them(tmp_path: Path, ending: str) -> None:
    pixels = RNG.integers(0, 65535, (4, 6, 3), dtype=np.uint16)
    path = tmp_path / f"a.{ending}"
    sitk.WriteImage(sitk.GetImageFromArray(pixels, isVector=True), str(path))
    volume = read(path)
    assert volume.array.dtype == np.uint16
    np.testing.assert_array_equal(volume.array[:, :, 0].transpose(1, 0, 2), pixels)
    assert read_header(path).dtype == np.uint16


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_a_palette_gives_indices_to_labels_and_colours_to_images(
    tmp_path: Path, ending: str
) -> None:
    indices = RNG.integers(0, 3, (4, 6), dtype=np.uint8)
    palette = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 9]], np.uint8)
    picture = Image.fromarray(indices)
    picture.putpalette(palette.ravel().tolist())
    path = tmp_path / f"a.{ending}"
    picture.save(path)
    labels = read_labels(path, 3)
    np.testing.assert_array_equal(labels.array[..., 0].T, indices)
    np.testing.assert_array_equal(read(path).array[:, :, 0].transpose(1, 0, 2), palette[indices])


def test_a_grey_palette_is_one_channel(tmp_path: Path) -> None:
    picture = Image.fromarray(RNG.integers(0, 3, (4, 6), dtype=np.uint8))
    picture.putpalette([0, 0, 0, 100, 100, 100, 200, 200, 200])
    picture.save(tmp_path / "a.png")
    assert set(np.unique(read(tmp_path / "a.png").array)) == {0, 100, 200}
    assert read(tmp_path / "a.png").shape == (6, 4, 1)


def test_a_mask_of_one_bit_has_the_labels_0_and_1(tmp_path: Path) -> None:
    mask = RNG.integers(0, 2, (4, 6)).astype(bool)
    path = save(tmp_path / "a.png", mask.astype(np.uint8) * 255, "1")
    np.testing.assert_array_equal(read_labels(path, 2).array[..., 0].T, mask)


def test_pages_are_slices(tmp_path: Path) -> None:
    array = RNG.integers(0, 65535, (6, 4, 3), dtype=np.uint16)
    path = save_picture(tmp_path / "a.tif", array)
    np.testing.assert_array_equal(read(path).array, array)
    assert read_header(path).shape == (6, 4, 3)
    pages = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    np.testing.assert_array_equal(read(path).array, pages.T)


def test_pages_of_several_sizes_are_refused(tmp_path: Path) -> None:
    pages = [Image.new("L", (6, 4)), Image.new("L", (3, 2))]
    path = tmp_path / "a.tif"
    pages[0].save(path, save_all=True, append_images=pages[1:])
    with pytest.raises(UserError) as caught:
        read(path)
    assert_error(caught.value, path, "pages of one size", "(2, 3) uint8, (4, 6) uint8")


def test_colours_are_no_labels(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", PHOTO)
    with pytest.raises(UserError) as caught:
        read_labels(path, 3)
    assert_error(caught.value, path, "one value per pixel", "3 colours", "0, 1, 2")


def test_two_colour_pictures_are_no_channels_of_a_case(tmp_path: Path) -> None:
    paths = [save(tmp_path / name, PHOTO) for name in ("a.png", "b.png")]
    with pytest.raises(UserError, match="one 3D file per channel"):
        read_image(paths)


@pytest.mark.parametrize("size", [(30000, 30000), (12000, 12000)])
def test_a_header_that_promises_too_much_is_refused(
    tmp_path: Path, size: tuple[int, int], capfd: pytest.CaptureFixture[str]
) -> None:
    path = save_picture(tmp_path / "a.png", ramp("u1", (6, 4, 1)))
    content = bytearray(path.read_bytes())
    content[16:24] = size[0].to_bytes(4, "big") + size[1].to_bytes(4, "big")
    import zlib

    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read(path)
    words = ("at most", "pixels", "Cut it") if size[0] > 20000 else ("truncated or damaged",)
    assert_error(caught.value, path, *words)
    assert capfd.readouterr() == ("", "")
