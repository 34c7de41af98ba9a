"""TensorBoard: curves, pictures and hyper-parameters, in files that hold every point once."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from swin_unet.files import atomic_path, remove_leftovers, writable
from swin_unet.overlays import Picture


class Board:
    """Writes TensorBoard's files of a run.

    Args:
        folder: Where they are; made if missing.
        after: Keep what is there up to this step, and drop the rest; None: drop everything.

    Attributes:
        continues: Something was there and is kept.
    """

    def __init__(self, folder: Path, after: int | None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.folder = folder
        with writable(folder):
            self.continues = cut_back(folder, -1 if after is None else after)
        with _board_writable(folder):
            self._writer = SummaryWriter(str(folder))

    def close(self) -> None:
        """Flush and close the files."""
        with _board_writable(self.folder):
            self._writer.close()

    def write(self, step: int, values: dict[str, float], pictures: dict[str, Picture]) -> None:
        """Add numbers, and pictures (H, W, 3) uint8, by name."""
        with _board_writable(self.folder):
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)
            for name, picture in pictures.items():
                self._writer.add_image(name, picture, step, dataformats="HWC")
            self._writer.flush()

    def describe(self, config: dict[str, Any], metric: str) -> None:
        """Add the configuration, as text and for the tab of hyper-parameters.

        Args:
            config: Plain.
            metric: Of the validation's score, shown in that tab beside the loss.
        """
        from torch.utils.tensorboard.summary import hparams

        values = {key: _simple(value) for key, value in flatten(config)}
        text = "    " + yaml.safe_dump(config, sort_keys=False).replace("\n", "\n    ")
        with _board_writable(self.folder):
            self._writer.add_text("config", text, 0)
            # SummaryWriter.add_hparams would show them as a run of its own.
            for summary in hparams(values, {f"{metric}/mean": 0.0, "train/loss": 0.0}):
                self._writer._get_file_writer().add_summary(summary, 0)
            self._writer.flush()


def flatten(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted keys and the values of a nested configuration."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _simple(value: Any) -> bool | int | float | str:
    return value if isinstance(value, bool | int | float | str) else str(value)


def cut_back(folder: Path, last_step: int) -> bool:
    """Rewrite the event files of a folder as one, without the points after a step.

    Killed at any moment, it leaves files of which the next call makes the same.

    Returns:
        Whether anything is left.
    """
    remove_leftovers(folder)
    paths = sorted(folder.glob("*tfevents*"))
    records = _records_up_to(paths, last_step) if last_step >= 0 else []
    kept = paths[:1] if records else []
    if kept:
        _write_records(kept[0], records)
    for path in paths[len(kept) :]:
        path.unlink(missing_ok=True)
    return bool(records)


def _records_up_to(paths: Iterable[Path], last_step: int) -> list[bytes]:
    """Return a version record and every summary up to a step once, in the order of the steps."""
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event

    version: list[bytes] = []
    points: list[tuple[int, bytes]] = []
    seen: set[bytes] = set()
    for path in paths:
        for record in RawEventFileLoader(str(path)).Load():
            event = Event.FromString(record)
            digest = hashlib.sha256(record).digest()
            if event.HasField("file_version"):
                version = version or [record]
            elif event.HasField("summary") and event.step <= last_step and digest not in seen:
                seen.add(digest)
                points.append((event.step, record))
    points.sort(key=lambda point: point[0])
    return [*version, *(record for _, record in points)] if points else []


def _write_records(path: Path, records: Iterable[bytes]) -> None:
    from tensorboard.summary.writer.record_writer import RecordWriter

    with atomic_path(path) as temporary, temporary.open("wb") as file:
        writer = RecordWriter(file)
        for record in records:
            writer.write(record)


@contextmanager
def _board_writable(path: Path) -> Iterator[None]:
    """Turn TensorBoard's failure to write into a UserError.

    Its thread hands errors on to us, but only after they were printed with their traceback.
    """
    previous = threading.excepthook

    def print_others(error: threading.ExceptHookArgs) -> None:
        if not issubclass(error.exc_type, OSError):
            previous(error)

    threading.excepthook = print_others
    try:
        with writable(path):
            yield
    finally:
        threading.excepthook = previous
