"""Download parts of LibriSpeech (OpenSLR 12, CC BY 4.0), check them and unpack them.

    python tools/librispeech.py dev-clean train-clean-100 --into data

A download that was cut off goes on where it stopped; a part that is there already is skipped.
Afterwards ``data/LibriSpeech/dev-clean`` and so on are ready for ``speakerguard train``.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import ssl
import tarfile
import time
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from speakerguard.cli.ending import ending
from speakerguard.errors import UsageError

MIRROR = "https://www.openslr.org/resources/12"
MIRRORS = "https://us.openslr.org/resources/12, https://openslr.elda.org/resources/12"
MD5 = {  # as published in md5sum.txt beside the archives
    "dev-clean": "42e2234ba48799c1f50f24a7926300a1",
    "dev-other": "c8d0bcc9cca99d4f8b62fcc847357931",
    "test-clean": "32fa31d27d2e1cad72775fee3f4849a9",
    "test-other": "fb5a50374b501bb3bac4815ee91d3135",
    "train-clean-100": "2a93770f6d5c6c964bc36631d331a522",
    "train-clean-360": "c0e676e450a7ff2f54aeade5171606fa",
    "train-other-500": "d1a0fd59409feb2c614ce4d30c387708",
}
TOP = "LibriSpeech"  # the folder every archive holds
BLOCK = 1 << 20  # bytes
ATTEMPTS = 5  # in a row without a byte, before giving up
PATIENCE_SECONDS = 1.0  # before the second attempt; doubles with each
TIMEOUT_SECONDS = 30.0
_NETWORK_ERRORS = (
    urllib.error.URLError,
    HTTPException,
    ConnectionError,
    TimeoutError,
    ssl.SSLError,
)


class LibrispeechError(UsageError):
    """A part cannot be had; the message says why and what to do."""


def fetch(part: str, into: Path, mirror: str, keep: bool, progress: Progress) -> bool:
    """Have ``part`` at ``into/LibriSpeech/part``; False if it was there already."""
    target = into / TOP / part
    if target.is_dir():
        return False
    into.mkdir(parents=True, exist_ok=True)
    archive = into / f"{part}.tar.gz"
    if not archive.exists():
        partial = archive.with_name(f"{archive.name}.part")
        download(f"{mirror.rstrip('/')}/{archive.name}", partial, progress)
        partial.rename(archive)
    check(archive, MD5[part], progress)
    extract(archive, target, progress)
    if not keep:
        archive.unlink()
    return True


def download(url: str, partial: Path, progress: Progress) -> None:
    """Fetch ``url`` into ``partial``, going on where an earlier attempt stopped."""
    task = progress.add_task(f"download {partial.name.partition('.')[0]}", total=None)
    failures = 0
    while True:
        before = partial.stat().st_size if partial.exists() else 0
        try:
            if _download_rest(url, partial, progress, task):
                return
            reason = "the connection was cut"
        except urllib.error.HTTPError as error:
            if error.code == 416:  # nothing is left to send
                return
            if error.code < 500:
                raise LibrispeechError(
                    f"{url}: the server answers {error.code} {error.reason}. Name another mirror "
                    f"with --mirror ({MIRRORS})."
                ) from error
            reason = f"the server answers {error.code} {error.reason}"
        except _NETWORK_ERRORS as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        after = partial.stat().st_size if partial.exists() else 0
        failures = 1 if after > before else failures + 1
        if failures >= ATTEMPTS:
            raise LibrispeechError(
                f"{url}: {reason}. Check the network, or name another mirror with --mirror "
                f"({MIRRORS}). The {after / 1e6:.0f} MB received are kept; run this again to go on."
            )
        time.sleep(PATIENCE_SECONDS * 2 ** (failures - 1))


def _download_rest(url: str, partial: Path, progress: Progress, task: TaskID) -> bool:
    """One attempt; whether everything has arrived."""
    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
        if response.status != 206:  # the server begins anew
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        _require_room(partial.parent, (total or 0) - have)
        progress.update(task, total=total, completed=have)
        with partial.open("ab" if have else "wb") as out:
            while block := response.read(BLOCK):
                out.write(block)
                have += len(block)
                progress.update(task, completed=have)
    return total is None or have >= total


def _require_room(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        raise LibrispeechError(
            f"{folder}: {size / 1e9:.1f} GB are to come, but only {free / 1e9:.1f} GB are free. "
            "Make room, or name another folder with --into."
        )


def check(archive: Path, expected: str, progress: Progress) -> None:
    """Compare with the published MD5; a wrong archive is deleted."""
    digest = hashlib.md5(usedforsecurity=False)
    part = archive.name.partition(".")[0]
    with progress.open(archive, "rb", description=f"check {part}") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    if digest.hexdigest() != expected:
        archive.unlink()
        raise LibrispeechError(
            f"{archive.name}: its MD5 is {digest.hexdigest()}, the published one {expected}. The "
            "archive was deleted; run this again, or name another mirror with --mirror."
        )


def extract(archive: Path, target: Path, progress: Progress) -> None:
    """Unpack beside ``target`` and move it there when whole; nothing leaves that folder."""
    scratch = target.parent.parent / f".{target.name}.unpacking"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        with (
            progress.open(archive, "rb", description=f"unpack {target.name}") as file,
            tarfile.open(fileobj=file, mode="r|gz") as tar,
        ):
            tar.extractall(scratch, filter="data")
        if not (scratch / TOP / target.name).is_dir():
            raise LibrispeechError(f"{archive.name}: holds no {TOP}/{target.name}. Delete it.")
        target.parent.mkdir(exist_ok=True)
        for item in (scratch / TOP).iterdir():
            if item.is_file():  # the corpus's own notes; every archive holds the same
                item.replace(target.parent / item.name)
        (scratch / TOP / target.name).rename(target)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise LibrispeechError(
            f"{archive.name}: cannot be unpacked ({error}). If there is room on the disk, "
            "delete the archive and run this again."
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def main(arguments: list[str] | None = None) -> None:
    """Command line; 0 when every part is there, 2 with a message when one is not."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "parts", nargs="+", choices=sorted(MD5), metavar="PART", help=", ".join(MD5)
    )
    parser.add_argument("--into", type=Path, default=Path("data"), help="folder (default: data)")
    parser.add_argument("--mirror", default=MIRROR, help=f"(default: {MIRROR}; also {MIRRORS})")
    parser.add_argument("--keep-archives", action="store_true", help="do not delete the .tar.gz")
    options = parser.parse_args(arguments)
    if not options.mirror.startswith(("https://", "http://")):
        parser.error(f"--mirror {options.mirror}: give an https:// or http:// address")
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    stop = "run this again to go on"
    with ending("librispeech", stop), Progress(*columns) as progress:
        for part in options.parts:
            try:
                new = fetch(part, options.into, options.mirror, options.keep_archives, progress)
            except OSError as error:
                raise LibrispeechError(
                    f"{error.filename or options.into}: {error.strerror}. Name a folder that can "
                    "be written with --into."
                ) from None
            state = "ready" if new else "already there"
            progress.print(f"{options.into / TOP / part}: {state}", soft_wrap=True)


if __name__ == "__main__":
    main()
