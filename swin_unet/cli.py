"""The command line: one parser for files and flags, one-line errors, exit codes."""

from __future__ import annotations

import difflib
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import yaml

from swin_unet.config import Config, UserError
from swin_unet.config_rules import validate

if TYPE_CHECKING:
    from argparse import Namespace

    from jsonargparse import ArgumentParser

CONFIG_FOLDER = Path(__file__).resolve().parent.parent / "configs"
# How jsonargparse words a value of the wrong type, white space aside.
_TYPE_ERROR = re.compile(r'Parser key "([\w.]+)": .*(?:Given|Got) value: (.*)')
TELLING_SECONDS = 10.0
EXIT_FAILURE, EXIT_USAGE, EXIT_PARTIAL, EXIT_INTERRUPTED = 1, 2, 3, 130


def run(main: Callable[[], int | None]) -> int:
    """Run a command and turn what it raises into an exit code.

    Args:
        main: The command; returns its exit code, None meaning 0.

    Returns:
        The exit code: 2 for a UserError (printed as one line), 130 for Ctrl-C.
    """
    try:
        return main() or 0
    except UserError as error:
        # Before torchrun's processes join they all meet the same errors, and the first to end ends
        # them all. The others leave the telling to process 0; what it lives through, they tell.
        if "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("LOCAL_RANK", "0") != "0":
            time.sleep(TELLING_SECONDS)
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def build_parser(prog: str, description: str) -> ArgumentParser:
    """Make a parser that has every configuration field as a flag and `--config` for a file."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(prog=prog, description=description, exit_on_error=False)
    parser.add_argument("--config", metavar="FILE", help="YAML file, or its name in configs/.")
    parser.add_class_arguments(Config)
    return parser


def parse_config(parser: ArgumentParser, argv: Sequence[str]) -> tuple[Config, Namespace]:
    """Merge defaults, configuration file and flags, later ones winning.

    Args:
        parser: From `build_parser`, with the command's own flags added.
        argv: The arguments after the program's name.

    Returns:
        The validated configuration and the command's own flags.

    Raises:
        UserError: For a missing file, an unknown key, a wrong type or an impossible value.
    """
    path = _config_path(argv)
    names = [field.name for field in fields(Config)]
    _check_flags(parser, argv)
    try:
        defaults = parser.get_defaults()
        if path is not None:
            defaults = parser.parse_object(_read_config_file(path), namespace=defaults)
        arguments = parser.parse_args(list(argv), namespace=defaults)
    except Exception as error:
        raise _as_user_error(error, path) from error
    instances = parser.instantiate(arguments)
    config = Config(**{name: getattr(instances, name) for name in names})
    if config.output_dir is None:
        name = path.stem if path is not None else "unnamed"
        config = _replace_output_dir(config, Path("runs") / name)
    validate(config)
    return config, arguments


def _replace_output_dir(config: Config, output_dir: Path) -> Config:
    from dataclasses import replace

    return replace(config, output_dir=output_dir)


def find_config(name: str) -> Path:
    """Return the path of a configuration file; a bare name is looked up in configs/."""
    candidates = [Path(name), CONFIG_FOLDER / name, CONFIG_FOLDER / f"{name}.yaml"]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    known = [path.name for path in sorted(CONFIG_FOLDER.glob("*.yaml"))]
    raise UserError(
        name,
        expected="an existing configuration file",
        found="none here or in configs/",
        fix=f"Give a path, or one of {', '.join(known)}.{_nearest(name, known)}",
    )


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping, or raise a UserError that says where it does not parse."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        found = " ".join(str(error).split())
        raise UserError(path, expected="valid YAML", found=found, fix="Mend the file.") from error
    if not isinstance(content, dict):
        raise UserError(
            path,
            expected="a YAML mapping of options",
            found=type(content).__name__,
            fix="Write `section:` and its options below it.",
        )
    return content


def _config_path(argv: Sequence[str]) -> Path | None:
    for position, argument in enumerate(argv):
        if argument == "--config" and position + 1 < len(argv):
            return find_config(argv[position + 1])
        if argument.startswith("--config="):
            return find_config(argument.removeprefix("--config="))
    return None


def _read_config_file(path: Path) -> dict[str, Any]:
    """Read a configuration file and refuse keys that do not exist."""
    known = set(config_keys())
    sections = {key.split(".")[0] for key in known if "." in key}
    # A section whose options are all commented out is None.
    content = {
        key: value
        for key, value in read_yaml(path).items()
        if not (key in sections and value is None)
    }
    for key in _flatten(content):
        if key in sections:
            fix = "Indent its options below it, or remove it."
            raise UserError(path, expected=f"options below `{key}:`", found="none", fix=fix)
        if key not in known:
            raise _unknown_key(str(path), key, known)
    return content


def config_keys(cls: Any = Config, prefix: str = "") -> list[str]:
    """List every configuration key in dotted form, `model.skips` for instance."""
    keys: list[str] = []
    hints = get_type_hints(cls)
    for item in fields(cls):
        kind = hints[item.name]
        name = prefix + item.name
        keys.extend(config_keys(kind, f"{name}.") if is_dataclass(kind) else [name])
    return keys


def _flatten(content: dict[str, Any], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for key, value in content.items():
        nested = isinstance(value, dict) and value
        keys.extend(_flatten(value, f"{prefix}{key}.") if nested else [f"{prefix}{key}"])
    return keys


def _unknown_key(subject: str, key: str, known: set[str]) -> UserError:
    hint = _nearest(key, known) or " See --help for all keys."
    return UserError(
        subject, expected="known options only", found=f"`{key}`", fix=f"Correct it.{hint}"
    )


def _nearest(key: str, known: set[str] | list[str]) -> str:
    """Return ' Did you mean ...?' for the most similar key, comparing last parts too."""
    matches = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    if not matches:
        last_parts = {name.rsplit(".", 1)[-1]: name for name in known}
        found = difflib.get_close_matches(key.rsplit(".", 1)[-1], last_parts, n=1, cutoff=0.6)
        matches = [last_parts[part] for part in found]
    return f" Did you mean `{matches[0]}`?" if matches else ""


def _check_flags(parser: ArgumentParser, argv: Sequence[str]) -> None:
    """Refuse unknown flags ourselves, so that the message can name the nearest one."""
    known = {option for action in parser._actions for option in action.option_strings}
    for argument in argv:
        flag = argument.split("=", 1)[0]
        if flag.startswith("--") and flag not in known:
            raise _unknown_key("command line", flag, known)


def _as_user_error(error: Exception, path: Path | None) -> UserError:
    """Reword a jsonargparse error as one line."""
    if isinstance(error, UserError):
        return error
    text = " ".join(str(error).split()).rstrip(".")
    origin = f"in {path} or on the command line" if path else "on the command line"
    match = _TYPE_ERROR.search(text)
    if match is None or match[1] not in config_keys():  # a command's own flags are no fields
        return UserError(
            "command line", expected="options as --help lists them", found=text, fix="Correct it."
        )
    key, value = match.groups()
    expected = f"a value of type {_declared_type(key)}"
    return UserError(key, expected=expected, found=value, fix=f"Correct it {origin}.")


def _declared_type(key: str) -> str:
    """Return the annotation of a configuration key as it is written there."""
    *sections, name = key.split(".")
    cls: Any = Config
    for section in sections:
        cls = get_type_hints(cls)[section]
    return next(str(item.type) for item in fields(cls) if item.name == name)
