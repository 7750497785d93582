"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from speakerguard.errors import UsageError

_WINDOWS = os.name == "nt"  # which removes and renames no file that somebody has open
if not _WINDOWS:
    import fcntl

_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_SHORT = 48  # characters of a file's name, of up to four bytes each


def refuse_folder(path: Path) -> None:
    """Raise UsageError where a folder, such as ``.``, or a device is given as the file to write."""
    if path.is_dir():
        raise UsageError(f"{path}: is a folder. Name a file, in it or elsewhere.")
    if path.exists() and not path.is_file():
        raise UsageError(f"{path}: is a device or a pipe, which no file can replace. Name a file.")


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Where to write what becomes ``path`` when all went well; its folders are made.

    Its name ends in ``.part``, so that nothing takes what a kill left for a recording; the next
    write of the same file removes that. Nobody can guess the name, and nothing that lies there
    already, such as a link, is followed. The content is on the disk before it gets its name.

    Raises:
        UsageError: it is a folder or device, or cannot be written, as on a full disk; an older
            file of that name stays.
    """
    refuse_folder(path)
    short = path.name[:_SHORT]  # what a file may be called is limited
    part = path.with_name(f"{short}.{os.urandom(16).hex()}.part")
    with contextlib.ExitStack() as held:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_left(path.parent, short)
            mode = held.enter_context(_created(part))
            yield part
            part.chmod(mode)  # safetensors would keep others from reading it, whatever the umask
            _sync(part)
            if _WINDOWS:
                held.close()
            part.replace(path)
            with contextlib.suppress(OSError):  # a folder that may be written, but not read
                _sync(path.parent)
        except (OSError, RuntimeError) as error:  # libsndfile's errors are the latter
            reason = getattr(error, "strerror", None) or error
            raise UsageError(
                f"{path}: cannot be written ({reason}). What was there before stays. Make room, "
                "or choose another place, and run the same command again."
            ) from None
        finally:
            with contextlib.suppress(OSError):
                part.unlink()


@contextlib.contextmanager
def _created(part: Path) -> Iterator[int]:
    """Make an empty file, locked as long as this program writes it; its permissions."""
    with contextlib.ExitStack() as held:
        while True:
            opened = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | _NO_FOLLOW, 0o666)
            held.callback(os.close, opened)
            if not _WINDOWS:
                with contextlib.suppress(OSError):  # some network drives know no locks
                    fcntl.flock(opened, fcntl.LOCK_EX)
            if part.exists():  # another program may have taken it for left before it was locked
                break
        yield stat.S_IMODE(os.fstat(opened).st_mode)


def _remove_left(folder: Path, short: str) -> None:
    """Remove what killed programs left of a file: theirs are the parts that nobody locks."""
    named = re.compile(re.escape(short) + r"\.[0-9a-f]{32}\.part")
    with contextlib.suppress(OSError):
        for name in filter(named.fullmatch, os.listdir(folder)):  # noqa: PTH208
            with contextlib.suppress(OSError), contextlib.ExitStack() as held:
                if not _WINDOWS:
                    flags = os.O_RDONLY | os.O_NONBLOCK | _NO_FOLLOW
                    held.callback(os.close, opened := os.open(folder / name, flags))
                    fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                (folder / name).unlink()


def _sync(path: Path) -> None:
    """Wait until a file's content, or a folder's names, are on the disk."""
    opened = os.open(path, os.O_RDWR if _WINDOWS else os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


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
