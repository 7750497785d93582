"""The journal of a set of conversions, which a killed run goes on from."""

import json
from pathlib import Path

import pytest

from advgan.manifest import JOURNAL, append, read_journal
from speakerguard.errors import UsageError


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
def test_a_line_that_was_cut_off_costs_no_other_and_a_damaged_one_is_named(
    line: bytes, tmp_path: Path
) -> None:
    append(tmp_path, {"id": "0", "output": "0.wav"})
    with (tmp_path / JOURNAL).open("ab") as file:
        file.write(line)  # without an end
    append(tmp_path, {"id": "2", "output": "2.wav"})
    assert list(read_journal(tmp_path)) == ["0", "2"]
    with (tmp_path / JOURNAL).open("ab") as file:
        file.write(line + b"\n")
    with pytest.raises(UsageError, match="Remove that line"):
        read_journal(tmp_path)


def test_an_id_that_comes_twice_is_the_later(tmp_path: Path) -> None:
    for error in ("full disk", ""):
        append(tmp_path, {"id": "0", "error": error})
    assert json.dumps(read_journal(tmp_path)) == '{"0": {"id": "0", "error": ""}}'
