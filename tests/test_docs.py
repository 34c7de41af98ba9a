"""The examples of the documentation run and print what they say."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
PAGES = ["layers.md", "models.md"]
MODULES = [
    "swin_unet.layers.mgff",
    "swin_unet.layers.swin_t",
    "swin_unet.models.resnet",
    "swin_unet.models.unet",
]


def code_of(page: str) -> str:
    """Join the Python blocks of a page, with empty lines between, so that line numbers are its."""
    lines, in_code = [], False
    for line in page.splitlines():
        if line.startswith("```"):
            in_code = line == "```python"
            line = ""
        lines.append(line if in_code else "")
    return "\n".join(lines)


def promised(code: str) -> list[str]:
    """List what the code says it prints: comments behind a print, or alone in the lines below."""
    pattern = re.compile(r"^ *print\(.*\)(?:  # (.+)|((?:\n +# .+)+))$", re.MULTILINE)
    found = []
    for match in pattern.finditer(code):
        found += [match[1]] if match[1] else re.findall("# (.+)", match[2])
    return found


@pytest.mark.parametrize("name", PAGES)
def test_examples_of_the_pages_print_what_they_say(name: str) -> None:
    path = ROOT / "docs" / name
    code = code_of(path.read_text(encoding="utf8"))
    printed: list[str] = []
    namespace = {"print": lambda *values: printed.append(" ".join(map(str, values)))}
    torch.manual_seed(0)
    exec(compile(code, path, "exec"), namespace)
    assert printed == promised(code)
    assert printed


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_the_docstrings(name: str) -> None:
    outcome = doctest.testmod(importlib.import_module(name))
    assert outcome.attempted > 0
    assert outcome.failed == 0


def test_examples_are_found() -> None:
    page = "text\n```python\nprint(1)  # 1\n```\n```\nno code\n```\n```python\nf(2)\n```"
    code = code_of(page)
    assert code.splitlines() == ["", "", "print(1)  # 1", "", "", "", "", "", "f(2)"]
    assert promised(code) == ["1"]
    assert promised("for x in y:\n    print(x)\n    # 1\n    # 2\n") == ["1", "2"]
