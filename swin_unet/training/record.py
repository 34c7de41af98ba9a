"""What a run writes down: metrics.csv, progress.png, log.txt and, by `board`, TensorBoard."""

from __future__ import annotations

import csv
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tqdm import tqdm

from swin_unet.config import UserError
from swin_unet.files import atomic_path, writable
from swin_unet.overlays import Picture
from swin_unet.training.board import Board
from swin_unet.training.progress import METRICS, Row, draw_progress

logger = logging.getLogger("swin_unet")
# What of metrics.csv depends on the machine and its load: all else is the same in every run.
TIMING_COLUMNS = (
    "train/seconds",
    "train/slices_per_second",
    "train/data_wait",
    "train/peak_memory_mb",
)


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Send the package's messages to the screen and, with the time, to a file."""
    with writable(path):
        file_handler = _LogFile(path, encoding="utf8")
    file_handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout), file_handler]
    logger.setLevel(logging.INFO)
    for handler in handlers:
        logger.addHandler(handler)
    try:
        yield
    except UserError as error:  # the screen is told by the command
        with suppress(UserError):  # the disk may be full
            file_handler.handle(logging.makeLogRecord({"msg": f"error: {error}"}))
        raise
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
        with writable(path):
            file_handler.close()


def epoch_bar(title: str, num_batches: int, position: int, is_shown: bool) -> Any:
    """Return a progress bar for a terminal, `position` batches done; none in a log file."""
    is_shown = is_shown and sys.stderr.isatty()
    return tqdm(desc=title, total=num_batches, initial=position, leave=False, disable=not is_shown)


@contextmanager
def silent() -> Iterator[None]:
    """Drop the package's messages: another process tells them."""
    handler = logging.NullHandler()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _LogFile(logging.FileHandler):
    """A log that ends the run on a full disk, as the run's other files do, not with a traceback."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802, logging's name
        with writable(self.baseFilename):
            raise


class Recorder:
    """Writes a run's numbers and pictures as they come.

    Args:
        folder: The run folder.
        config: The run's configuration, plain.
        after: Epochs done by the run that is continued, whose later rows are dropped; None: a new
            run.
        metric: Of the validation's score, see `progress.METRICS`.
    """

    def __init__(
        self, folder: Path, config: dict[str, Any], after: int | None, metric: str = "dice"
    ) -> None:
        self.folder = folder
        self.metric = metric
        rows = read_rows(folder / "metrics.csv") if after else []
        self.rows = [row for row in rows if row["epoch"] <= (after or 0)]
        self._write_csv()
        self._board = Board(folder / "tensorboard", after)
        if not self._board.continues:
            self._board.describe(config, metric)

    def close(self) -> None:
        """Flush and close TensorBoard's files."""
        self._board.close()

    def epoch(self, row: Row, pictures: dict[str, Picture]) -> None:
        """Record the numbers of an epoch under slash-separated names, and pictures by name."""
        self.rows.append(row)
        self._write_csv()
        values = {
            name: value
            for name, value in row.items()
            if name not in ("epoch", "step") and value is not None
        }
        self._board.write(row["epoch"], values, pictures)
        losses = [
            name
            for name in _columns(self.rows)
            if name.startswith("train/") and name not in TIMING_COLUMNS
        ]
        draw_progress(self.folder / "progress.png", self.rows, losses, self.metric)

    def _write_csv(self) -> None:
        if not self.rows:
            (self.folder / "metrics.csv").unlink(missing_ok=True)
            return
        columns = _columns(self.rows)
        with (
            atomic_path(self.folder / "metrics.csv") as path,
            path.open("w", newline="", encoding="utf8") as file,
        ):
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)


def read_rows(path: Path) -> list[Row]:
    """Read a metrics.csv back as numbers, None for empty cells; no file is no rows."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf8") as file:
        return [{key: _number(value) for key, value in row.items()} for row in csv.DictReader(file)]


def _number(text: str) -> float | int | None:
    if not text:
        return None
    return int(text) if text.isdecimal() else float(text)


def _columns(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def describe_epoch(
    row: Row, metric: str, num_epochs: int, validation_seconds: float, is_best: bool
) -> str:
    """Say in a line what came out of an epoch, how fast it was, and how long the rest may take.

    Args:
        row: Of metrics.csv.
        metric: Of the validation's score, see `progress.METRICS`.
        num_epochs: Of the run.
        validation_seconds: Time that the validation took.
        is_best: The validation was the best so far.
    """
    parts = [f"epoch {row['epoch']}/{num_epochs}", f"loss {row['train/loss']:.4f}"]
    score = row.get(f"{metric}/mean")
    if score is not None:
        parts.append(f"validation {METRICS[metric]} {score:.4f}{' (best)' if is_best else ''}")
    seconds = row["train/seconds"] + validation_seconds
    parts.append(f"{seconds:.1f} s, {row['train/slices_per_second']:.1f} slices/s")
    parts.append(f"{row['train/data_wait']:.0%} waiting for data")
    if row["train/peak_memory_mb"] is not None:
        parts.append(f"peak {row['train/peak_memory_mb'] / 1000:.2f} GB")
    if row["epoch"] < num_epochs:
        parts.append(f"about {duration(seconds * (num_epochs - row['epoch']))} left")
    return "  ".join(parts)


def duration(seconds: float) -> str:
    """Write a time for people."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"
