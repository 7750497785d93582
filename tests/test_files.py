"""Files that appear whole or not at all."""

from pathlib import Path

import pytest

from speakerguard.errors import UsageError
from speakerguard.files import replace_section, whole_file


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
