"""The Medical Segmentation Decathlon from the internet: download, check, unpack, or nothing."""

from __future__ import annotations

import argparse
import difflib
import logging
import os
import shutil
import socket
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError

from swin_unet.config import UserError
from swin_unet.files import make_folder, writable

_TIMEOUT_SECONDS = 60
_NETWORK_ERRORS = (URLError, ConnectionError, TimeoutError, HTTPException)


@dataclass(frozen=True)
class Archive:
    """A task on the server.

    Attributes:
        task: Its name, which is also the folder in the archive.
        url: Of a .tar file.
        md5: Its checksum.
    """

    task: str
    url: str
    md5: str


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and download a task."""
    arguments = _parser().parse_args(argv)
    archive = find_archive(arguments.task)
    target = arguments.folder / archive.task
    if (target / "dataset.json").is_file():
        print(f"{target} is there already; nothing to do")
    else:
        print(f"downloading {archive.url}")
        download(archive, arguments.folder)
        print(f"{target}: ready, its checksum is right; use it as --data.root {target}")
    return 0


def find_archive(task: str) -> Archive:
    """Return where a task is; the addresses and checksums are MONAI's.

    Raises:
        UserError: There is no such task.
    """
    from monai.apps import DecathlonDataset

    urls: Mapping[str, str] = DecathlonDataset.resource
    if task not in urls:
        by_lower_name = {name.lower(): name for name in urls}
        nearest = difflib.get_close_matches(task.lower(), by_lower_name, n=1, cutoff=0.5)
        hint = f" Did you mean `{by_lower_name[nearest[0]]}`?" if nearest else ""
        raise UserError(
            "task",
            expected=f"one of {', '.join(urls)}",
            found=task,
            fix=f"Correct the name.{hint}",
        )
    return Archive(task, urls[task], DecathlonDataset.md5[task])


def download(archive: Archive, folder: Path) -> Path:
    """Download and unpack a task; `folder`/TASK appears complete or not at all.

    An archive that lies in `folder` already, fetched by hand, is used and kept.

    Returns:
        The folder of the data set.

    Raises:
        UserError: No connection, a damaged or unsafe archive, a full disk, or an existing target.
    """
    target = folder / archive.task
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(
            target,
            expected="no such folder, or an empty one",
            found="other things in its place",
            fix="Move them away, or give another folder; they are left alone.",
        )
    with _staging(folder, archive) as staging, writable(folder):
        by_hand = folder / _file_name(archive)
        path = by_hand if by_hand.is_file() else staging / _file_name(archive)
        _fetch(archive, path, by_hand)
        os.replace(_unpack(archive, path, staging / "content"), target)
    return target


@contextmanager
def _staging(folder: Path, archive: Archive) -> Iterator[Path]:
    """Give a hidden folder inside `folder`; afterwards only what was moved out of it is left."""
    is_new = not folder.exists()
    make_folder(folder)
    staging = Path(tempfile.mkdtemp(prefix=f".{archive.task}-", dir=folder))
    try:
        yield staging
    finally:
        shutil.rmtree(staging)
        if is_new and not any(folder.iterdir()):
            folder.rmdir()


def _fetch(archive: Archive, path: Path, by_hand: Path) -> None:
    """Download the archive to `path` unless it is there, and check it."""
    from monai.apps.utils import HashCheckError, download_url

    try:
        with _large_files_in(path.parent), _quiet():
            download_url(archive.url, path, hash_val=archive.md5, hash_type="md5")
    except HashCheckError as error:
        raise UserError(
            path if path == by_hand else archive.url,
            expected=f"an archive with the MD5 sum {archive.md5}",
            found="another one",
            fix=f"The file is damaged. Remove it if {by_hand} is yours, and try again.",
        ) from error
    except _NETWORK_ERRORS as error:
        raise _offline(archive, by_hand, error) from error
    if not path.is_file():  # MONAI passes over a refusal to write
        raise UserError(
            path, expected="a place to write to", found="none", fix="Choose another folder."
        )


def _offline(archive: Archive, by_hand: Path, error: Exception) -> UserError:
    reason = getattr(error, "reason", error)
    if isinstance(error, HTTPError):
        reason = error
        error.close()  # it is the server's answer, too
    return UserError(
        archive.url,
        expected="the file from the server",
        found=f"none ({reason})",
        fix=f"Check the connection, or fetch this file elsewhere, put it at {by_hand}, and say "
        "this again.",
    )


def _unpack(archive: Archive, path: Path, folder: Path) -> Path:
    """Unpack the archive and return the folder of its data set."""
    from monai.apps.utils import extractall

    try:
        with _quiet():
            extractall(path, folder, file_type="tar", has_base=False)
    except (ValueError, tarfile.TarError, EOFError) as error:  # ValueError: paths that lead out
        raise UserError(
            path.name,
            expected="an archive of files below its own folder",
            found=str(error),
            fix="Do not trust this file; take it from another source.",
        ) from error
    unpacked = folder / archive.task
    if not (unpacked / "dataset.json").is_file():
        raise UserError(
            path.name,
            expected=f"{archive.task}/dataset.json in the archive",
            found="none",
            fix="Unpack it by hand and give the folder that holds dataset.json as --data.root.",
        )
    return unpacked


@contextmanager
def _large_files_in(folder: Path) -> Iterator[None]:
    """Let MONAI download beside the target: the system's temporary folder may be too small.

    A connection that says nothing for long is given up meanwhile.
    """
    before = tempfile.tempdir, socket.getdefaulttimeout()
    tempfile.tempdir = str(folder)
    socket.setdefaulttimeout(_TIMEOUT_SECONDS)
    try:
        yield
    finally:
        tempfile.tempdir = before[0]
        socket.setdefaulttimeout(before[1])


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep MONAI's log from the screen: what matters becomes one message of ours."""
    logger = logging.getLogger("monai.apps")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


def _file_name(archive: Archive) -> str:
    return f"{archive.task}.tar"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m datasets.decathlon",
        description="Get data sets of the Medical Segmentation Decathlon.",
    )
    commands = parser.add_subparsers(required=True, metavar="download")
    command = commands.add_parser("download", help="download, check and unpack a task")
    command.add_argument("task", help="such as Task04_Hippocampus")
    command.add_argument("folder", type=Path, help="where to put the task's folder")
    return parser
