"""Profiles survive: exactly, together, through kills; and every failure says what to do."""

import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.schema import CreateTable

import speakerguard.verification.store
from speakerguard.errors import (
    IncompatibleProfileError,
    NoSuchProfileError,
    StoreError,
    UsageError,
)
from speakerguard.folders import cache_folder
from speakerguard.verification.profile import Profile, compatible
from speakerguard.verification.store import TABLES, ProfileStore
from speakerguard.verification.store_reader import read, read_crowd

ENROL = """
import sys
import numpy as np
from speakerguard.verification.profile import Profile
from speakerguard.verification.store import ProfileStore
path, who, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
with ProfileStore(path) as store:
    for index in range(count):
        name = f"{who}-{index}"
        embeddings = np.full((3, 256), 1 / 16, np.float32)
        store.add(Profile(name, "model", embeddings, (1.0,) * 3, ("a.wav",) * 3))
        if who != "killed" and "shared" in store:
            store.extend(Profile("shared", "model", embeddings[:1], (float(index),), (name,)))
        print(name, flush=True)
"""


def make(name: str = "alice", rows: int = 3, fingerprint: str = "c0ffee") -> Profile:
    embeddings = np.random.default_rng(rows).standard_normal((rows, 192))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    seconds = tuple(0.1 + 1 / 3 * index for index in range(rows))
    return Profile(
        name,
        fingerprint,
        embeddings.astype(np.float32),
        seconds,
        tuple(f"{name} {index}.wav" for index in range(rows)),
    )


def assert_same(left: Profile, right: Profile) -> None:
    assert left.embeddings.tobytes() == right.embeddings.tobytes()
    for part in ("name", "fingerprint", "net_seconds", "sources", "created"):
        assert getattr(left, part) == getattr(right, part)


def start(path: Path, who: str, count: int) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", ENROL, str(path), who, str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def go(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    child.stdin.write("go\n")
    child.stdin.flush()


def run_together(path: Path, people: tuple[str, ...], count: int) -> None:
    children = [start(path, who, count) for who in people]
    for child in children:
        go(child)
    for child in children:
        child.communicate(timeout=60)
        assert child.returncode == 0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "voices.db"


