"""Renaming, dropping, carrying profiles; what is printed of them, and to whom."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from speakerguard.verification import store_reader
from speakerguard.verification.store import ProfileStore

pytest_plugins = ["support.calling"]
Clips = dict[str, list[Path]]


def test_rename_and_drop(run: Any, speech: Clips) -> None:
    own, *_ = speech.values()
    run("enroll", "alice", *own[:2])
    assert run("profiles", "rename", "alice", "carol").out == "renamed alice to carol\n"
    assert run("verify", "alice", own[0]).code == 4
    assert run("verify", "carol", own[0]).code == 0
    gone = run("profiles", "drop", "carol", "none.wav")
    assert (gone.code, own[1].name in gone.error) == (2, True)
    ran = run("profiles", "drop", "carol", own[1].name)
    assert ran.out == f"dropped {own[1].name} from carol, which keeps 1 recording\n"
    last = run("profiles", "drop", "carol", own[0].name)
    assert (last.code, "only recording" in last.error) == (2, True)
    missing = run("profiles", "rename", "carl", "x")
    assert (missing.code, "Did you mean “carol”" in missing.error) == (4, True)
    answer = json.loads(run("profiles", "rename", "carol", "CAROL", "--json").out)
    assert answer == {"renamed": "carol", "speaker": "CAROL", "warnings": []}


def test_profiles_are_carried_to_another_store(run: Any, speech: Clips) -> None:
    own, other, *_ = speech.values()
    run("enroll", "alice", *own[:2])
    run("enroll", "bob", other[0])
    ran = run("profiles", "export", "alice", "bob", "--out", "v.safetensors")
    assert (ran.code, ran.out) == (0, "2 profiles in v.safetensors\n")
    there = ("--store", "there/voices.db")
    ran = run("profiles", "import", "v.safetensors", *there)
    assert (ran.code, ran.out) == (0, "imported alice, bob\n")
    here, away = (json.loads(run("verify", "alice", own[2], "--json", *more).out)
                  for more in ((), there))  # fmt: skip
    assert here == away
    again = run("profiles", "import", "v.safetensors", *there)
    assert (again.code, "already enrolled: alice, bob" in again.error) == (2, True)
    assert run("profiles", "import", "v.safetensors", *there, "--replace").code == 0
    assert run("profiles", "export", "carol", "--out", "w.safetensors").code == 4
    assert not Path("w.safetensors").exists()
    Path("v.safetensors").write_bytes(b"junk")
    broken = run("profiles", "import", "v.safetensors", *there)
    assert (broken.code, "v.safetensors: " in broken.error) == (2, True)


def test_a_stranger_is_not_told_who_is_enrolled(run: Any, speech: Clips) -> None:
    clip = next(iter(speech.values()))[0]
    run("enroll", "alice.smith", clip)
    asked = run("verify", "alice.smit", clip)
    assert asked.code == 4
    assert "alice.smith" not in asked.error
    assert "“alice.smith”" in run("profiles", "show", "alice.smit").error


def test_names_that_look_alike_are_told(run: Any, speech: Clips) -> None:
    clip = next(iter(speech.values()))[0]
    assert "similar-name" not in run("enroll", "alice", clip).out
    for name in ("ALICE", "\u0430lice", "\uff41lice"):
        ran = run("enroll", name, clip)
        assert "similar-name" in ran.out
        assert "“alice”" in ran.out
    assert "similar-name" not in run("enroll", "alice", clip, "--replace", "--json").error
    assert len(json.loads(run("profiles", "list", "--json").out)) == 4


def test_control_characters_are_never_printed(run: Any, speech: Clips) -> None:
    clip = next(iter(speech.values()))[0]
    bad = Path("\x1b[31mred.wav")
    bad.write_bytes(clip.read_bytes())
    run("enroll", "alice", bad)
    assert r"\x1b[31mred.wav" in run("profiles", "show", "alice").out
    with closing(sqlite3.connect("profiles.db")) as raw, raw:
        raw.execute(
            "INSERT INTO profiles SELECT char(27)||'[2Jx', fingerprint, utterances, dimension, "
            "embeddings, net_seconds, sources, created FROM profiles"
        )
    listed = run("profiles", "list")
    shown = [listed, run("verify", "alice", bad), run("profiles", "show", "alice")]
    shown += [run("profiles", "remove", "x\x1b[31m"), run("verify", "\x1b[31m", clip)]
    assert not any("\x1b" in ran.out + ran.error for ran in shown)
    assert "alice\n" in listed.out
    assert (listed.code, "is damaged" in listed.error) == (2, True)


def test_rows_that_are_no_text_leave_the_others_usable(run: Any, speech: Clips) -> None:
    own, other, *_ = speech.values()
    run("enroll", "alice", own[0])
    run("enroll", "bob", other[0])
    with closing(sqlite3.connect("profiles.db")) as raw, raw:
        raw.execute("UPDATE profiles SET name = x'ff00', sources = 7 WHERE name = 'bob'")
    listed = run("profiles", "list")
    assert (listed.code, listed.out) == (2, "alice\n")
    assert "Traceback" not in listed.error
    assert run("verify", "alice", own[0]).code == 0
    named = run("identify", own[0])
    assert (named.code, r"\xff" in named.error) == (2, True)
    assert run("profiles", "remove", r"\xff\x00").code == 0
    assert run("identify", own[0]).code == 0


def test_what_others_can_read_is_told(run: Any, speech: Clips) -> None:
    clip = next(iter(speech.values()))[0]
    run("enroll", "alice", clip)
    Path("profiles.db").chmod(0o644)
    Path().resolve().chmod(0o755)
    ran = run("enroll", "bob", clip)
    assert "open-store: other users" in ran.out
    assert "chmod 600" in run("profiles", "list").error


def test_a_read_only_store_verifies_and_enrols_nobody(run: Any, speech: Clips) -> None:
    clip = next(iter(speech.values()))[0]
    run("enroll", "alice", clip)
    store = ("--store", f"sqlite:///{Path('profiles.db').resolve()}?mode=ro")
    assert run("verify", "alice", clip, *store).code == 0
    ran = run("enroll", "bob", clip, *store)
    assert (ran.code, "opened for reading only" in ran.error) == (2, True)
    passing = run("profiles", "list", "--store", "file:x?mode=memory")
    assert (passing.code, passing.out) == (2, "")


def test_a_folder_that_cannot_be_read_is_told(run: Any, speech: Clips) -> None:
    clip = next(iter(speech.values()))[0]
    Path("file").touch()
    for arguments in (("verify", "alice", clip), ("profiles", "list"), ("enroll", "alice", clip)):
        ran = run(*arguments, "--store", "file/voices.db")
        assert (ran.code, "profile store file/voices.db: Not a directory" in ran.error) == (2, True)


def test_identify_reads_all_at_once(
    run: Any, speech: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, other, *_ = speech.values()
    run("enroll", "alice", own[0])
    run("enroll", "bob", *other[:2])
    fast = run("identify", own[1], "--json")
    with ProfileStore("profiles.db") as store:
        assert store.names() == ["alice", "bob"]
    monkeypatch.setattr(store_reader, "read_crowd", lambda *_: None)
    slow = json.loads(run("identify", own[1], "--json").out)
    assert json.loads(fast.out)["speaker"] == slow["speaker"]
    for (name, score), (same, close) in zip(
        json.loads(fast.out)["ranking"], slow["ranking"], strict=True
    ):
        assert (name, score) == (same, pytest.approx(close, abs=1e-6))
