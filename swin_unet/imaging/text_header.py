"""The text headers of NRRD and MetaImage files: read, and checked against the files.

SimpleITK reads the voxels. But it takes memory for whatever a header promises, invents what a
damaged compressed stream lacks, and complains on stderr by itself; so all that is checked before.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from swin_unet.config import UserError
from swin_unet.imaging import faults

Kind = Literal["nrrd", "meta"]
KIND_NAMES: dict[Kind, str] = {"nrrd": "NRRD file", "meta": "MetaImage file"}
_MAGIC = b"NRRD00"
_MOST_LINES = 1000
_LONGEST_LINE = 100_000
_REQUIRED: dict[Kind, tuple[str, ...]] = {
    "nrrd": ("type", "dimension", "sizes", "encoding"),
    "meta": ("ndims", "dimsize", "elementtype", "elementdatafile"),
}
_SIZES: dict[Kind, str] = {"nrrd": "sizes", "meta": "dimsize"}
_NUM_AXES: dict[Kind, str] = {"nrrd": "dimension", "meta": "ndims"}
_META_TYPES = frozenset(
    f"MET_{sign}{name}{array}"
    for sign in ("", "U")
    for name in ("CHAR", "SHORT", "INT", "LONG", "LONG_LONG", "FLOAT", "DOUBLE")
    for array in ("", "_ARRAY")
)
_DEFLATED = ("gzip", "gz")
_AS_TEXT = ("ascii", "text", "txt", "hex")
# How many bytes of voxels a byte of text can hold: a value takes two bytes or more.
_TEXT_RATIO = 4
_ANY_WRAPPER = 32 + zlib.MAX_WBITS  # zlib or gzip
_GZIP_MAGIC = b"\x1f\x8b"
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class TextHeader:
    """The fields of a header as they are written in the file.

    Attributes:
        kind: Which format.
        fields: Text by name, names in lower case.
        num_bytes: Length of the header.
    """

    kind: Kind
    fields: dict[str, str]
    num_bytes: int = 0

    @property
    def data_name(self) -> str | None:
        """Name of the file with the voxels as the header has it; None: they follow the header."""
        if self.kind == "nrrd":
            return self.fields.get("data file", self.fields.get("datafile"))
        name = self.fields["elementdatafile"]
        return None if name.upper() == "LOCAL" else name

    @property
    def encoding(self) -> str:
        """How the voxels are stored: raw, gzip, text or hex, or a synonym."""
        if self.kind == "nrrd":
            return self.fields["encoding"].lower()
        if self.fields.get("binarydata", "true").lower() != "true":
            return "text"
        return "gzip" if self.fields.get("compresseddata", "").lower() == "true" else "raw"

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of all axes."""
        return tuple(int(size) for size in self.fields[_SIZES[self.kind]].split())

    def data_path(self, path: Path) -> Path | None:
        """Return the file that holds the voxels if this is the header of `path`; None: several."""
        name = self.data_name
        if name is None:
            return path
        has_many = name.upper().startswith("LIST") or "%" in name
        return None if has_many else path.parent / name


def read_text_header(path: Path, kind: Kind) -> TextHeader:
    """Read the header of a file.

    Raises:
        UserError: For a file without such a header, an incomplete one, or without its voxels' file.
    """
    with faults.complete(path, KIND_NAMES[kind], (OSError,)), path.open("rb") as file:
        read = _read_nrrd if kind == "nrrd" else _read_meta
        header = TextHeader(kind, read(file), file.tell())
    _check_fields(path, header)
    if 0 in header.shape:
        faults.check_dimensions(path, header.shape)
    _check_encoding(path, header)
    _check_data_file(path, header)
    return header


def check_voxels(path: Path, header: TextHeader, num_bytes: int) -> None:
    """Refuse files that hold less than the header promises, or a damaged compressed stream.

    Args:
        path: The file with the header.
        header: Its content.
        num_bytes: What the voxels take in memory.
    """
    data_path = header.data_path(path)
    if data_path is None:
        return  # one file per slice
    skipped = header.num_bytes if data_path == path else 0
    stored = data_path.stat().st_size - skipped
    ratio = 1 if header.encoding == "raw" else _TEXT_RATIO
    if header.encoding in _DEFLATED:
        ratio = faults.LARGEST_COMPRESSION
    largest = stored * ratio
    faults.check_length(data_path, header.shape, num_bytes, largest)
    promised = header.fields.get("compresseddatasize", "")
    if promised.isdigit():
        faults.check_length(data_path, header.shape, int(promised), stored)


