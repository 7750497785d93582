"""Files that appear whole or not at all."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from speakerguard.errors import UsageError
from speakerguard.files import replace_file, replace_section, whole_file

posix = pytest.mark.skipif(os.name != "posix", reason="links, permissions and devices")
HALFWAY = """
import os, sys
from pathlib import Path
from speakerguard.files import whole_file
with whole_file(Path(sys.argv[1])) as part:
    part.write_bytes(b"half")
    print("writing", flush=True)
    sys.stdin.read()
"""


def half_written(path: Path) -> subprocess.Popen[bytes]:
    """A program in the middle of writing ``path``."""
    words = [sys.executable, "-c", HALFWAY, str(path)]
    writer = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"writing\n"
    return writer


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "x.wav"
    with whole_file(path) as part:
        part.write_bytes(b"half")
        assert not path.exists()
        assert part.suffix == ".part"
    assert path.read_bytes() == b"half"
    assert list(path.parent.iterdir()) == [path]


def test_the_older_file_stays_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(b"older")

    def write(error: BaseException) -> None:
        with whole_file(path) as part:
            part.write_bytes(b"half")
            raise error

    with pytest.raises(UsageError, match=r"x\.wav: cannot be written \(No space left"):
        write(OSError(28, "No space left on device"))
    with pytest.raises(KeyboardInterrupt):
        write(KeyboardInterrupt())
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["x.wav", "é" * 100 + ".wav"])  # as long as a name may be
def test_what_a_kill_left_goes_with_the_next_write(name: str, tmp_path: Path) -> None:
    path, others = tmp_path / name, tmp_path / "x.wav.1.part"
    others.touch()  # no program of ours calls anything so
    writer = half_written(path)
    writer.kill()
    writer.communicate()
    assert len(list(tmp_path.iterdir())) == 2
    replace_file(path, "whole")
    assert sorted(tmp_path.iterdir()) == sorted([path, others])


def test_what_is_being_written_stays(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    writer = half_written(path)
    replace_file(path, "quicker")
    assert path.read_text() == "quicker"
    writer.communicate()
    assert writer.returncode == 0
    assert path.read_text() == "half"
    assert list(tmp_path.iterdir()) == [path]


def test_many_write_one_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: replace_file(path, str(number) * 999), range(64)))
    assert len(text := path.read_text()) >= 999
    assert len(set(text[:999])) <= 2
    assert list(tmp_path.iterdir()) == [path]


@posix
def test_a_link_in_the_way_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither where it is guessed, as if somebody could, nor as the file itself."""
    victim = tmp_path / "victim"
    victim.write_text("theirs")
    monkeypatch.setattr(os, "urandom", lambda count: bytes(count))
    (tmp_path / f"x.txt.{'0' * 32}.part").symlink_to(victim)
    with pytest.raises(UsageError, match=r"x\.txt: cannot be written \(File exists"):
        replace_file(tmp_path / "x.txt", "ours")
    monkeypatch.undo()
    (tmp_path / "y.txt").symlink_to(victim)
    replace_file(tmp_path / "y.txt", "ours")
    assert victim.read_text() == "theirs"
    assert not (tmp_path / "y.txt").is_symlink()


@posix
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_permissions_are_what_the_umask_says(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        replace_file(tmp_path / "x.txt", "text")
    finally:
        os.umask(before)
    assert (tmp_path / "x.txt").stat().st_mode & 0o777 == 0o666 & ~umask


@posix
def test_a_device_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (Path(os.devnull), tmp_path / "pipe"):
        with pytest.raises(UsageError, match="is a device or a pipe"):
            replace_file(path, "text")
    assert not Path(os.devnull).is_file()


@pytest.mark.parametrize("name", [".", "..", "folder"])
def test_a_folder_is_no_file_to_write(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"is a folder\. Name a file"), whole_file(Path(name)):
        pass


def test_a_section_is_replaced_and_the_rest_stays(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    replace_section(path, "a", "no file, nothing to do")
    path.write_text("before <!-- a -->old<!-- /a --> after <!-- b -->kept<!-- /b -->")
    replace_section(path, "a", r"new \1")
    replace_section(path, "c", "no such marks")
    (tmp_path / "open.md").write_text("<!-- a --> never closed")
    replace_section(tmp_path / "open.md", "a", "would take the rest")
    assert (tmp_path / "open.md").read_text() == "<!-- a --> never closed"
    assert path.read_text() == (
        "before <!-- a -->\n\nnew \\1\n\n<!-- /a --> after <!-- b -->kept<!-- /b -->"
    )
