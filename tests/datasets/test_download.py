"""The download of a Decathlon task: complete, or nothing and a message; from local archives."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from monai.apps import DecathlonDataset

from datasets import download as module
from datasets.cases import load_case
from datasets.decathlon import main, read_decathlon
from datasets.phantom import write_phantoms
from datasets.phantom_ct import MIN_SIZE
from swin_unet.config import DataConfig, UserError

TASK = "Task09_Spleen"
# What an archive may try: a path or link out of its folder. tarfile writes all of them.
ATTACKS: dict[str, dict[str, str | bytes]] = {
    "parent": {"name": "../../evil.txt"},
    "absolute": {"name": f"{tempfile.gettempdir()}/evil.txt"},
    "symbolic link": {"type": tarfile.SYMTYPE, "linkname": "/etc"},
    "hard link": {"type": tarfile.LNKTYPE, "linkname": "/etc/hosts"},
}


@pytest.fixture(scope="module")
def task_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("task") / TASK
    write_phantoms(folder, cases=2, test_cases=0, seed=0, size=MIN_SIZE)
    return folder


@pytest.fixture
def archive(task_folder: Path, tmp_path: Path) -> Path:
    path = tmp_path / "server" / f"{TASK}.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w") as tar:
        tar.add(task_folder, TASK)
        tar.addfile(tarfile.TarInfo(f"{TASK}/._dataset.json"))  # as a Mac leaves it behind
    return path


def offer(monkeypatch: pytest.MonkeyPatch, path: Path, url: str | None = None) -> None:
    """Let MONAI's table point to a local archive with its right checksum."""
    checksum = hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setitem(DecathlonDataset.resource, TASK, url or path.as_uri())
    monkeypatch.setitem(DecathlonDataset.md5, TASK, checksum)


def start(folder: Path, task: str = TASK) -> int:
    return main(["download", task, str(folder)])


