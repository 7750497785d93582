"""The download tool against a server on this machine: fresh, cut off, wrong, and hostile."""

import hashlib
import io
import random
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import pytest
from support.tooling import load_tool

PART = "dev-clean"


class Server(ThreadingHTTPServer):
    """Serves ``files`` with HTTP ranges; ``cut`` bytes into an answer it may hang up."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.cuts: list[int] = []
        self.ranges = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        content = self.server.files.get(self.path.strip("/"))
        wanted = self.headers.get("Range", "")
        self.server.asked.append(wanted)
        if content is None:
            self.send_error(404)
            return
        start = int(wanted[len("bytes=") : -1]) if wanted and self.server.ranges else 0
        if start and start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        stop = start + self.server.cuts.pop(0) if self.server.cuts else len(content)
        self.wfile.write(content[start:stop])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = load_tool("librispeech")
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.001)
    return module


def archive(names: list[str]) -> bytes:
    noise = random.Random(1)
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name in names:
            content = noise.randbytes(50_000)
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


@pytest.fixture
def content(server: Server, tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A small dev-clean, served under its published name, its MD5 taken for the published one."""
    clips = [f"LibriSpeech/{PART}/84/121123/84-121123-{n:04}.flac" for n in range(4)]
    content = archive(["LibriSpeech/SPEAKERS.TXT", *clips])
    publish(content, server, tool, monkeypatch)
    return content


def publish(
    content: bytes, server: Server, tool: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files[f"{PART}.tar.gz"] = content
    monkeypatch.setitem(tool.MD5, PART, hashlib.md5(content).hexdigest())


def run(tool: ModuleType, server: Server, into: Path, *more: str) -> int:
    try:
        tool.main([PART, "--into", str(into), "--mirror", server.url, *more])
    except SystemExit as end:
        return int(str(end.code))
    return 0


def assert_unpacked(into: Path) -> None:
    assert len(list((into / "LibriSpeech" / PART).glob("84/121123/*.flac"))) == 4
    assert (into / "LibriSpeech" / "SPEAKERS.TXT").stat().st_size == 50_000
    assert [path.name for path in into.iterdir()] == ["LibriSpeech"]


@pytest.mark.usefixtures("content")
def test_a_fresh_download_and_nothing_twice(
    tool: ModuleType, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tool, server, tmp_path / "new") == 0
    assert_unpacked(tmp_path / "new")
    assert run(tool, server, tmp_path / "new") == 0
    assert server.asked == [""]
    assert "already there" in capsys.readouterr().out


def test_archives_can_be_kept(
    tool: ModuleType, server: Server, tmp_path: Path, content: bytes
) -> None:
    assert run(tool, server, tmp_path, "--keep-archives") == 0
    assert (tmp_path / f"{PART}.tar.gz").read_bytes() == content


def test_a_partial_file_is_continued(
    tool: ModuleType, server: Server, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / f"{PART}.tar.gz.part").write_bytes(content[:70_000])
    assert run(tool, server, tmp_path) == 0
    assert_unpacked(tmp_path)
    assert server.asked == ["bytes=70000-"]


def test_a_partial_file_that_is_whole_is_used(
    tool: ModuleType, server: Server, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / f"{PART}.tar.gz.part").write_bytes(content)
    assert run(tool, server, tmp_path) == 0
    assert_unpacked(tmp_path)


def test_a_server_without_ranges_begins_anew(
    tool: ModuleType, server: Server, tmp_path: Path, content: bytes
) -> None:
    server.ranges = False
    (tmp_path / f"{PART}.tar.gz.part").write_bytes(content[:70_000])
    assert run(tool, server, tmp_path) == 0
    assert_unpacked(tmp_path)


@pytest.mark.usefixtures("content")
def test_a_connection_that_breaks_is_taken_up_again(
    tool: ModuleType, server: Server, tmp_path: Path
) -> None:
    server.cuts = [60_000, 60_000]
    assert run(tool, server, tmp_path) == 0
    assert_unpacked(tmp_path)
    assert server.asked == ["", "bytes=60000-", "bytes=120000-"]


def test_a_wrong_md5_is_refused(
    tool: ModuleType,
    server: Server,
    tmp_path: Path,
    content: bytes,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.files[f"{PART}.tar.gz"] = content[:-1] + bytes([content[-1] ^ 1])
    assert run(tool, server, tmp_path) == 2
    assert "its MD5 is" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../../evil.txt", f"LibriSpeech/{PART}/../../../evil.txt"])
def test_an_archive_that_climbs_out_is_refused(
    tool: ModuleType,
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    publish(archive([f"LibriSpeech/{PART}/good.flac", name]), server, tool, monkeypatch)
    assert run(tool, server, tmp_path / "data") == 2
    assert "outside the destination" in capsys.readouterr().err
    assert list(tmp_path.rglob("evil.txt")) == []
    assert not (tmp_path / "data" / "LibriSpeech").exists()


def test_an_archive_of_something_else_is_refused(
    tool: ModuleType,
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    publish(archive(["other/file.flac"]), server, tool, monkeypatch)
    assert run(tool, server, tmp_path) == 2
    assert f"holds no LibriSpeech/{PART}" in capsys.readouterr().err


def test_a_missing_file_names_the_mirrors(
    tool: ModuleType, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tool, server, tmp_path) == 2
    message = capsys.readouterr().err
    assert "404" in message
    assert "--mirror" in message


def test_offline(tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    closed = Server()
    closed.server_close()
    assert run(tool, closed, tmp_path) == 2
    message = capsys.readouterr().err
    assert "Check the network" in message
    assert "Traceback" not in message


@pytest.mark.usefixtures("content")
def test_a_folder_that_cannot_be_made(
    tool: ModuleType, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert run(tool, server, tmp_path / "file" / "data") == 2
    assert "--into" in capsys.readouterr().err


@pytest.mark.usefixtures("content")
def test_a_full_disk_is_noticed_before(
    tool: ModuleType,
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(tool.shutil, "disk_usage", lambda folder: usage)
    assert run(tool, server, tmp_path) == 2
    assert "Make room" in capsys.readouterr().err
