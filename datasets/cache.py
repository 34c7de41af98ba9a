"""Preprocessed slices on disk, made once per case and read slice by slice."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from datasets.cached import CachedCase, write_header
from datasets.cases import Case, Dataset, load_case, present_files
from swin_unet.config import UserError
from swin_unet.files import writable
from swin_unet.imaging import PreparedVolume, Preprocessing, Volume

CACHE_VERSION = 3
FILES = ("image.npy", "label.npy", "meta.json")
SLAB_SIZE = 8
SECONDS_PER_DAY = 86_400
_BUILDING = ".building"


def build_cache(
    cases: Sequence[Case],
    dataset: Dataset,
    preprocessing: Preprocessing,
    cache_dir: str | Path,
    progress: bool = True,
) -> list[CachedCase]:
    """Return the cached slices of every case, built where they are missing or out of date.

    An entry depends on the files' paths, sizes and times and on the preprocessing, not on the
    context slices. It appears whole by a rename, so processes may build at once and be killed.

    Raises:
        UserError: Any fault of a case's files, or no space left.
    """
    from tqdm import tqdm

    cache_dir = Path(cache_dir)
    with writable(cache_dir):
        cache_dir.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(cache_dir)
    single = replace(preprocessing, context_slices=1)
    disable = None if progress else True  # None: no bar unless stderr is a terminal
    bar = tqdm(cases, desc="caching slices", unit="case", file=sys.stderr, disable=disable)
    cached = [_cached_case(case, dataset, single, cache_dir) for case in bar]
    if progress:
        _report(cached, cache_dir)
    return cached


def _report(cached: Sequence[CachedCase], cache_dir: Path) -> None:
    num_slices = sum(case.num_slices for case in cached)
    size_mb = sum(case.num_bytes for case in cached) / 1e6
    print(
        f"{len(cached)} cases, {num_slices} slices, {size_mb:.1f} MB cached in {cache_dir}",
        file=sys.stderr,
    )


def _cached_case(
    case: Case, dataset: Dataset, preprocessing: Preprocessing, cache_dir: Path
) -> CachedCase:
    folder = cache_dir / f"{case.name}-{_key(case, dataset, preprocessing)}"
    meta = _read_meta(folder)
    if meta is None:
        with _building(folder) as temporary:
            _build_case(case, dataset, preprocessing, temporary)
        meta = _read_meta(folder)
        assert meta is not None
    height, width = meta["size"]
    return CachedCase(
        name=case.name,
        folder=folder,
        num_slices=meta["num_slices"],
        num_channels=meta["num_channels"],
        size=(height, width),
        label_dtype=meta["label_dtype"],
        slice_classes=tuple(map(tuple, meta["slice_classes"])),
    )


def _key(case: Case, dataset: Dataset, preprocessing: Preprocessing) -> str:
    """Hash everything that an entry depends on."""
    settings = preprocessing.to_dict()
    del settings["context_slices"]
    content = {
        "version": CACHE_VERSION,
        "files": [fingerprints(path) for path in dict.fromkeys((*case.images, *case.labels))],
        "preprocessing": settings,
        "num_channels": dataset.num_channels,
        "num_classes": dataset.num_classes,
        "label_values": dataset.label_values,
        "on_mismatch": dataset.on_mismatch,
        "stacked": case.stacked,
    }
    if dataset.images_only:
        content |= {"images_only": True, "num_classes": 0, "label_values": None}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def fingerprints(path: Path) -> list[Any]:
    """Tell a path of a case apart from others, and from itself once one of its files changes."""
    files = present_files(path)
    return [path.name, *(fingerprint(file) for file in files)]  # the name may be FOLDER#SERIES


def fingerprint(path: Path) -> list[str | int]:
    """Tell a file apart from others, and from itself once it changes: path, size, time.

    Raises:
        UserError: There is no such file.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise UserError(
            path,
            expected="a file of the data set",
            found=error.strerror or "an error",
            fix="Restore it, or remove its case from the data set.",
        ) from error
    return [str(path.resolve()), status.st_size, status.st_mtime_ns]


