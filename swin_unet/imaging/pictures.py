"""PNG, JPEG and TIFF pictures as volumes of one slice, or one slice per page of a TIFF file.

A picture (W, H) becomes (W, H, 1) with axes that run left and down, so that axial slices look as
the picture does. Colours are channels.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from swin_unet.config import UserError
from swin_unet.imaging import faults
from swin_unet.imaging.formats import Content
from swin_unet.imaging.volume import Header, Volume

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

_FORMATS = ("PNG", "JPEG", "TIFF")
_PALETTES = ("P", "PA")
# Modes whose bands are what we want, after the first ones are taken: (mode, number of bands).
_BANDS = {"RGB": 3, "RGBA": 3, "RGBX": 3, "LA": 1}
_UNREADABLE = (
    OSError,
    EOFError,
    SyntaxError,  # Pillow's word for a broken PNG
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    RuntimeError,
    MemoryError,
    OverflowError,
    struct.error,
    zlib.error,
)


def read(path: Path, content: Content) -> Volume:
    """Read a picture; of a label map with a palette the indices, otherwise the colours.

    Raises:
        UserError: Damaged or unsupported file, pages of different kinds, a label map in colours.
    """
    with _open(path) as picture:
        pages = [_pixels(page, content) for page in _pages(picture)]
    _check_pages(path, pages, content)
    stacked = np.stack(pages)  # (S, H, W) or (S, H, W, C)
    channels = np.moveaxis(stacked, -1, 0) if stacked.ndim == 4 else stacked
    return Volume(np.ascontiguousarray(channels).T, _affine(), path, has_spacing=False)


def read_header(path: Path, content: Content) -> Header:
    """Read what `read` would return, without most of the pixels: those of the first page.

    Raises:
        UserError: As `read`, as far as the first page tells.
    """
    with _open(path) as picture:
        num_pages = _num_pages(picture)
        page = _pixels(picture, content)
    _check_pages(path, [page], content)
    shape = (page.shape[1], page.shape[0], num_pages, *page.shape[2:])
    return Header(shape, _affine(), page.dtype, path, has_spacing=False)


def _affine() -> np.ndarray[Any, Any]:
    """Return an affine (4, 4) by which an axial slice looks as the picture does."""
    return np.diag([-1.0, -1.0, 1.0, 1.0])


@contextmanager
def _open(path: Path) -> Iterator[ImageFile]:
    """Open a picture; errors of reading become a UserError, warnings are silenced."""
    from PIL import Image

    with warnings.catch_warnings(), faults.complete(path, "picture", _UNREADABLE):
        warnings.simplefilter("ignore")
        try:
            with Image.open(path, formats=_FORMATS) as picture:
                yield picture
        except Image.DecompressionBombError as error:
            raise UserError(
                path,
                expected=f"a picture of at most {2 * (Image.MAX_IMAGE_PIXELS or 0)} pixels",
                found=str(error),
                fix="Cut it into pieces, or shrink it.",
            ) from error


def _num_pages(picture: ImageFile) -> int:
    return getattr(picture, "n_frames", 1) if picture.format == "TIFF" else 1


def _pages(picture: ImageFile) -> Iterator[ImageFile]:
    for index in range(_num_pages(picture)):
        if index:
            picture.seek(index)
        yield picture


def _pixels(picture: ImageFile, content: Content) -> np.ndarray[Any, Any]:
    """Return the pixels (H, W), or (H, W, C) without alpha."""
    if picture.mode in _PALETTES:
        return _palette_pixels(picture, content)
    if picture.mode in _BANDS:
        pixels = _wide_pixels(picture) if _is_wide(picture) else np.asarray(picture)
        pixels = pixels[..., : _BANDS[picture.mode]]
        return pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    if len(picture.getbands()) > 1:  # CMYK and others of printing
        return np.asarray(picture.convert("RGB"))
    pixels = np.asarray(picture)
    if pixels.dtype == bool:
        return pixels.astype(np.uint8)
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def _palette_pixels(picture: Image, content: Content) -> np.ndarray[Any, Any]:
    if content == "label":
        indices = np.asarray(picture)
        return indices[..., 0] if indices.ndim == 3 else indices
    colours = np.asarray(picture.convert("RGB"))
    is_grey = (colours == colours[..., :1]).all()
    return colours[..., 0] if is_grey else colours


def _is_wide(picture: ImageFile) -> bool:
    """Say whether bands have 16 bits, of which Pillow keeps eight."""
    return any("16" in str(tile[3]) for tile in picture.tile)


def _wide_pixels(picture: ImageFile) -> np.ndarray[Any, Any]:
    from swin_unet.imaging.itk import simpleitk

    sitk = simpleitk()
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(picture.filename))
    pixels: np.ndarray[Any, Any] = sitk.GetArrayFromImage(reader.Execute())
    return pixels[picture.tell()] if pixels.ndim == 4 else pixels


def _check_pages(path: Path, pages: list[np.ndarray[Any, Any]], content: Content) -> None:
    kinds = {(page.shape, page.dtype) for page in pages}
    if len(kinds) > 1:
        raise UserError(
            path,
            expected="pages of one size and kind",
            found=", ".join(sorted(f"{shape} {dtype}" for shape, dtype in kinds)),
            fix="Save each volume as a file of its own, without previews.",
        )
    if content == "label" and pages[0].ndim == 3:
        raise UserError(
            path,
            expected="a label map with one value per pixel",
            found=f"a picture with {pages[0].shape[2]} colours per pixel",
            fix="Save it as greys or with a palette, with the values 0, 1, 2, ...",
        )
