"""Profiles carried in a file: all of them as they were, or an error that says why not."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from speakerguard.errors import UsageError
from speakerguard.verification import profile_file
from speakerguard.verification.profile import Profile
from speakerguard.verification.profile_file import read_profiles, write_profiles


def voice(name: str, rows: int = 2, fingerprint: str = "c0ffee") -> Profile:
    embeddings = np.random.default_rng(rows).standard_normal((rows, 8)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    sources = tuple(f"{name}-{n}.wav" for n in range(rows))
    return Profile(name, fingerprint, embeddings, (1.5,) * rows, sources)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_profiles(tmp_path / "f.safetensors", [voice("Zoë"), voice("أليس", 3, "other")])
    return tmp_path / "f.safetensors"


def test_profiles_come_back_exactly(file: Path) -> None:
    first, second = read_profiles(file)
    for found, made in ((first, voice("Zoë")), (second, voice("أليس", 3, "other"))):
        np.testing.assert_array_equal(found.embeddings, made.embeddings)
        assert (found.name, found.fingerprint) == (made.name, made.fingerprint)
        assert (found.sources, found.net_seconds) == (made.sources, made.net_seconds)
    if os.name == "posix":
        assert file.stat().st_mode & 0o777 == 0o600
    with pytest.raises(UsageError, match=r"must end in \.safetensors"):
        write_profiles(file.with_suffix(".txt"), [voice("a")])


def test_every_changed_or_missing_byte_is_noticed(file: Path) -> None:
    whole = file.read_bytes()
    random = np.random.default_rng(0)
    places = random.choice(len(whole), 150, replace=False)
    for place in places:
        changed = bytearray(whole)
        changed[place] ^= 1 << int(random.integers(8))
        file.write_bytes(changed)
        said = ""
        try:
            found = read_profiles(file)
        except UsageError as error:
            said = str(error)
        if not said:  # a byte that says nothing, such as a space between the header and the data
            assert [profile.name for profile in found] == ["Zoë", "أليس"]
            np.testing.assert_array_equal(found[0].embeddings, voice("Zoë").embeddings)
        assert not said or said.startswith(f"{file}: ")
    for length in (0, 7, 8, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(UsageError, match="Export it again"):
            read_profiles(file)


def test_other_files_are_refused(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file({"0": np.eye(2, dtype=np.float32)}, tmp_path / "o.safetensors", {"format": "pt"})
    for path, words in ((tmp_path / "o.safetensors", "format is 'pt'"), (tmp_path, "is no file"),
                        (tmp_path / "absent", "cannot be read")):  # fmt: skip
        with pytest.raises(UsageError, match=words):
            read_profiles(path)
    monkeypatch.setattr(profile_file, "MAX_BYTES", 100)
    with pytest.raises(UsageError, match="more than profiles need"):
        read_profiles(file)


@pytest.mark.parametrize(
    ("key", "value"),
    [("name", "a\nb"), ("name", 7), ("name", "x" * 201), ("fingerprint", 1), ("net_seconds", "[1]"),
     ("net_seconds", "[NaN, 1]"), ("sources", '["a"]'), ("sources", "{}"), ("created", "soon"),
     ("created", None), ("name", "b")],
)  # fmt: skip
def test_what_no_profile_can_be_is_refused(tmp_path: Path, key: str, value: object) -> None:
    """Whoever makes such a file computes its checksum as well."""
    rows = [
        {"name": name, "fingerprint": "f", "net_seconds": "[1, 2]", "sources": '["a", "b"]',
         "created": "2026-01-01T00:00:00+00:00"} for name in "ab"
    ]  # fmt: skip
    tensors = {str(place): np.eye(2, dtype=np.float32) for place in range(2)}
    for good in (True, False):
        if not good:
            rows[0] |= {key: value}  # type: ignore[dict-item]
        about = json.dumps(rows)
        digest = profile_file._digest(about, tensors)
        path = tmp_path / "f.safetensors"
        save_file(
            tensors, path, {"format": profile_file.FORMAT, "profiles": about, "sha256": digest}
        )
        if good:
            assert len(read_profiles(path)) == 2
            continue
        with pytest.raises(UsageError, match=r"cannot be used|two profiles of one name"):
            read_profiles(path)
