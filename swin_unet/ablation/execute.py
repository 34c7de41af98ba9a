"""Run the trainings of a study as processes that outlive nothing and repeat nothing."""

from __future__ import annotations

import fcntl
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import yaml

from swin_unet.ablation.plan import PlannedRun
from swin_unet.files import atomic_path, make_folder

CONFIG_FILE, OUTPUT_FILE, LOCK_FILE = "planned.yaml", "output.txt", "lock"
RESULT_FILE = "test_metrics.json"
_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        run: Which one.
        error: The last line it wrote, None when it is done.
        seconds: Spent now, 0 when it was done before.
    """

    run: PlannedRun
    error: str | None
    seconds: float


def is_done(run: PlannedRun) -> bool:
    """Tell whether a run is trained and tested to its end."""
    try:
        content = json.loads((run.folder / "run.json").read_text(encoding="utf8"))
    except (OSError, ValueError):
        return False
    return bool(content.get("finished")) and (run.folder / RESULT_FILE).is_file()


class Executor:
    """Runs trainings, several at a time, and stops them all when it is stopped.

    Args:
        command: What trains: an interpreter and a script.
        jobs: How many at a time.
        report: Called with every outcome, one call at a time.
    """

    def __init__(
        self, command: Sequence[str], jobs: int, report: Callable[[Outcome], None]
    ) -> None:
        self.command = list(command)
        self.jobs = jobs
        self.report = report
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._mutex = threading.Lock()
        self._stopping = False

    def run(self, runs: Sequence[PlannedRun]) -> list[Outcome]:
        """Train what is missing; a failed run does not stop the others.

        Raises:
            KeyboardInterrupt: After the trainings were told to save and to stop.
        """
        with ThreadPoolExecutor(self.jobs) as pool:
            futures = [pool.submit(self._train, run) for run in runs]
            try:
                return [future.result() for future in futures]
            except BaseException:
                self._stop()
                for future in futures:
                    future.cancel()
                raise

    def _stop(self) -> None:
        """Tell the trainings to save; they end by themselves."""
        with self._mutex:
            self._stopping = True
            for process in self._processes:
                process.send_signal(signal.SIGTERM)

    def _train(self, run: PlannedRun) -> Outcome:
        make_folder(run.folder)
        with locked(run.folder / LOCK_FILE) as lock:
            outcome = Outcome(run, None, 0.0) if is_done(run) else self._start(run, lock)
        with self._mutex:
            self.report(outcome)
        return outcome

    def _start(self, run: PlannedRun, lock: IO[str]) -> Outcome:
        with atomic_path(run.folder / CONFIG_FILE) as path:
            path.write_text(yaml.safe_dump(run.config, sort_keys=False), encoding="utf8")
        started = time.monotonic()
        arguments = [
            "--config", str(run.folder / CONFIG_FILE), "--output_dir", str(run.folder),
            "--resume", "auto",
        ]  # fmt: skip
        with (run.folder / OUTPUT_FILE).open("ab") as output, self._mutex:
            if self._stopping:
                return Outcome(run, "stopped before it began", 0.0)
            process = subprocess.Popen(
                [*self.command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # The lock lives as long as the training, even if this process is killed.
                pass_fds=[lock.fileno()],
                start_new_session=True,  # Ctrl-C reaches it through us, once
            )
            self._processes.add(process)
        code = process.wait()
        with self._mutex:
            self._processes.discard(process)
        error = None if code == 0 and is_done(run) else _last_words(run.folder, code)
        return Outcome(run, error, time.monotonic() - started)


@contextmanager
def locked(path: Path) -> Iterator[IO[str]]:
    """Hold a run folder; wait while the training of a study that was killed still runs there."""
    with path.open("a", encoding="utf8") as file:
        waiting = False
        while not _try_lock(file):
            if not waiting:
                print(f"{path.parent}: waiting for the process that trains here", file=sys.stderr)
            waiting = True
            time.sleep(_POLL_SECONDS)
        yield file  # closing the last descriptor, ours or the training's, frees it


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _last_words(folder: Path, code: int) -> str:
    text = (folder / OUTPUT_FILE).read_text(encoding="utf8", errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    words = lines[-1] if lines else "no output"
    return f"exit code {code}: {words}"


def measured(run: PlannedRun) -> dict[str, Any]:
    """Return what a finished run wrote about its results.

    Returns:
        The content of test_metrics.json: `best` and `last`, each a summary as in metrics.json.
    """
    content: dict[str, Any] = json.loads((run.folder / RESULT_FILE).read_text(encoding="utf8"))
    return content
