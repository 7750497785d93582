"""Which speech the demos take, and of whom."""

from pathlib import Path

import pytest
from support.clips import Clips, link_clips

from speakerguard.errors import UsageError
from speakerguard.evaluation import demo_set


@pytest.fixture
def data(speech: Clips, tmp_path: Path) -> Path:
    """The four speakers' clips, in two sources."""
    return link_clips(speech, tmp_path / "data")


def test_choose_takes_the_longest_from_each_source_in_turn(data: Path) -> None:
    chosen = demo_set.choose(data)
    assert chosen == demo_set.choose(data)
    assert list(chosen) == sorted(chosen)
    assert [name.split("/")[0] for name in chosen] == ["a", "a", "b", "b"]
    for speaker, paths in chosen.items():
        lengths = [demo_set._seconds(data / path) for path in paths]
        assert len(paths) == demo_set.ENROL + 1
        assert lengths == sorted(lengths, reverse=True)
        assert all(path.as_posix().startswith(f"{speaker}/") for path in paths)


def test_choose_stops_at_enough(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_set, "SPEAKERS", 3)
    assert len(demo_set.choose(data)) == 3


def test_what_is_no_audio_is_taken_last(data: Path) -> None:
    for folder in data.glob("*/*"):
        (folder / "0000.wav").write_text("junk")
    assert not any("0000" in p.name for paths in demo_set.choose(data).values() for p in paths)


def test_too_few_recordings_are_counted(data: Path) -> None:
    for folder in data.glob("*/*"):
        next(iter(folder.iterdir())).unlink()
    with pytest.raises(UsageError, match=r"4 recordings each.* Here 0 of 4 speakers"):
        demo_set.choose(data)


def test_where_the_speech_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = tmp_path / "repository"
    librispeech = inner / "data" / "LibriSpeech" / "dev-clean"
    shared = tmp_path / "shared" / "corpus" / "dev"
    for folder in (librispeech, shared):
        folder.mkdir(parents=True)
    monkeypatch.chdir(inner)
    monkeypatch.setenv("SPEAKERGUARD_DATA", str(tmp_path))
    assert demo_set.find_data()[0] == tmp_path
    monkeypatch.delenv("SPEAKERGUARD_DATA")
    assert demo_set.find_data()[0].resolve() == shared
    shared.rmdir()
    assert demo_set.find_data()[0].resolve() == librispeech
