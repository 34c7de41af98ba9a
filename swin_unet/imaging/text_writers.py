"""Label maps as NRRD and MetaImage files, attached or detached, with the geometry of their image.

Written here and not by SimpleITK, which does not notice a full disk, and rounds directions that it
has split into lengths and cosines.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from swin_unet.files import atomic_path
from swin_unet.imaging.formats import split_name
from swin_unet.imaging.text_header import TextHeader
from swin_unet.imaging.volume import Volume

_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
# Fields that say where the voxels are, as they are spelt; those of MetaImage have other names for
# the same, of which a file has one.
_NRRD_GEOMETRY = (
    "space",
    "space dimension",
    "space units",
    "space directions",
    "spacings",
    "axis mins",
    "axis maxs",
    "centers",
    "centerings",
    "units",
    "space origin",
    "measurement frame",
)
_META_GEOMETRY = (
    "TransformMatrix",
    "Rotation",
    "Orientation",
    "Offset",
    "Position",
    "Origin",
    "CenterOfRotation",
    "AnatomicalOrientation",
    "ElementSpacing",
    "ElementSize",
)
_META_TYPES = {"uint8": "MET_UCHAR", "uint16": "MET_USHORT"}


def write_text_header_files(path: Path, labels: np.ndarray[Any, Any], like: Volume) -> None:
    """Write a label map as .nrrd, .nhdr (with .raw.gz), .mha or .mhd (with .raw).

    The voxels of a detached header are written first: a header never lacks its file.

    Args:
        path: The file with the header.
        labels: (X, Y, Z) uint8 or uint16.
        like: Where the geometry comes from, as it is written if the format is the same.

    Raises:
        UserError: The disk is full or the file cannot be written; nothing is left behind.
    """
    stem, suffix = split_name(path)
    voxels = np.ascontiguousarray(labels.T.astype(labels.dtype.newbyteorder("<"), copy=False)).data
    match suffix.lower():
        case ".nrrd":
            _write_one(path, _nrrd_header(labels, like), _gzip(voxels))
        case ".nhdr":
            data_path = path.with_name(f"{stem}.raw.gz")
            header = _nrrd_header(labels, like, data_path.name)
            _write_two(path, header, data_path, _gzip(voxels))
        case ".mha":
            data = zlib.compress(voxels, 6)
            _write_one(path, _meta_header(labels, like, "LOCAL", len(data)), data)
        case _:
            data_path = path.with_name(f"{stem}.raw")
            _write_two(path, _meta_header(labels, like, data_path.name), data_path, voxels)


def _gzip(voxels: memoryview) -> bytes:
    """Compress without a time in the archive: the same labels give the same bytes."""
    return gzip.compress(voxels, 6, mtime=0)


def _write_one(path: Path, header: str, data: bytes) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(header.encode("latin-1"))
        file.write(data)


def _write_two(path: Path, header: str, data_path: Path, data: bytes | memoryview) -> None:
    """Write both files before either gets its name, the data first."""
    with atomic_path(path) as temporary_header, atomic_path(data_path) as temporary_data:
        temporary_data.write_bytes(data)
        temporary_header.write_text(header, encoding="latin-1")


def _nrrd_header(labels: np.ndarray[Any, Any], like: Volume, data_name: str | None = None) -> str:
    fields = {
        "type": str(labels.dtype),
        "dimension": "3",
        "sizes": _words(labels.shape),
        **_nrrd_geometry(like),
        "endian": "little",
        "encoding": "gzip",
    }
    if data_name is not None:
        fields["data file"] = data_name
    lines = ["NRRD0005", *(f"{name}: {value}" for name, value in fields.items())]
    # The empty line ends an attached header; a detached one ends with its file.
    return "\n".join(lines) + ("\n\n" if data_name is None else "\n")


def _nrrd_geometry(like: Volume) -> dict[str, str]:
    header = like.header
    if isinstance(header, TextHeader) and header.kind == "nrrd" and _num_axes(header) == 3:
        return {name: header.fields[name] for name in _NRRD_GEOMETRY if name in header.fields}
    lps = _RAS_TO_LPS @ like.affine
    return {
        "space": "left-posterior-superior",
        "space directions": " ".join(f"({_words(column, ',')})" for column in lps[:3, :3].T),
        "kinds": "domain domain domain",
        "space origin": f"({_words(lps[:3, 3], ',')})",
    }


def _meta_header(
    labels: np.ndarray[Any, Any], like: Volume, data_name: str, num_compressed: int | None = None
) -> str:
    fields = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": str(num_compressed is not None),
    }
    if num_compressed is not None:
        fields["CompressedDataSize"] = str(num_compressed)
    fields |= {
        **_meta_geometry(like),
        "DimSize": _words(labels.shape),
        "ElementType": _META_TYPES[labels.dtype.name],
        "ElementDataFile": data_name,
    }
    return "".join(f"{name} = {value}\n" for name, value in fields.items())


def _meta_geometry(like: Volume) -> dict[str, str]:
    header = like.header
    if isinstance(header, TextHeader) and header.kind == "meta" and _num_axes(header) == 3:
        given = {name: header.fields.get(name.lower()) for name in _META_GEOMETRY}
        return {name: value for name, value in given.items() if value is not None}
    lps = _RAS_TO_LPS @ like.affine
    directions = lps[:3, :3] / like.spacing_mm
    return {
        "TransformMatrix": _words(directions.T.ravel()),
        "Offset": _words(lps[:3, 3]),
        "CenterOfRotation": "0 0 0",
        "ElementSpacing": _words(like.spacing_mm),
    }


def _num_axes(header: TextHeader) -> int:
    return int(header.fields["dimension" if header.kind == "nrrd" else "ndims"])


def _words(values: Iterable[Any], separator: str = " ") -> str:
    """Write numbers so that reading them gives the same ones."""
    return separator.join(str(np.asarray(value).item()) for value in values)