def check_stream(path: Path, header: TextHeader, num_bytes: int) -> None:
    """Refuse a damaged compressed stream, whose voxels SimpleITK would invent.

    Args:
        path: The file with the header.
        header: Its content.
        num_bytes: What the voxels take in memory.
    """
    data_path = header.data_path(path)
    if data_path is None or header.encoding not in _DEFLATED:
        return
    with (
        faults.complete(data_path, KIND_NAMES[header.kind], (OSError, EOFError, zlib.error)),
        data_path.open("rb") as file,
    ):
        file.seek(header.num_bytes if data_path == path else 0)
        found = _inflated_length(file)
    faults.check_length(data_path, header.shape, num_bytes, found)


def _inflated_length(file: BinaryIO) -> int:
    """Count the bytes of a zlib or gzip stream to its end, and check its sum.

    Raises:
        EOFError: The stream ends too early.
        zlib.error: It is damaged.
    """
    length = 0
    stream = zlib.decompressobj(_ANY_WRAPPER)
    data = file.read(_CHUNK_BYTES)
    while data:
        length += len(stream.decompress(data))
        data = stream.unused_data if stream.eof else file.read(_CHUNK_BYTES)
        if stream.eof and data.startswith(_GZIP_MAGIC):  # one more of several in a file
            stream = zlib.decompressobj(_ANY_WRAPPER)
        elif stream.eof:
            return length
    raise EOFError("the compressed voxels end too early")


def _check_fields(path: Path, header: TextHeader) -> None:
    """Refuse a header without what it must have, before MetaImage complains on stderr."""
    fields, kind = header.fields, header.kind
    missing = [name for name in _REQUIRED[kind] if name not in fields]
    problem = f"its header has no {', '.join(missing)}" if missing else ""
    if not missing:
        sizes, num_axes = fields[_SIZES[kind]], fields[_NUM_AXES[kind]]
        words = sizes.split()
        if not all(word.isdigit() for word in words) or num_axes != str(len(words)):
            problem = f"its header has {num_axes} axes of sizes '{sizes}'"
        elif kind == "meta" and fields["elementtype"].upper() not in _META_TYPES:
            problem = f"its header has the element type '{fields['elementtype']}'"
    if problem:
        raise UserError(
            path,
            expected=f"a complete {KIND_NAMES[kind]}",
            found=f"a truncated or damaged one, {problem}",
            fix="Copy or convert it again.",
        )


def _check_encoding(path: Path, header: TextHeader) -> None:
    if header.encoding not in ("raw", *_DEFLATED, *_AS_TEXT):
        raise UserError(
            path,
            expected="voxels stored as raw, gzip, text or hex",
            found=f"the encoding '{header.encoding}'",
            fix="Convert the file, for example by 3D Slicer.",
        )


def _check_data_file(path: Path, header: TextHeader) -> None:
    data_path = header.data_path(path)
    if data_path is not None and not data_path.is_file():
        raise UserError(
            path,
            expected=f"its voxels in {data_path}",
            found="no such file",
            fix="Keep the two files together; their names belong together as well.",
        )


def _read_nrrd(file: BinaryIO) -> dict[str, str]:
    """Read `name: value` lines up to an empty one."""
    fields: dict[str, str] = {}
    if not file.readline(_LONGEST_LINE).startswith(_MAGIC):
        return fields
    for _ in range(_MOST_LINES):
        line = file.readline(_LONGEST_LINE)
        text = line.decode("latin-1").strip()
        if not text:
            break
        name, colon, value = text.partition(": ")
        if colon and not text.startswith("#"):
            fields[name.lower()] = value.strip()
    return fields


def _read_meta(file: BinaryIO) -> dict[str, str]:
    """Read `name = value` lines up to the one that names the data."""
    fields: dict[str, str] = {}
    for _ in range(_MOST_LINES):
        line = file.readline(_LONGEST_LINE)
        name, equals, value = line.decode("latin-1").partition("=")
        if not equals:
            break
        fields[name.strip().lower()] = value.strip()
        if name.strip().lower() == "elementdatafile":
            break
    return fields
