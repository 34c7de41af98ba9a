"""Studies: named settings of configuration options, from a file or from `--vary`."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from swin_unet.config import UserError

_KEYS = {"title", "baseline", "settings", "published"}


@dataclass(frozen=True)
class Setting:
    """One column of a study.

    Attributes:
        name: How tables and plots call it.
        overrides: Dotted configuration keys and their values.
    """

    name: str
    overrides: Mapping[str, Any]


@dataclass(frozen=True)
class Published:
    """Numbers of a paper, shown beside ours where the data set is the same.

    Attributes:
        source: Where they come from.
        data: The `data.name` they belong to.
        dice: Setting's name to Dice per class, `mean` among them, in [0, 1].
    """

    source: str
    data: str
    dice: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Study:
    """What is compared.

    Attributes:
        name: Of the study and its folder.
        title: Heads the tables.
        settings: In the order of the table.
        baseline: Name of the setting that the others are tested against.
        published: The paper's numbers, None where there are none.
    """

    name: str
    title: str
    settings: tuple[Setting, ...]
    baseline: str
    published: Published | None = field(default=None)


def load_study(name: str, folder: Path) -> Study:
    """Read a study file.

    Args:
        name: Of a file in `folder`, with or without .yaml, or a path.
        folder: The studies that are shipped.

    Raises:
        UserError: No such study, or a file that is not one.
    """
    candidates = [Path(name), folder / name, folder / f"{name}.yaml"]
    path = next((path for path in candidates if path.is_file()), None)
    if path is None:
        known = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
        raise UserError(
            f"study {name}",
            expected=f"a file, or one of {known}",
            found="neither",
            fix="Name one of these, or give --vary KEY=VALUE,VALUE.",
        )
    return parse_study(path.stem, _read(path), path)


def parse_study(name: str, content: Mapping[str, Any], path: Path) -> Study:
    """Make a study of the content of its file.

    Raises:
        UserError: Unknown or missing keys, no settings, or a baseline that is none of them.
    """
    surplus = set(content) - _KEYS
    if surplus:
        raise _fault(path, f"the keys {', '.join(sorted(_KEYS))}", ", ".join(sorted(surplus)))
    settings = content.get("settings")
    if not isinstance(settings, dict) or not settings:
        raise _fault(path, "`settings:` that map a name to options", str(settings))
    for setting, overrides in settings.items():
        if not isinstance(overrides, dict):
            raise _fault(path, f"options such as model.skips below `{setting}:`", str(overrides))
    names = [str(setting) for setting in settings]
    baseline = str(content.get("baseline", names[-1]))
    if baseline not in names:
        raise _fault(path, f"a baseline among {', '.join(names)}", baseline)
    published = content.get("published")
    return Study(
        name=name,
        title=str(content.get("title", name)),
        settings=tuple(Setting(str(key), value) for key, value in settings.items()),
        baseline=baseline,
        published=_published(published, path) if published else None,
    )


def grid_study(varied: Sequence[str]) -> Study:
    """Make a study of all combinations of `KEY=VALUE,VALUE` texts; the first is the baseline.

    Raises:
        UserError: A text of another form, or a key named twice.
    """
    axes = [_axis(text) for text in varied]
    keys = [key for key, _ in axes]
    if len(set(keys)) < len(keys):
        raise UserError(
            "--vary", expected="every option once", found=", ".join(keys), fix="Join their values."
        )
    settings = []
    for values in itertools.product(*(values for _, values in axes)):
        overrides = dict(zip(keys, values, strict=True))
        name = ", ".join(
            f"{key.split('.')[-1]} {_short(value)}" for key, value in overrides.items()
        )
        settings.append(Setting(name, overrides))
    title = "Varied: " + ", ".join(keys)
    name = "-".join(key.split(".")[-1] for key in keys)
    return Study(name, title, tuple(settings), settings[0].name)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise _fault(path, "a readable YAML file", " ".join(str(error).split())) from error
    if not isinstance(content, dict):
        raise _fault(path, "a YAML mapping", type(content).__name__)
    return content


def _published(content: Any, path: Path) -> Published:
    try:
        dice = {str(name): dict(row) for name, row in content["dice"].items()}
        return Published(str(content["source"]), str(content["data"]), dice)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        expected = "`published:` with source, data and dice per setting and class"
        raise _fault(path, expected, str(content)) from error


def _axis(text: str) -> tuple[str, list[Any]]:
    key, equals, values = text.partition("=")
    if not equals or not key or not values:
        raise UserError(
            "--vary",
            expected="KEY=VALUE,VALUE such as model.skips=0,1,2,3",
            found=text,
            fix="Write it so, without spaces.",
        )
    # Commas inside of brackets belong to a value: model.skips=[4],[4,16].
    parts = re.split(r",(?![^\[]*\])", values)
    return key, [yaml.safe_load(part) for part in parts]


def _short(value: Any) -> str:
    return re.sub(r"[\[\]' ]", "", str(value)).replace(",", "+")


def _fault(path: Path, expected: str, found: str) -> UserError:
    fix = "Take a file in configs/studies as a model."
    return UserError(path, expected=expected, found=found, fix=fix)
