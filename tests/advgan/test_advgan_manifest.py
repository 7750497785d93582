"""The journal of a set of conversions, which a killed run goes on from."""

import json
from pathlib import Path

import pytest

from advgan.manifest import JOURNAL, append, read_journal


@pytest.mark.parametrize(
    "line",
    [
        b'{"id": "1", "out',
        b'{"id": "1"\xfe}',
        b"[1, 2]",
        b"null",
        b'{"output": "1.wav"}',
        b'{"id": 1}',
        b'{"id": ["1"]}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_line_is_no_row_and_costs_no_other(line: bytes, tmp_path: Path) -> None:
    append(tmp_path, {"id": "0", "output": "0.wav"})
    with (tmp_path / JOURNAL).open("ab") as file:
        file.write(line)
    append(tmp_path, {"id": "2", "output": "2.wav"})
    assert list(read_journal(tmp_path)) == ["0", "2"]


def test_an_id_that_comes_twice_is_the_later(tmp_path: Path) -> None:
    for error in ("full disk", ""):
        append(tmp_path, {"id": "0", "error": error})
    assert json.dumps(read_journal(tmp_path)) == '{"0": {"id": "0", "error": ""}}'