def _read_meta(folder: Path) -> dict[str, Any] | None:
    """Return what meta.json says, None unless the entry is whole."""
    try:
        meta: dict[str, Any] = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        sizes = {name: (folder / name).stat().st_size for name in FILES[:2]}
    except (OSError, ValueError):
        return None
    return meta if sizes == meta.get("bytes") else None


@contextmanager
def _building(folder: Path) -> Iterator[Path]:
    """Give a temporary folder that becomes `folder` at the end, unless another process was faster.

    The name tells whose it is, so that the leftovers of killed processes can be told apart.
    """
    owner = f"{socket.gethostname()}-{os.getpid()}"
    temporary = folder.parent / f"{_BUILDING}-{owner}-{secrets.token_hex(4)}"
    with writable(folder.parent):
        try:
            temporary.mkdir()
            yield temporary
            _publish(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _publish(temporary: Path, folder: Path) -> None:
    if folder.exists() and _read_meta(folder) is None:
        shutil.rmtree(folder, ignore_errors=True)  # damaged by hand
    try:
        temporary.rename(folder)
    except OSError:
        if _read_meta(folder) is None:
            raise


def _remove_leftovers(cache_dir: Path) -> None:
    """Remove the temporary folders of processes that are gone."""
    for folder in cache_dir.glob(f"{_BUILDING}-*"):
        host, process, _ = folder.name.removeprefix(f"{_BUILDING}-").rsplit("-", 2)
        if host == socket.gethostname():
            is_stale = not _is_running(int(process))
        else:  # no way to ask, but no case takes a day
            is_stale = _age_seconds(folder) > SECONDS_PER_DAY
        if is_stale:
            shutil.rmtree(folder, ignore_errors=True)


def _age_seconds(folder: Path) -> float:
    try:
        return time.time() - folder.stat().st_mtime
    except FileNotFoundError:  # its owner has just finished
        return 0.0


def _is_running(process: int) -> bool:
    """Say whether another process of this number runs; our own has nothing under way yet."""
    if process == os.getpid():
        return False
    if sys.platform == "win32":  # there os.kill would end it
        import ctypes

        handle = ctypes.windll.kernel32.OpenProcess(0x1000, False, process)
        ctypes.windll.kernel32.CloseHandle(handle)
        return bool(handle)
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _build_case(case: Case, dataset: Dataset, preprocessing: Preprocessing, folder: Path) -> None:
    image, label = load_case(case, dataset)
    prepared = preprocessing.prepare(image)
    del image
    _write_images(prepared, folder / "image.npy")
    slice_classes = _write_labels(prepared, label, folder / "label.npy")
    meta = {
        "case": case.name,
        "num_slices": prepared.num_slices,
        "num_channels": len(prepared.voxels),
        "size": list(prepared.input_size),
        "label_dtype": str(label.array.dtype),
        "slice_classes": slice_classes,
        "bytes": {name: (folder / name).stat().st_size for name in FILES[:2]},
        "images": [str(path) for path in case.images],
        "labels": [str(path) for path in case.labels],
        "preprocessing": preprocessing.to_dict(),
    }
    (folder / "meta.json").write_text(json.dumps(meta) + "\n", encoding="utf-8")


def _write_images(prepared: PreparedVolume, path: Path) -> None:
    shape = (prepared.num_slices, prepared.voxels.shape[0], *prepared.input_size)
    with path.open("wb") as file:
        write_header(file, shape, np.dtype(np.float16))
        for start, stop in _slabs(prepared.num_slices):
            file.write(prepared.slab(start, stop).half().numpy().tobytes())


def _write_labels(prepared: PreparedVolume, label: Volume, path: Path) -> list[list[int]]:
    """Write the label slices; return the classes that occur in each, background left out."""
    labels = prepared.to_working(label)
    slice_classes = []
    with path.open("wb") as file:
        write_header(file, (prepared.num_slices, *prepared.input_size), labels.dtype)
        for start, stop in _slabs(prepared.num_slices):
            slab = prepared.labels_slab(labels, start, stop)
            file.write(slab.tobytes())
            slice_classes += [np.unique(picture[picture > 0]).tolist() for picture in slab]
    return slice_classes


def _slabs(num_slices: int) -> Iterator[tuple[int, int]]:
    for start in range(0, num_slices, SLAB_SIZE):
        yield start, min(start + SLAB_SIZE, num_slices)
