"""What a run writes down: metrics.csv, TensorBoard, progress.png and log.txt."""

from __future__ import annotations

import csv
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from swin_unet.files import atomic_path, writable

logger = logging.getLogger("swin_unet")
Row = dict[str, Any]


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
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
        with writable(path):
            file_handler.close()


class _LogFile(logging.FileHandler):
    """A log that ends the run on a full disk, as the run's other files do, not with a traceback."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802, logging's name
        with writable(self.baseFilename):
            raise


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


class Recorder:
    """Writes a run's numbers and pictures as they come.

    Args:
        folder: The run folder.
        epoch: Epochs already done; later rows of an interrupted run are dropped.
    """

    def __init__(self, folder: Path, epoch: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.folder = folder
        rows = read_rows(folder / "metrics.csv") if epoch else []
        self.rows = [row for row in rows if row["epoch"] <= epoch]
        self._board_path = folder / "tensorboard"
        with _board_writable(self._board_path):
            self._board = SummaryWriter(str(self._board_path), purge_step=epoch + 1)

    def close(self) -> None:
        """Flush and close TensorBoard's files."""
        with _board_writable(self._board_path):
            self._board.close()

    def epoch(self, row: Row, pictures: dict[str, np.ndarray[Any, Any]]) -> None:
        """Record the numbers of an epoch under slash-separated names, and pictures by name."""
        self.rows.append(row)
        self._write_csv()
        with _board_writable(self._board_path):
            self._write_board(row, pictures)
        self._draw_progress()

    def _write_board(self, row: Row, pictures: dict[str, np.ndarray[Any, Any]]) -> None:
        for name, value in row.items():
            if name not in ("epoch", "step") and value is not None:
                self._board.add_scalar(name, value, row["epoch"])
        for name, picture in pictures.items():
            tag = f"image, reference, prediction/{name}"
            self._board.add_image(tag, picture, row["epoch"], dataformats="HWC")
        self._board.flush()

    def _write_csv(self) -> None:
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        with (
            atomic_path(self.folder / "metrics.csv") as path,
            path.open("w", newline="", encoding="utf8") as file,
        ):
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)

    def _draw_progress(self) -> None:
        """Draw the losses above the Dice of every class."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 8), layout="constrained")
        top, bottom = figure.subplots(2, 1, sharex=True)
        for name in ("loss", "ce", "dice"):
            self._plot(top, f"train/{name}", name)
        validation = [name for name in _columns(self.rows) if name.startswith("dice/")]
        for name in validation:
            style = {"color": "black", "linewidth": 2.5} if name == "dice/mean" else {}
            self._plot(bottom, name, name.removeprefix("dice/"), **style)
        top.set(ylabel="training loss", title=self.folder.name)
        bottom.set(ylabel="validation Dice", xlabel="epoch", ylim=(0, 1))
        for axes in (top, bottom):
            axes.grid(alpha=0.3)
            if axes.lines:
                axes.legend(fontsize="small", ncols=2)
        with atomic_path(self.folder / "progress.png") as path:
            figure.savefig(path, dpi=100, format="png")

    def _plot(self, axes: Any, name: str, label: str, **style: Any) -> None:
        points = [(row["epoch"], row[name]) for row in self.rows if row.get(name) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, **style)


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
