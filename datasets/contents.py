"""Hashes of what is in the files of cases: a copy has the same, an edited file another."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from datasets.cache import fingerprint
from swin_unet.config import UserError
from swin_unet.files import atomic_path

RECORD = "contents.json"


def hash_contents(
    files: Mapping[str, Sequence[Path]], cache_dir: str | Path, progress: bool = True
) -> dict[str, str]:
    """Hash the names and the contents of every case's files.

    Files are read once: a record in the cache folder holds the hash for as long as their paths,
    sizes and times of change stay as they are.

    Args:
        files: Those of every case, by its name, see `files_of`.
        cache_dir: Holds the record.
        progress: Show a bar on a terminal.

    Raises:
        UserError: A file cannot be read.
    """
    from tqdm import tqdm

    record = Path(cache_dir) / RECORD
    known = _read_record(record)
    keys = {name: _hash([fingerprint(path) for path in paths]) for name, paths in files.items()}
    unknown = [name for name in files if keys[name] not in known]
    disable = None if progress else True  # None: no bar unless stderr is a terminal
    bar = tqdm(unknown, desc="hashing files", unit="case", file=sys.stderr, disable=disable)
    new = {keys[name]: _hash_files(files[name]) for name in bar}
    if new:
        with suppress(UserError):  # where nothing can be written, the files are read every time
            _write_record(record, known | new)
    return {name: (known | new)[key] for name, key in keys.items()}


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def _hash_files(paths: Sequence[Path]) -> str:
    return _hash([[path.name, _hash_file(path)] for path in paths])


def _hash_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(
            path,
            expected="a readable file of the data set",
            found=error.strerror or "an error",
            fix="Mend it, or remove its case from the data set.",
        ) from error


def _read_record(path: Path) -> dict[str, str]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # none yet, or damaged
        return {}
    return content if isinstance(content, dict) else {}


def _write_record(path: Path, content: dict[str, str]) -> None:
    """Write the record; of two processes that do so at once, the later one's is left."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=0) + "\n", encoding="utf-8")
