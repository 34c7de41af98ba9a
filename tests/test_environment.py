"""One set of versions: pyproject.toml, requirements.lock and environment.yml agree."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
# What only the CUDA build of torch brings, at the versions that its metadata pins.
CUDA_PACKAGES = re.compile(r"nvidia-.*|cuda-.*|triton")


def _lock() -> dict[str, str]:
    pins = {}
    for line in (ROOT / "requirements.lock").read_text(encoding="utf8").splitlines():
        if line and not line.startswith("#"):
            name, version = line.split("==")
            assert canonicalize_name(name) not in pins, f"{name} is pinned twice"
            pins[canonicalize_name(name)] = version
    return pins


def _project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf8"))["project"]


def _project_requirements() -> list[Requirement]:
    project = _project()
    optional = [line for group in project["optional-dependencies"].values() for line in group]
    return [Requirement(line) for line in (*project["dependencies"], *optional)]


@pytest.mark.parametrize("requirement", _project_requirements(), ids=lambda item: item.name)
def test_every_dependency_is_pinned_at_an_admissible_version(requirement: Requirement) -> None:
    pinned = _lock().get(canonicalize_name(requirement.name))
    assert pinned is not None, f"{requirement.name} is missing in requirements.lock"
    assert requirement.specifier.contains(pinned)


def test_the_lock_is_exact_and_for_every_platform() -> None:
    for name, version in _lock().items():
        assert Version(version).local is None, f"{name}=={version} exists for one platform only"


def test_the_lock_pins_what_its_packages_need() -> None:
    pins = _lock()
    missing = {}
    for name in pins:
        for line in importlib.metadata.requires(name) or []:
            needed = Requirement(line)
            applies = needed.marker is None or needed.marker.evaluate({"extra": ""})
            other = canonicalize_name(needed.name)
            if applies and other not in pins and not CUDA_PACKAGES.fullmatch(other):
                missing[other] = name
    assert missing == {}


def test_conda_environment_installs_the_lock() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf8"))
    project = _project()
    conda = [item for item in environment["dependencies"] if isinstance(item, str)]
    (pip,) = [item["pip"] for item in environment["dependencies"] if isinstance(item, dict)]
    assert environment["name"] == project["name"]
    assert pip == ["-r requirements.lock"]
    python = Requirement(next(item for item in conda if item.startswith("python")))
    assert python.specifier == SpecifierSet(project["requires-python"])
    # Whatever else conda installs would compete with the lock.
    assert {Requirement(item).name for item in conda} == {"python", "pip"}


def test_the_make_file_installs_the_lock_with_the_same_python() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf8")
    minimum = _project()["requires-python"].removeprefix(">=")
    assert "-r requirements.lock" in makefile
    assert f"sys.version_info < ({minimum.replace('.', ', ')})" in makefile