def refused(folder: Path, task: str = TASK) -> str:
    """Return the message of a download that is refused."""
    with pytest.raises(UserError) as caught:
        start(folder, task)
    return str(caught.value)


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_task_arrives_complete(
    archive: Path, task_folder: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    offer(monkeypatch, archive)
    folder = tmp_path / "new" / "data"
    assert start(folder) == 0
    expected = contents(task_folder)
    assert contents(folder / TASK) == {**expected, "._dataset.json": b""}
    assert [path.name for path in folder.iterdir()] == [TASK], "something was left behind"
    shown = capsys.readouterr().out
    assert archive.as_uri() in shown
    assert f"--data.root {folder / TASK}" in shown
    assert "INFO" not in shown, "MONAI's log belongs to MONAI"
    dataset = read_decathlon(DataConfig(root=folder / TASK))
    image, label = load_case(dataset.cases[0], dataset)
    assert image.array.shape == label.array.shape


def test_a_second_download_does_nothing(archive: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    offer(monkeypatch, archive)
    start(tmp_path / "data")
    archive.unlink()
    (tmp_path / "data" / TASK / "mine.txt").write_text("mine")
    before = contents(tmp_path / "data")
    assert start(tmp_path / "data") == 0
    assert "is there already" in capsys.readouterr().out
    assert contents(tmp_path / "data") == before


@pytest.mark.parametrize("name", [f"{TASK}/notes.txt", TASK])
def test_other_things_in_its_place_are_left_alone(
    archive: Path, tmp_path: Path, monkeypatch, name: str
) -> None:
    offer(monkeypatch, archive)
    path = tmp_path / "data" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    assert "other things in its place" in refused(tmp_path / "data")
    assert contents(tmp_path / "data") == {name: b"mine"}


def test_an_empty_folder_in_its_place_is_filled(archive, tmp_path: Path, monkeypatch) -> None:
    offer(monkeypatch, archive)
    (tmp_path / "data" / TASK).mkdir(parents=True)
    start(tmp_path / "data")
    assert (tmp_path / "data" / TASK / "dataset.json").is_file()


def test_a_damaged_download_leaves_nothing(archive: Path, tmp_path: Path, monkeypatch) -> None:
    offer(monkeypatch, archive)
    checksum = DecathlonDataset.md5[TASK]
    archive.write_bytes(archive.read_bytes()[:-700])
    message = refused(tmp_path / "data")
    assert archive.as_uri() in message
    assert checksum in message
    assert not (tmp_path / "data").exists()


def test_without_network_the_message_says_what_to_do(tmp_path: Path, monkeypatch) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as server:
        closed = f"http://127.0.0.1:{server.server_port}/{TASK}.tar"
    monkeypatch.setitem(DecathlonDataset.resource, TASK, closed)
    message = refused(tmp_path / "data")
    assert message.startswith(closed)
    assert "refused" in message
    assert str(tmp_path / "data" / f"{TASK}.tar") in message
    assert "\n" not in message
    assert not (tmp_path / "data").exists()


class CutOff(http.server.BaseHTTPRequestHandler):
    """Promises a file and hangs up in the middle of it."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100000")
        self.end_headers()
        self.wfile.write(b"x" * 5000)

    def log_message(self, *_: object) -> None:
        pass


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Start a server in a thread and return its address."""
    servers: list[http.server.HTTPServer] = []

    def serving(handler: Callable[..., http.server.BaseHTTPRequestHandler]) -> str:
        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, args=(0.05,)).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield serving
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_server_is_asked(archive: Path, tmp_path: Path, monkeypatch, serve) -> None:
    address = serve(partial(Quiet, directory=str(archive.parent)))
    offer(monkeypatch, archive, f"{address}/{archive.name}")
    start(tmp_path / "data")
    assert (tmp_path / "data" / TASK / "dataset.json").is_file()


@pytest.mark.parametrize(("handler", "word"), [(CutOff, "retrieval incomplete"), (None, "404")])
def test_a_failing_server_leaves_nothing(
    tmp_path: Path, monkeypatch, serve, handler: type | None, word: str
) -> None:
    address = serve(handler or partial(Quiet, directory=str(tmp_path)))
    monkeypatch.setitem(DecathlonDataset.resource, TASK, f"{address}/{TASK}.tar")
    message = refused(tmp_path / "data").lower()
    assert word in message or "not found" in message
    assert not (tmp_path / "data").exists()


def test_an_archive_fetched_by_hand_is_used_and_kept(
    archive: Path, tmp_path: Path, monkeypatch
) -> None:
    offer(monkeypatch, archive, "http://127.0.0.1:9/not-asked.tar")
    by_hand = tmp_path / "data" / f"{TASK}.tar"
    by_hand.parent.mkdir()
    by_hand.write_bytes(archive.read_bytes())
    start(tmp_path / "data")
    assert {path.name for path in by_hand.parent.iterdir()} == {TASK, by_hand.name}


def test_a_wrong_archive_fetched_by_hand_is_kept(archive: Path, tmp_path: Path, monkeypatch):
    offer(monkeypatch, archive)
    by_hand = tmp_path / "data" / f"{TASK}.tar"
    by_hand.parent.mkdir()
    by_hand.write_bytes(b"something else")
    assert refused(tmp_path / "data").startswith(str(by_hand))
    assert contents(tmp_path / "data") == {by_hand.name: b"something else"}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_archive_that_leads_out_of_its_folder_is_refused(
    archive: Path, tmp_path: Path, monkeypatch, attack: str
) -> None:
    with tarfile.open(archive, "a") as tar:
        member = tarfile.TarInfo(f"{TASK}/evil.txt")
        for key, value in ATTACKS[attack].items():
            setattr(member, key, value)
        tar.addfile(member, io.BytesIO(b""))
    offer(monkeypatch, archive)
    (tmp_path / "work").mkdir()
    message = refused(tmp_path / "work" / "data")
    assert archive.name in message
    assert "Do not trust" in message
    assert not any((tmp_path / "work").iterdir())
    assert not list(tmp_path.rglob("evil*"))
    assert not Path(tempfile.gettempdir(), "evil.txt").exists()


@pytest.mark.parametrize(
    ("content", "word"),
    [({"other/dataset.json": b"{}"}, f"{TASK}/dataset.json"), (None, "archive of files")],
)
def test_an_archive_of_other_things_is_refused(
    tmp_path: Path, monkeypatch, content: dict[str, bytes] | None, word: str
) -> None:
    path = tmp_path / f"{TASK}.tar"
    if content is None:
        path.write_bytes(b"no archive at all" * 100)
    else:
        with tarfile.open(path, "w") as tar:
            for name, data in content.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    offer(monkeypatch, path)
    assert word in refused(tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_an_interruption_leaves_nothing(archive: Path, tmp_path: Path, monkeypatch) -> None:
    offer(monkeypatch, archive)
    unpack = module._unpack

    def interrupted(*arguments: object) -> Path:
        unpack(*arguments)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_unpack", interrupted)
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_full_disk_is_said(archive: Path, tmp_path: Path, monkeypatch) -> None:
    offer(monkeypatch, archive)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("monai.apps.utils.extractall", full)
    assert "No space left" in refused(tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_folder_that_cannot_be_made_is_said(archive: Path, tmp_path: Path, monkeypatch) -> None:
    offer(monkeypatch, archive)
    (tmp_path / "data").write_text("a file")
    assert str(tmp_path / "data") in refused(tmp_path / "data")
    assert (tmp_path / "data").read_text() == "a file"


def test_settings_of_the_process_are_as_before(archive: Path, tmp_path: Path, monkeypatch) -> None:
    offer(monkeypatch, archive)
    before = tempfile.gettempdir()
    start(tmp_path / "data")
    assert tempfile.gettempdir() == before
    assert module.socket.getdefaulttimeout() is None


@pytest.mark.parametrize(
    ("task", "nearest"),
    [
        ("Task09_spleen", TASK),
        ("hippocampus", "Task04_Hippocampus"),
        ("Task4_Hippocampus", "Task04_Hippocampus"),
    ],
)
def test_a_wrong_name_lists_the_right_ones(tmp_path: Path, task: str, nearest: str) -> None:
    message = refused(tmp_path, task)
    assert f"Did you mean `{nearest}`?" in message
    assert all(name in message for name in DecathlonDataset.resource)


def test_every_task_has_a_checksum() -> None:
    for task, url in DecathlonDataset.resource.items():
        archive = module.find_archive(task)
        assert archive.url == url
        assert len(archive.md5) == 32
    assert json.dumps(sorted(DecathlonDataset.resource)).count("Task") == 10
