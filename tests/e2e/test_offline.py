"""Nothing asks the network: training, segmenting and scoring with sockets blocked."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Imported by the interpreter before anything else: local sockets only, and no names.
BLOCK = """
import os, socket

class Blocked(socket.socket):
    def __init__(self, family=-1, *arguments, **options):
        if family not in (socket.AF_UNIX,):
            _refuse(f"socket of family {family}")
        super().__init__(family, *arguments, **options)

def _refuse(what, *arguments, **options):
    with open(os.environ["BLOCKED_CALLS"], "a") as file:
        file.write(f"{what}\\n")
    raise OSError(f"no network in this test: {what}")

socket.socket = Blocked
for name in ("create_connection", "getaddrinfo", "gethostbyname"):
    setattr(socket, name, lambda *arguments, _name=name, **options: _refuse(_name))
"""


@pytest.fixture
def offline(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a Python command without sockets; what it asked for is in calls.txt."""
    (tmp_path / "block").mkdir()
    (tmp_path / "block" / "sitecustomize.py").write_text(BLOCK)
    calls = tmp_path / "calls.txt"
    calls.touch()

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        environment = {
            **{key: value for key, value in os.environ.items() if "NO_ALBUM" not in key},
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": f"{tmp_path / 'block'}{os.pathsep}{ROOT}",
            "BLOCKED_CALLS": str(calls),
        }
        command = [sys.executable, *map(str, arguments)]
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )

    return run


def test_the_block_blocks(offline, tmp_path: Path) -> None:
    code = "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9')"
    done = offline("-c", code)
    assert done.returncode == 1
    assert "no network in this test" in done.stderr
    assert (tmp_path / "calls.txt").read_text()


def test_train_segment_and_score_without_network(
    offline, config: Path, data: Path, tmp_path: Path
) -> None:
    run, output = tmp_path / "run", tmp_path / "out"
    for command in (
        ("train.py", "--config", config, "--output_dir", run, "--train.epochs", "1"),
        (
            *("infer.py", "--checkpoint", run / "best.pt", "--input", data / "imagesTr"),
            *("--labels", data / "labelsTr", "--output", output, "--entropy"),
        ),
        ("-m", "swin_unet.evaluation", output, data / "labelsTr", "--output", tmp_path / "scores"),
    ):
        done = offline(*command)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "calls.txt").read_text() == ""
    assert (output / "metrics.json").is_file()
    assert (tmp_path / "scores" / "metrics.json").is_file()
