"""A journal is read after any kill, and says where it is damaged."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speakerguard.errors import UsageError
from speakerguard.journal import Journal

ROWS = [{"id": "0", "name": "Zoë"}, {"id": "1", "score": -0.25}, {"id": "\udce9\n"}]


@pytest.mark.parametrize("header", [None, {"plan": {"kinds": ("a", "b")}, "digest": "12"}])
@given(st.data())
def test_a_kill_costs_only_the_line_in_hand(
    tmp_path_factory: pytest.TempPathFactory, header: dict[str, object] | None, data: st.DataObject
) -> None:
    journal = Journal(tmp_path_factory.mktemp("journal") / "new" / "journal.jsonl", header)
    assert journal.read() == []
    for row in ROWS:
        journal.append(row)
    assert journal.read() == ROWS
    whole = journal.path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    journal.path.write_bytes(whole[:cut])
    kept = journal.read()
    assert kept == ROWS[: max(0, whole[:cut].count(b"\n") - (header is not None))]
    for row in ROWS[len(kept) :]:
        journal.append(row)
    assert journal.path.read_bytes() == whole


@pytest.mark.parametrize(
    "damage", [b"[" * 100_000 + b"\n", b'{"id": \n', b"\xff\n", b"[]\n", b"\0\0\n", b"\n"]
)
def test_damage_elsewhere_names_the_line(tmp_path: Path, damage: bytes) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append(ROWS[0])
    with journal.path.open("ab") as file:
        file.write(damage)
    journal.append(ROWS[1])
    with pytest.raises(UsageError, match=r"journal.jsonl: line 2 is damaged. Remove that line"):
        journal.read()


def test_other_settings_are_refused_with_advice(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(path, {"seed": 0}).append(ROWS[0])
    with pytest.raises(UsageError, match=r"begun with other settings.*Give another --out."):
        Journal(path, {"seed": 1}, "Give another --out.").read()
    headless = tmp_path / "headless.jsonl"
    Journal(headless).append(ROWS[0])
    with pytest.raises(UsageError, match="begun with other settings"):
        Journal(headless, {"seed": 0}).read()


def test_a_full_disk_is_an_error_with_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append(ROWS[0])

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match=r"cannot be written \(No space left.*it goes on"):
        journal.append(ROWS[1])
    assert journal.read()[0] == ROWS[0]


def test_a_line_is_there_when_the_program_is_killed_after_it(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from speakerguard.journal import Journal\n"
        "Journal(Path(sys.argv[1])).append({'id': 7})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = tmp_path / "journal.jsonl"
    subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"id": 7}]
