"""Files that appear whole or not at all, and folders."""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from swin_unet.config import UserError

_FULL = frozenset({errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)})
_REFUSED = frozenset({
    errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.EEXIST,
    errno.ENAMETOOLONG,
})  # fmt: skip


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path in the same folder that becomes `path` when the block ends well.

    The folder is made if it is missing. When the block raises, the temporary file is removed.

    Raises:
        UserError: The disk is full or the file cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{secrets.token_hex(8)}{''.join(path.suffixes[-2:])}")
    with writable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def writable(path: str | Path) -> Iterator[None]:
    """Turn the disk's refusal to write at `path` into a UserError; other errors pass."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            fix = "Free some space or write elsewhere."
        elif error.errno in _REFUSED:
            fix = "Change its permissions or write elsewhere."
        else:
            raise
        raise UserError(
            path, expected="a place to write to", found=os.strerror(error.errno or 0), fix=fix
        ) from error


def remove_leftovers(folder: Path) -> None:
    """Remove what a process that was killed while writing left in a folder."""
    for path in folder.glob("." + "[0-9a-f]" * 16 + "*"):
        path.unlink(missing_ok=True)


def make_folder(path: Path) -> Path:
    """Make a folder and its parents, and check that files can be written there.

    Raises:
        UserError: When they cannot.
    """
    if path.exists() and not path.is_dir():
        raise UserError(path, expected="a folder", found="a file", fix="Choose another name.")
    with writable(path):
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".{secrets.token_hex(8)}"
        probe.touch()
        probe.unlink()
    return path


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        UserError: Missing file, or not a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(
            path, expected="a JSON file", found=error.strerror or "none", fix="Check the path."
        ) from error
    except ValueError as error:
        raise UserError(
            path, expected="valid JSON", found=str(error), fix="Correct the file."
        ) from error
    if not isinstance(content, dict):
        raise UserError(
            path,
            expected="a JSON object",
            found=type(content).__name__,
            fix="Put braces and keys around it.",
        )
    return content
