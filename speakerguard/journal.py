"""A list of finished work that survives a kill: a line of JSON for each piece, on the disk at once.

A run that was killed reads what is there and goes on, so it loses at most the piece in hand. One
run writes a journal at a time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from speakerguard.errors import UsageError


class Journal:
    """The journal of one run.

    Args:
        path: the file; it and its folder are made with the first line.
        header: settings that the first line states. Work that was done with others is refused.
        advice: what to do where it is refused.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     journal = Journal(Path(folder) / "journal.jsonl", {"seed": 0})
    ...     journal.append({"name": "one", "score": 0.5})
    ...     journal.read()
    [{'name': 'one', 'score': 0.5}]
    """

    def __init__(
        self,
        path: Path,
        header: Mapping[str, Any] | None = None,
        advice: str = "Choose another folder, or remove it.",
    ) -> None:
        self.path, self.advice = path, advice
        self._header = None if header is None else _line(header)

    def read(self) -> list[dict[str, Any]]:
        """What is finished, in order. A last line that a kill cut off is left out.

        Raises:
            UsageError: it begins with another header, or a line of it is damaged.
        """
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return []
        rows = []
        for number, line in enumerate(_whole_lines(content).split(b"\n")[:-1], start=1):
            try:
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError
            except (ValueError, RecursionError):
                raise UsageError(
                    f"{self.path}: line {number} is damaged. Remove that line, and what it told of "
                    "is done again; or begin anew elsewhere."
                ) from None
            rows.append(row)
        if self._header is None or not rows:
            return rows
        if rows[0] != json.loads(self._header):
            raise UsageError(
                f"{self.path}: was begun with other settings, or for something else. {self.advice}"
            )
        return rows[1:]

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a line; when this returns it is on the disk. What a kill cut off before is removed.

        Raises:
            UsageError: it cannot be written, as on a full disk; what is there stays.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a+b") as file:
                empty = _drop_half_line(file) == 0
                file.write((self._header or b"") + _line(row) if empty else _line(row))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UsageError(
                f"{self.path}: cannot be written ({error.strerror or error}). Make room, then run "
                "the same command again: it goes on."
            ) from None


def _line(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row).encode() + b"\n"


def _whole_lines(content: bytes) -> bytes:
    return content[: content.rfind(b"\n") + 1]


def _drop_half_line(file: BinaryIO) -> int:
    """Cut off what follows the last end of a line; returns how long the rest is."""
    size = file.seek(0, os.SEEK_END)
    if size:
        file.seek(size - 1)
        if file.read(1) != b"\n":
            file.seek(0)
            size = len(_whole_lines(file.read()))
            file.truncate(size)
    return size
