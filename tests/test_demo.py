"""The demo runs from end to end, twice, on whatever speech there is, and saves what it shows."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from speakerguard import demo
from speakerguard.errors import UsageError

Clips = dict[str, list[Path]]


@pytest.fixture
def data(speech: Clips, tmp_path: Path) -> Path:
    """The four speakers' clips, in two sources."""
    root = tmp_path / "data"
    for index, (speaker, clips) in enumerate(speech.items()):
        folder = root / "ab"[index // 2] / speaker
        folder.mkdir(parents=True)
        for clip in clips:
            (folder / clip.name).symlink_to(clip)
    return root


def run(folder: Path, model: Path, data: Path | None) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "SPEAKERGUARD_DATA"}
    environment["SPEAKERGUARD_CHECKPOINTS"] = str(model.parent)
    if data:
        environment["SPEAKERGUARD_DATA"] = str(data)
    ran = subprocess.run(
        [sys.executable, "-m", "speakerguard.demo"],
        capture_output=True, text=True, cwd=folder, env=environment,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def numbers(value: Any) -> list[float]:
    """All numbers in what JSON holds."""
    if isinstance(value, dict):
        return numbers(list(value.values()))
    if isinstance(value, list):
        return [number for part in value for number in numbers(part)]
    return [value] if isinstance(value, int | float) else []


def assert_saved(out: str, folder: Path) -> None:
    """Every number that was shown is in claims.json, rounded or within a text there."""
    text = (folder / "out" / "demo" / "claims.json").read_text(encoding="utf-8")
    record = json.loads(text)
    saved = numbers(record)
    shown, _, _ = out.partition("\nnow yours")
    for word in re.findall(r"(?<![\w.-])[-+]?\d+(?:\.\d+)?(?![\w-])", shown):
        places = len(word.partition(".")[2])
        rounded = any(f"{abs(number):.{places}f}" == word.lstrip("+-") for number in saved)
        assert rounded or word in text, word
    for name in ("true", "false"):
        claims = [claim for claim in record["claims"] if claim["true"] is (name == "true")]
        assert len(claims) == record[f"{name}_claims"]
    for claim in record["claims"]:
        assert claim["accepted"] is (claim["score"] >= claim["threshold"])
    assert out.count("ACCEPT") == sum(claim["accepted"] for claim in record["claims"])
    assert out.count("<- wrong") == sum(c["accepted"] != c["true"] for c in record["claims"])
    assert (folder / "out" / "demo" / "claims.png").read_bytes().startswith(b"\x89PNG")


def test_the_demo_runs_twice_and_saves_what_it_shows(tiny_model: Path, data: Path) -> None:
    folder = data.parent
    outs = [run(folder, tiny_model, data) for _ in range(2)]
    for out in outs:
        assert str(data) in out
        assert len(re.findall(r"^  enrolled ", out, re.M)) == 4
    lines = [[line for line in out.splitlines() if " s" not in line] for out in outs]
    assert lines[0] == lines[1]
    assert_saved(outs[1], folder)


def test_without_data_the_voices_are_synthetic(tiny_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader")
    inner = tmp_path / "repository"
    inner.mkdir()
    out = run(inner, tiny_model, None)
    assert "synthetic voices" in out
    assert len(re.findall(r"^  enrolled ", out, re.M)) == demo.SPEAKERS
    assert_saved(out, inner)


def test_choose_takes_the_longest_from_each_source_in_turn(data: Path) -> None:
    chosen = demo.choose(data)
    assert chosen == demo.choose(data)
    assert list(chosen) == sorted(chosen)
    assert [name.split("/")[0] for name in chosen] == ["a", "a", "b", "b"]
    for speaker, paths in chosen.items():
        lengths = [demo._seconds(data / path) for path in paths]
        assert len(paths) == demo.ENROL + 1
        assert lengths == sorted(lengths, reverse=True)
        assert all(path.as_posix().startswith(f"{speaker}/") for path in paths)


def test_choose_stops_at_enough(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "SPEAKERS", 3)
    assert len(demo.choose(data)) == 3


def test_what_is_no_audio_is_taken_last(data: Path) -> None:
    for folder in data.glob("*/*"):
        (folder / "0000.wav").write_text("junk")
    assert not any("0000" in p.name for paths in demo.choose(data).values() for p in paths)


def test_too_few_recordings_are_counted(data: Path) -> None:
    for folder in data.glob("*/*"):
        next(iter(folder.iterdir())).unlink()
    with pytest.raises(UsageError, match=r"4 recordings each.* Here 0 of 4 speakers"):
        demo.choose(data)


def test_where_the_speech_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = tmp_path / "repository"
    librispeech = inner / "data" / "LibriSpeech" / "dev-clean"
    shared = tmp_path / "shared" / "corpus" / "dev"
    for folder in (librispeech, shared):
        folder.mkdir(parents=True)
    monkeypatch.chdir(inner)
    monkeypatch.setenv("SPEAKERGUARD_DATA", str(tmp_path))
    assert demo.find_data()[0] == tmp_path
    monkeypatch.delenv("SPEAKERGUARD_DATA")
    assert demo.find_data()[0].resolve() == shared
    shared.rmdir()
    assert demo.find_data()[0].resolve() == librispeech


def test_names_are_short_where_that_leaves_them_distinct() -> None:
    assert demo._short(["a/p1", "b/p2"]) == {"a/p1": "p1", "b/p2": "p2"}
    assert demo._short(["a/p1", "b/p1"]) == {"a/p1": "a/p1", "b/p1": "b/p1"}
