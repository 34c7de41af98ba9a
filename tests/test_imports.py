"""Who imports whom, and what the commands import before they have work to do."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(path for name in ("swin_unet", "datasets") for path in (ROOT / name).rglob("*.py"))
HEAVY = {"SimpleITK", "albumentations", "h5py", "matplotlib", "monai", "tensorboard", "torch"}

# What every part of this table may import on top of its row.
BASE = {"config", "files"}
# Part of swin_unet, or the package datasets -> the other parts that it may import.
MAY_IMPORT: dict[str, set[str]] = {
    "models": {"layers"},
    "imaging": {"__init__"},  # the version, in what it writes
    "devices": set(),
    "argument_types": set(),
    "compiled": {"devices"},
    "checkpoint": {"models"},
    "inference": {"imaging", "models", "checkpoint", "devices", "compiled"},
    "two_stage": {"imaging", "models", "checkpoint", "inference"},
    "evaluation": {"imaging", "metrics", "argument_types"},
    "two_looks": {"imaging", "models", "classifying", "overlays"},
    "class_inference": {
        "batch",  # the command line
        "imaging",
        "classifying",
        "checkpoint",
        "class_metrics",
        "confusion",
        "onnx_backend",
        "overlays",
        "provenance",
        "training",  # torchrun's processes, and tables
        "two_looks",
    },
    "classifying": {"imaging", "models", "checkpoint", "devices"},
    "training": {
        "models",
        "losses",
        "checkpoint",
        "inference",
        "classifying",
        "class_metrics",
        "confusion",
        "masks",
        "evaluation",
        "imaging",  # validation hands volumes to the Segmenter
        "overlays",
        "devices",
        "compiled",
        "provenance",
    },
    "batch": {
        "argument_types",
        "imaging",
        "inference",
        "evaluation",
        "statistics",
        "two_stage",
        "onnx_backend",
    },
    "provenance": {"__init__"},  # the version
    "report": {"imaging"},
    "ablation": {
        "inference",  # the pictures of one case under every setting
        "imaging",
        "overlays",
    },
    "export": {"checkpoint", "provenance", "onnx_backend", "bundle"},
    "bundle": {"models", "imaging", "checkpoint", "inference", "__init__"},
    "onnx_backend": {"imaging", "inference", "classifying", "devices"},
    "statistics": set(),
    "overlays": set(),
    "datasets": {"cli", "imaging", "masks", "overlays"},
    "cli": {"config_rules"},
    "__init__": {"layers", "models", "inference"},  # the public names, lazily
}
MAY_IMPORT = {
    **{part: allowed | BASE for part, allowed in MAY_IMPORT.items()},
    **{
        part: set()
        for part in ("layers", "losses", "metrics", "class_metrics", "confusion", "masks", "config")
    },
    "config_rules": {"config", "task_rules"},
    "task_rules": {"config"},
    "files": {"config"},
}


def _module(path: Path) -> str:
    """Return the dotted name of a file."""
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


MODULES = {_module(path) for path in FILES}


def _part(module: str) -> str:
    """Return the row of the table that a module belongs to."""
    package, *rest = module.split(".")
    if package == "datasets":
        return package
    return rest[0] if rest else "__init__"


def _is_command(node: ast.stmt) -> bool:
    """Tell whether this is `main`, or what runs it: there any module may use the command line."""
    if isinstance(node, ast.FunctionDef):
        return node.name == "main"
    return isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"


def _our_imports(statements: Iterable[ast.stmt]) -> set[str]:
    """List the modules of ours that are imported anywhere in these statements."""
    modules: set[str] = set()
    for node in (node for statement in statements for node in ast.walk(statement)):
        if isinstance(node, ast.Import):
            modules.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide who imports whom"
            assert node.module is not None
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            modules.update(names & MODULES or {node.module})
    return {name for name in modules if name.split(".")[0] in ("swin_unet", "datasets")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_follow_the_table(path: Path) -> None:
    """No row of swin_unet lists `datasets`: the wheel does not have it."""
    part = _part(_module(path))
    assert part in MAY_IMPORT, f"give {part} a row in MAY_IMPORT"
    body = ast.parse(path.read_text(encoding="utf8")).body
    imported = _our_imports(node for node in body if not _is_command(node))
    assert {_part(module) for module in imported} - {part} <= MAY_IMPORT[part]
    by_command = _our_imports(node for node in body if _is_command(node))
    assert {_part(module) for module in by_command} - {part} <= MAY_IMPORT[part] | {"cli"}


def test_imports_are_found_wherever_they_are() -> None:
    """A search that found nothing would pass the test above."""
    code = """
        import swin_unet.config
        if TYPE_CHECKING:
            from swin_unet import checkpoint
        def f():
            from datasets.cases import Case
            import torch
    """
    expected = {"swin_unet.config", "swin_unet.checkpoint", "datasets.cases"}
    assert _our_imports(ast.parse(dedent(code)).body) == expected


def _heavy_modules(code: str) -> set[str]:
    """Run code in a new interpreter; return the heavy packages that it has imported."""
    report = (
        f"import atexit, sys; atexit.register(lambda: print('\\n', *{HEAVY} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{report}\n{code}"],
        cwd=ROOT,
        capture_output=True,
        encoding="utf8",
        check=True,
    )
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "module", ["swin_unet", "swin_unet.cli", "swin_unet.config", "datasets", "datasets.phantom"]
)
def test_light_modules_import_nothing_heavy(module: str) -> None:
    assert _heavy_modules(f"import {module}") == set()


@pytest.mark.parametrize(
    "command",
    [
        "train.py",
        "infer.py",
        "datasets.check",
        "datasets.decathlon",
        "datasets.fingerprint",
        "datasets.phantom",
        "datasets.preview",
        "datasets.synapse",
        "swin_unet.evaluation",
        "swin_unet.export",
        "swin_unet.models.complexity",
        "swin_unet.report",
    ],
)
def test_help_imports_nothing_heavy(command: str) -> None:
    start = "run_path" if command.endswith(".py") else "run_module"
    code = (
        f"import runpy; sys.argv = [{command!r}, '--help']; "
        f"runpy.{start}({command!r}, run_name='__main__')"
    )
    assert _heavy_modules(code) == set()


def test_heavy_imports_are_noticed() -> None:
    assert "matplotlib" in _heavy_modules("import matplotlib")
