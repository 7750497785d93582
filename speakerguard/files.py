"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from speakerguard.errors import UsageError


def refuse_folder(path: Path) -> None:
    """Raise UsageError where a folder, such as ``.``, is given as the file to write."""
    if path.is_dir():
        raise UsageError(f"{path}: is a folder. Name a file, in it or elsewhere.")


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Where to write what becomes ``path`` when all went well; its folders are made.

    Its name ends in ``.part``, so that nothing takes what a kill left for a recording.

    Raises:
        UsageError: it is a folder, or cannot be written, as on a full disk; an older file of that
            name stays.
    """
    refuse_folder(path)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
        mode = part.stat().st_mode
        yield part
        part.chmod(mode)  # safetensors would keep others from reading it, whatever the umask
        part.replace(path)
    except (OSError, RuntimeError) as error:  # libsndfile's errors are the latter
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"{path}: cannot be written ({reason}). What was there before stays. Make room, or "
            "choose another place, and run the same command again."
        ) from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def replace_file(path: str | Path, text: str) -> None:
    """Write UTF-8 text to ``path``, as :func:`whole_file` does; names of other bytes stay those."""
    with whole_file(Path(path)) as part:
        part.write_text(text, encoding="utf-8", errors="surrogateescape", newline="\n")


def replace_section(path: Path, name: str, text: str) -> None:
    """Put ``text`` between ``<!-- name -->`` and ``<!-- /name -->`` of a Markdown file.

    Nothing happens where there is no such file, or no such marks in it.
    """
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    before, _, rest = old.partition(start)
    _, found, after = rest.partition(end)
    if not found:
        return
    replace_file(path, f"{before}{start}\n\n{text}\n\n{end}{after}")
    print(f"renewed {path}")
