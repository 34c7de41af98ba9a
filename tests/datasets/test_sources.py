"""Without data every kind of data set says where to get them, and how they must lie."""

from pathlib import Path

import pytest

from datasets import DATASETS, build_dataset
from datasets.phantom import LAYOUTS
from datasets.sources import SOURCES
from swin_unet.config import DataConfig, UserError


def message_of(config: DataConfig) -> list[str]:
    with pytest.raises(UserError) as caught:
        build_dataset(config)
    return str(caught.value).splitlines()


def check_help(lines: list[str], name: str) -> None:
    assert len(lines) == 4
    for line, title in zip(lines[1:], ("the data:", "the layout:", "a stand-in:"), strict=True):
        assert line.startswith(f"  {title}")
    assert SOURCES[name].origin in lines[1]
    assert "DIR/" in lines[2]
    assert " ".join([SOURCES[name].command, *SOURCES[name].stand_in[:1]]) in lines[3]


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_no_root(name: str) -> None:
    lines = message_of(DataConfig(name=name))  # type: ignore[arg-type]
    assert lines[0] == (
        "data.root: expected the folder of the data set, found no value. Give --data.root DIR."
    )
    check_help(lines, name)


@pytest.mark.parametrize("name", sorted(DATASETS))
@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda root: None, "nothing there"),
        (lambda root: root.touch(), "a file"),
        (lambda root: root.mkdir(), "an empty folder"),
        (lambda root: [root.mkdir(), (root / "notes.txt").touch()], "n"),
    ],
    ids=["missing", "file", "empty", "foreign"],
)
def test_no_data_at_the_root(tmp_path: Path, name: str, make: object, found: str) -> None:
    assert callable(make)
    root = tmp_path / "data"
    make(root)
    lines = message_of(DataConfig(name=name, root=root))  # type: ignore[arg-type]
    assert lines[0].startswith(f"{root}: expected ")
    assert f"found {found}" in lines[0]
    check_help(lines, name)


def test_every_kind_has_a_source_and_every_stand_in_a_layout() -> None:
    assert set(SOURCES) == set(DATASETS)
    assert {layout for source in SOURCES.values() for layout in source.stand_in} == set(LAYOUTS)
