""".ci/run: the browser that the report's tests need is there, or it says what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.browser import NAMES

ROOT = Path(__file__).resolve().parent.parent
MAKE = 'echo "make $* SWIN_UNET_REQUIRE_BROWSER=$SWIN_UNET_REQUIRE_BROWSER"'


def write_command(folder: Path, name: str, line: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    """Make a path of the few commands that the script needs; `make` says what it is told."""
    for name in ("bash", "dirname", "env", "chmod", "cp"):
        found = shutil.which(name)
        assert found is not None
        (tmp_path / name).symlink_to(found)
    write_command(tmp_path, "make", MAKE)
    write_command(tmp_path, "id", "echo 0")
    return tmp_path


def run_ci(commands: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(ROOT / ".ci" / "run")],
        env={"PATH": str(commands), **environment},
        capture_output=True,
        text=True,
    )


def write_apt_get(commands: Path, name: str) -> None:
    """An apt-get that notes how it is called and installs an empty program of this name."""
    line = f'echo "apt-get $*"; [ "$1" = update ] || cp {commands}/make {commands}/{name}'
    write_command(commands, "apt-get", line)


@pytest.mark.parametrize("name", NAMES)
def test_a_browser_that_is_there_is_used(commands: Path, name: str) -> None:
    write_command(commands, name, "")
    write_apt_get(commands, "chromium")
    done = run_ci(commands)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "make test SWIN_UNET_REQUIRE_BROWSER=1\n"


def test_a_named_browser_is_used(commands: Path, tmp_path: Path) -> None:
    write_command(tmp_path, "my-chrome", "")
    done = run_ci(commands, SWIN_UNET_BROWSER=str(tmp_path / "my-chrome"))
    assert done.stdout == "make test SWIN_UNET_REQUIRE_BROWSER=1\n"


def test_without_a_browser_debians_is_installed(commands: Path) -> None:
    write_apt_get(commands, "chromium")
    done = run_ci(commands)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1:] == [
        "apt-get update",
        "apt-get install --yes --no-install-recommends chromium",
        "make test SWIN_UNET_REQUIRE_BROWSER=1",
    ]


def test_who_is_not_root_asks_sudo_and_no_password(commands: Path) -> None:
    write_apt_get(commands, "chromium")
    write_command(commands, "id", "echo 1000")
    write_command(commands, "sudo", 'echo "sudo $1"; shift; exec "$@"')
    done = run_ci(commands)
    assert done.returncode == 0
    assert done.stdout.count("sudo -n\n") == 2


@pytest.mark.parametrize("apt_get", [None, "exit 100", "exit 0"])
def test_without_any_browser_it_says_what_to_do(commands: Path, apt_get: str | None) -> None:
    if apt_get is not None:
        write_command(commands, "apt-get", apt_get)
    done = run_ci(commands)
    assert done.returncode == 2
    assert "make test SWIN" not in done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: no Chromium found")
    assert "SWIN_UNET_BROWSER" in line


@pytest.mark.parametrize(("required", "expected"), [("", "1 skipped"), ("1", "1 error")])
def test_tests_without_a_browser_are_skipped_aloud_or_fail(required: str, expected: str) -> None:
    test = "tests/swin_unet/report/test_browser.py::test_a_report_of_failures_only_opens"
    environment = {**os.environ, "PATH": "", "SWIN_UNET_REQUIRE_BROWSER": required}
    environment.pop("SWIN_UNET_BROWSER", None)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", test, "-p", "no:cacheprovider"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert expected in done.stdout
    assert "no Chromium on the path" in done.stdout
    assert done.returncode == (1 if required else 0)
