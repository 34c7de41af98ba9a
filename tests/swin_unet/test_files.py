from pathlib import Path

import pytest

from swin_unet.config import UserError
from swin_unet.files import atomic_path, make_folder, remove_leftovers


def test_atomic_path_replaces_and_makes_folders(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    for text in ("first", "second"):
        with atomic_path(path) as temporary:
            assert temporary.suffix == ".json"
            temporary.write_text(text)
    assert path.read_text() == "second"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    "error", [ValueError("bug"), KeyboardInterrupt(), FileNotFoundError(2, "x")]
)
def test_atomic_path_leaves_the_old_file_on_any_error(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")

    def write_half() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(type(error)):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_where_a_file_is_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file/folder: expected a place to write to"):
        make_folder(tmp_path / "file" / "folder")
    assert make_folder(tmp_path / "new" / "folder").is_dir()
    assert list((tmp_path / "new" / "folder").iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    kept = [tmp_path / ".hidden", tmp_path / "last.pt", tmp_path / ".0123abc.pt"]
    for path in kept:
        path.touch()
    with atomic_path(tmp_path / "last.pt") as temporary:
        half_written = temporary.with_name(temporary.name)
        half_written.write_text("half")
        remove_leftovers(tmp_path)
        assert sorted(tmp_path.iterdir()) == sorted(kept)
        half_written.write_text("whole")
    assert (tmp_path / "last.pt").read_text() == "whole"