@pytest.fixture
def store(path: Path) -> Iterator[ProfileStore]:
    with ProfileStore(path) as store:
        yield store


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder of an ordinary user, as which the test runs even where root runs the tests."""
    with tempfile.TemporaryDirectory() as folder:
        root = os.geteuid() == 0
        if root:
            os.chown(folder, 65_534, -1)
            os.seteuid(65_534)
        yield Path(folder)
        if root:
            os.seteuid(0)


def test_round_trip_is_exact(store: ProfileStore, path: Path) -> None:
    profile = make()
    store.add(profile)
    store.add(make("bob", rows=1))
    with ProfileStore(path) as again:
        assert_same(again.get("alice"), profile)
        assert again.names() == ["alice", "bob"]
        assert [p.name for p in again.all()] == ["alice", "bob"]
        assert len(again) == 2
        assert "bob" in again
        assert "carol" not in again


def test_created_is_utc_whatever_it_was(store: ProfileStore) -> None:
    noon = datetime(2026, 7, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    store.add(Profile("a", "f", np.eye(1, 4, dtype=np.float32), (1.0,), ("a",), noon))
    assert store.get("a").created.isoformat() == "2026-07-01T10:00:00+00:00"
    assert abs(datetime.now(UTC) - make().created) < timedelta(minutes=1)


def test_centroid_and_cohesion() -> None:
    angles = np.radians([0.0, 30.0, 90.0])
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    profile = Profile("a", "f", rows, (1.0,) * 3, ("x",) * 3)
    mean = rows.mean(axis=0)
    np.testing.assert_allclose(profile.centroid, mean / np.linalg.norm(mean), atol=1e-6)
    assert profile.cohesion() == pytest.approx(np.cos(np.radians(75.0)), abs=1e-6)
    assert make(rows=1).cohesion() is None


def test_add_refuses_a_taken_name_unless_told_to_replace(store: ProfileStore) -> None:
    store.add(make(rows=3))
    with pytest.raises(UsageError, match=r"already enrolled.*--replace"):
        store.add(make(rows=2))
    other = make(rows=2, fingerprint="decaf")
    store.add(other, replace=True)
    assert_same(store.get("alice"), other)


def test_extend_appends(store: ProfileStore) -> None:
    first, more = make(rows=2), make(rows=4)
    store.add(first)
    whole = store.extend(more)
    assert_same(store.get("alice"), whole)
    np.testing.assert_array_equal(
        whole.embeddings, np.concatenate([first.embeddings, more.embeddings])
    )
    assert whole.net_seconds == first.net_seconds + more.net_seconds
    assert whole.created == first.created
    with pytest.raises(IncompatibleProfileError):
        store.extend(make(fingerprint="decaf"))
    assert len(store.get("alice").embeddings) == 6


def test_remove(store: ProfileStore) -> None:
    store.add(make())
    store.remove("alice")
    assert store.names() == []
    with pytest.raises(NoSuchProfileError):
        store.remove("alice")


def test_reading_a_missing_store_finds_nobody_and_makes_nothing(
    monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    monkeypatch.delenv("SPEAKERGUARD_STORE", raising=False)
    monkeypatch.setattr(speakerguard.verification.store, "default_path", lambda: path)
    with ProfileStore() as store:
        assert (store.names(), store.all(), len(store), "alice" in store) == ([], [], 0, False)
        for method in (store.get, store.remove):
            with pytest.raises(NoSuchProfileError, match="speakerguard enroll"):
                method("alice")
        with pytest.raises(NoSuchProfileError):
            store.extend(make())
    assert not path.parent.exists()


def test_environment_names_the_store(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    monkeypatch.setenv("SPEAKERGUARD_STORE", f"sqlite:///{path}")
    with ProfileStore() as store:
        store.add(make())
    with ProfileStore(path) as store:
        assert store.names() == ["alice"]


def test_reader_and_store_take_a_tilde_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "~").mkdir()
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    for place, name in (("~/voices.db", "at-home"), ("sqlite:///~/voices.db", "here")):
        with ProfileStore(place) as store:
            store.add(make(name))
        assert [profile.name for profile in read(place) or ()] == [name]
    assert (tmp_path / "home" / "voices.db").exists()
    assert (tmp_path / "~" / "voices.db").exists()


@pytest.mark.parametrize(
    "name",
    [
        "Zoë",
        "李雷",
        "مريم",
        "Ольга",
        "👩🏽‍🚀",
        "علی\u200cرضا",
        "ශ්\u200dරී",
        "O'Brien; --",
        "a" * 200,
    ],
)
def test_names_of_any_script(store: ProfileStore, name: str) -> None:
    store.add(make(name))
    assert store.names() == [name]
    assert store.get(f"  {name}\n").sources[0] == f"{name} 0.wav"


def test_names_are_the_same_however_composed_but_not_whatever_case(store: ProfileStore) -> None:
    store.add(make("Zoe\u0308"))
    assert "Zo\u00eb" in store
    assert "zoë" not in store


@pytest.mark.parametrize(
    "name",
    [
        *("", " \t ", "a" * 201, "a\nb", "a\x00b", "a\u2028b", "a\udcffb"),
        *("a\u200bb", "a\u2060b", "a\u00adb", "\ufeffa", "a\u202eb", "a\u200db", "a\u200cb"),
        *("李\u200d", "\u200c李", "李\u200d\u200d雷", "李\u200b雷"),
    ],
)
def test_unfit_names_are_refused(store: ProfileStore, name: str) -> None:
    with pytest.raises(UsageError):
        make(name)
    with pytest.raises(UsageError):
        store.get(name)


def test_an_undecodable_file_name_is_kept_as_text(store: ProfileStore) -> None:
    store.add(
        Profile("a", "f", np.eye(1, 4, dtype=np.float32), (1.0,), (os.fsdecode(b"\xff.wav"),))
    )
    assert store.get("a").sources == ("\\udcff.wav",)


def test_no_such_profile_suggests_the_nearest(store: ProfileStore) -> None:
    for name in ("alice", "alina", "bob"):
        store.add(make(name))
    with pytest.raises(NoSuchProfileError, match="Did you mean “alice” or “alina”"):
        store.get("alise", hint=True)
    with pytest.raises(NoSuchProfileError, match="profiles list"):
        store.remove("小明")
    with pytest.raises(NoSuchProfileError) as caught:  # it may be a stranger who asks
        store.get("alise")
    assert not any(name in str(caught.value) for name in ("alice", "alina", "bob"))


def test_profiles_of_other_weights_are_refused(store: ProfileStore) -> None:
    store.add(make(fingerprint="old"))
    store.add(make("bob", fingerprint="new"))
    profile = store.get("alice")
    assert compatible(profile, "old") is profile
    with pytest.raises(IncompatibleProfileError, match="model old; the current model is new"):
        store.get("alice", fingerprint="new")
    assert [p.name for p in store.all(fingerprint="new")] == ["bob"]


@pytest.mark.parametrize(
    ("embeddings", "seconds", "message"),
    [
        (np.eye(2, 4) * 2, (1.0, 1.0), "length is not 1"),
        (np.full((2, 4), np.nan), (1.0, 1.0), "length is not 1"),
        (np.eye(2, 4), (1.0,), "different number"),
        (np.eye(4)[0], (1.0, 1.0), "shape"),
        (np.empty((0, 4)), (), "shape"),
    ],
)
def test_a_profile_must_fit_together(
    embeddings: np.ndarray, seconds: tuple[float, ...], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        Profile("a", "f", embeddings, seconds, ("x", "y"))


@pytest.mark.parametrize(
    "damage",
    [
        "embeddings = substr(embeddings, 5)",
        "embeddings = zeroblob(length(embeddings))",
        "embeddings = 'text'",
        "dimension = 96",
        "net_seconds = '[1.0]'",
        "net_seconds = 'nonsense'",
        "net_seconds = '[NaN, 1, 1]'",
        f"net_seconds = '[{'9' * 400}, 1, 1]'",
        f"sources = '{'[' * 100_000}'",
        "sources = '[1, 2, 3]'",
        "created = 'yesterday'",
        "created = '0001-01-01T00:00:00+14:00'",
    ],
)
def test_a_damaged_profile_is_named_and_can_be_removed(
    store: ProfileStore, path: Path, damage: str
) -> None:
    store.add(make())
    store.add(make("bob"))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"UPDATE profiles SET {damage} WHERE name = 'alice'")
    assert read(path, "alice") is None
    with pytest.raises(StoreError, match=r"“alice” is damaged.*enrol again"):
        store.get("alice")
    assert store.get("bob").name == "bob"
    store.remove("alice")
    assert store.names() == ["bob"]


def test_a_newer_schema_is_refused(store: ProfileStore, path: Path) -> None:
    store.add(make())
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE schema_versions SET version = 99")
    for action in (store.names, lambda: store.add(make("bob"))):
        with pytest.raises(StoreError, match=r"schema 99.*Upgrade"):
            action()


def test_not_a_database(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("Dear store, " * 100)
    with (
        ProfileStore(tmp_path / "letter.txt") as store,
        pytest.raises(StoreError, match=r"letter\.txt: file is not a database.*--store"),
    ):
        store.names()


def test_a_damaged_database(store: ProfileStore, path: Path) -> None:
    for index in range(50):
        store.add(make(f"speaker {index}"))
    store.close()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"malformed.*backup"):
        store.all()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with ProfileStore(tmp_path / "file" / "voices.db") as store:
        with pytest.raises(StoreError, match="--store"):
            store.add(make())
        with pytest.raises(StoreError, match="Not a directory"):
            store.names()
    assert read(tmp_path / "file" / "voices.db") is None


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs POSIX permissions")
def test_a_read_only_folder(unprivileged: Path) -> None:
    with ProfileStore(unprivileged / "voices.db") as store:
        unprivileged.chmod(0o555)
        with pytest.raises(StoreError, match=r"Permission denied.*--store"):
            store.add(make())
        unprivileged.chmod(0o755)
        store.add(make())
        store.close()
        (unprivileged / "voices.db").chmod(0o444)
        with pytest.raises(StoreError, match=r"readonly.*--store"):
            store.add(make("bob"))
        assert store.names() == ["alice"]


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs POSIX permissions")
def test_the_file_alone_holds_all_and_is_private(unprivileged: Path) -> None:
    path = unprivileged / "voices.db"
    with ProfileStore(path) as store:
        store.add(make())
        assert [file.name for file in unprivileged.iterdir()] == ["voices.db"]
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o444)
    unprivileged.chmod(0o555)  # as in an image, or on a share
    with ProfileStore(path) as store:
        assert store.names() == ["alice"]
    (found,) = read(path) or ()
    assert found.name == "alice"


def test_a_store_in_memory_serves_all_threads() -> None:
    with ProfileStore("sqlite://") as store:
        names = [f"speaker-{number}" for number in range(12)]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(store.add, map(make, names)))
        assert store.names() == sorted(names)


def test_no_part_of_a_password_is_shown() -> None:
    with pytest.raises(StoreError) as caught:
        ProfileStore("postgresql+nosuch://me:se@cr@et@host/voices")
    assert "cr@" not in str(caught.value)
    assert "me:***@host" in str(caught.value)
    for name in ("password", "sslPassword", "passwd", "auth_token"):
        with pytest.raises(StoreError) as caught:
            ProfileStore(f"postgresql+nosuch://host/voices?user=me&{name}=s3cret&sslmode=require")
        assert f"?user=me&{name}=***&sslmode=require" in str(caught.value)


def test_a_locked_store_says_so(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    monkeypatch.setattr(speakerguard.verification.store, "BUSY_SECONDS", 0.05)
    with ProfileStore(path) as store:
        store.add(make())
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreError, match=r"locked.*try again"):
                store.add(make("bob"))
            assert store.names() == ["alice"]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense://host/db", "Give a path, or a URL"),
        ("postgres ql://", "Give a path, or a URL"),
        ("postgresql://me:secret@host:port/db", "Give a path, or a URL"),
        ("mysql+oursql://me:secret@host/db", r"mysql\+oursql://me:\*\*\*@host/db"),
    ],
)
def test_an_unusable_url(url: str, message: str) -> None:
    with pytest.raises(StoreError, match=message) as caught:
        ProfileStore(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("dialect", "blob", "name"),
    [
        (
            postgresql.dialect(),  # type: ignore[no-untyped-call]
            "embeddings BYTEA",
            "name VARCHAR(200) NOT NULL",
        ),
        (mysql.dialect(), "embeddings BLOB(16777216)", "VARCHAR(200) COLLATE utf8mb4_bin"),
    ],
)
def test_the_tables_are_portable(dialect: sa.Dialect, blob: str, name: str) -> None:
    script = "".join(str(CreateTable(t).compile(dialect=dialect)) for t in TABLES.sorted_tables)
    assert blob in script
    assert name in script


def test_processes_that_enrol_at_once_lose_nothing(store: ProfileStore, path: Path) -> None:
    """Even while the file is still being made."""
    people, count = ("ann", "ben", "cem"), 15
    run_together(path, people, count)
    assert store.names() == sorted(f"{who}-{index}" for who in people for index in range(count))


def test_processes_that_extend_one_profile_lose_nothing(store: ProfileStore, path: Path) -> None:
    store.add(Profile("shared", "model", np.full((1, 256), 1 / 16), (0.0,), ("first",)))
    people, count = ("ann", "ben"), 15
    run_together(path, people, count)
    expected = {"first"} | {f"{who}-{index}" for who in people for index in range(count)}
    assert set(store.get("shared").sources) == expected
    assert len(store.get("shared").sources) == len(expected)


def test_kill_in_the_middle_leaves_a_readable_store(tmp_path: Path) -> None:
    chance = random.Random(7)
    killed_writing = 0
    for attempt in range(6):
        path = tmp_path / f"{attempt}.db"
        child = start(path, "killed", 100_000)
        go(child)
        time.sleep(chance.uniform(0.01, 0.4))
        child.kill()
        acknowledged = child.communicate()[0].split("\n")[:-1]  # the last line may be cut
        with ProfileStore(path) as store:
            kept = store.all()  # checks every profile
            store.add(make("after"))
        assert {profile.name for profile in kept} >= set(acknowledged)
        assert len(kept) <= len(acknowledged) + 1
        killed_writing += bool(acknowledged)
        if path.exists():
            with closing(sqlite3.connect(path)) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert killed_writing


def test_rename(store: ProfileStore) -> None:
    store.add(make())
    store.add(make("bob"))
    assert store.rename(" alice", "Zoe\u0308").name == "Zoë"
    assert store.names() == ["Zoë", "bob"]
    assert_same(store.get("Zoë"), replace(make(), name="Zoë", created=store.get("Zoë").created))
    for old, new, error in (("alice", "carol", NoSuchProfileError), ("bob", "Zoë", UsageError),
                            ("bob", "bob", UsageError), ("bob", "", UsageError)):  # fmt: skip
        with pytest.raises(error):
            store.rename(old, new)
    assert store.names() == ["Zoë", "bob"]


def test_drop_takes_one_recording_out(store: ProfileStore) -> None:
    profile = make(rows=3)
    store.add(replace(profile, sources=("a.wav", "b.wav", "a.wav")))
    with pytest.raises(UsageError, match=r"2 recordings called a\.wav"):
        store.drop("alice", "a.wav")
    with pytest.raises(UsageError, match=r"no recording 'c\.wav'.*a\.wav, b\.wav"):
        store.drop("alice", "c.wav")
    left = store.drop("alice", "folder/b.wav")
    assert left.sources == ("a.wav", "a.wav")
    np.testing.assert_array_equal(store.get("alice").embeddings, profile.embeddings[[0, 2]])
    store.add(make("bob", rows=1))
    with pytest.raises(UsageError, match="only recording of “bob”"):
        store.drop("bob", make("bob", rows=1).sources[0])
    with pytest.raises(NoSuchProfileError):
        store.drop("carol", "a.wav")


def test_all_are_added_or_none(store: ProfileStore) -> None:
    store.add(make("bob"))
    more = [make("alice"), replace(make("bob"), fingerprint="other")]
    with pytest.raises(UsageError, match="already enrolled: bob"):
        store.add_all(more)
    assert store.names() == ["bob"]
    store.add_all(more, replace=True)
    assert store.names() == ["alice", "bob"]
    assert store.get("bob").fingerprint == "other"


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("embeddings", "'text'", "no bytes"),
        ("embeddings", "17", "no bytes"),
        ("sources", "x'00'", "sources is no text"),
        ("sources", "'\"a\"'", "no list"),
        ("net_seconds", "'[\"1\"]'", "no list"),
        ("created", "x'00'", "date is no text"),
        ("created", "'soon'", "isoformat"),
        ("fingerprint", "x'ff'", "model is no text"),
        ("utterances", "'x'", "integer"),
    ],
)
def test_a_damaged_row_is_named_and_the_others_are_usable(
    store: ProfileStore, path: Path, column: str, value: str, says: str
) -> None:
    store.add(make())
    store.add(make("bob"))
    store.close()
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute(f"UPDATE profiles SET {column} = {value} WHERE name = 'alice'")
    for call in (lambda: store.get("alice"), store.all, lambda: store.drop("alice", "x")):
        with pytest.raises(StoreError, match=f"“alice” is damaged .*{says}"):
            call()
    assert store.get("bob").name == "bob"
    assert [profile.name for profile in read(path, "bob") or ()] == ["bob"]
    assert (read(path, "alice"), read(path)) == (None, None)
    store.remove("alice")
    assert store.names() == ["bob"]


def test_a_name_that_is_no_text_can_be_removed(store: ProfileStore, path: Path) -> None:
    store.add(make())
    store.add(make("bob"))
    store.close()
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("UPDATE profiles SET name = x'61ff' WHERE name = 'alice'")
    assert store.names() == ["bob"]
    (error,) = store.nameless()
    assert r"“a\xff” is damaged (a name is text" in str(error)
    store.remove(r"a\xff")
    assert store.nameless() == []


def test_a_store_opened_for_reading_is_never_written(store: ProfileStore, path: Path) -> None:
    store.add(make())
    store.close()
    before = path.read_bytes(), path.stat().st_mtime_ns
    for url in (f"sqlite:///{path}?mode=ro", f"file:{path}?mode=ro", f"file://{path}?immutable=1",
                f"sqlite:///file:{path}?mode=ro&uri=true"):  # fmt: skip
        with ProfileStore(url) as opened:
            assert (opened.names(), opened.path) == (["alice"], path)
            for change in (lambda: opened.add(make("bob")), lambda: opened.rename("alice", "bob"),
                           lambda: opened.remove("alice")):  # fmt: skip
                with pytest.raises(StoreError, match="opened for reading only"):
                    change()
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    nowhere = path.with_name("none.db")
    for mode in ("ro", "rw"):
        with ProfileStore(f"sqlite:///{nowhere}?mode={mode}") as opened:
            assert opened.names() == []
            with pytest.raises(StoreError):
                opened.add(make())
    assert not nowhere.exists()
    with ProfileStore(f"file:{nowhere}") as opened:
        opened.add(make())
    assert nowhere.exists()
    with pytest.raises(StoreError, match="modes ro, rw and rwc"):
        ProfileStore(f"sqlite:///{path}?mode=x")


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions")
@pytest.mark.parametrize("umask", [0, 0o077, 0o277])
def test_folder_and_file_are_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "made" / "below" / "voices.db"
    old = os.umask(umask)
    try:
        with ProfileStore(path) as store:
            store.add(make())
    finally:
        os.umask(old)
    assert [p.stat().st_mode & 0o777 for p in (path, path.parent, path.parent.parent)] == [
        0o600, 0o700, 0o700,
    ]  # fmt: skip
    with ProfileStore(path) as store:
        assert not store.open_to_others()
        path.chmod(0o644)
        assert not store.open_to_others()  # nobody gets through the folder
        path.parent.chmod(0o755)
        assert store.open_to_others()


def test_without_a_home_folder_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "SPEAKERGUARD_STORE"):
        monkeypatch.delenv(name, raising=False)

    def nobody(number: int) -> None:
        raise KeyError(number)

    pwd = pytest.importorskip("pwd")
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    for make_it in (ProfileStore, lambda: read(None), lambda: ProfileStore("~/voices.db")):
        with pytest.raises(StoreError, match=r"--store .*SPEAKERGUARD_STORE") as caught:
            make_it()
        assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="XDG_CACHE_HOME"):
        cache_folder()


def test_the_crowd_is_what_the_profiles_are(store: ProfileStore, path: Path) -> None:
    for number in range(7):
        store.add(make(f"speaker {number}", rows=1 + number % 3))
    store.add(make("other", fingerprint="other"))
    profiles = store.all("c0ffee")
    dimension = profiles[0].embeddings.shape[1]
    crowd = read_crowd(path, "c0ffee", dimension)
    assert crowd is not None
    assert (crowd.names, crowd.others) == ([profile.name for profile in profiles], 1)
    expected = np.stack([profile.centroid for profile in profiles])
    np.testing.assert_allclose(crowd.centroids, expected, rtol=0, atol=1e-6)
    assert read_crowd(path, "c0ffee", dimension + 1) is None
    assert read_crowd(path, "nobody", dimension) is None
    store.close()
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("UPDATE profiles SET embeddings = zeroblob(length(embeddings))"
                    " WHERE name = 'speaker 3'")  # fmt: skip
    assert read_crowd(path, "c0ffee", dimension) is None
