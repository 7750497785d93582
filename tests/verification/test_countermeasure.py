"""The combined decision: the claimed voice, and real speech."""

import io
import math
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from speakerguard.errors import UsageError
from speakerguard.sound import audio
from speakerguard.sound.speech import Speech, load_speech
from speakerguard.verification import countermeasure
from speakerguard.verification.verifier import Verifier

Clips = dict[str, list[Path]]


class Ear:
    """A countermeasure that says what it is told to, and keeps what it was asked about."""

    def __init__(self, *says: float) -> None:
        self.says, self.asked = list(says), list[Any]()

    def llr(self, source: Any) -> float:
        self.asked.append(source)
        return self.says[(len(self.asked) - 1) % len(self.says)]


@pytest.fixture(scope="module")
def store(tiny_model: Path, speech: Clips, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two speakers, each of two recordings."""
    path = str(tmp_path_factory.mktemp("store") / "p.db")
    for name, clips in list(speech.items())[:2]:
        Verifier(tiny_model, path).enroll(name, clips[:2])
    return path


@pytest.fixture
def own(speech: Clips) -> tuple[str, Path]:
    """A speaker and a recording that is enrolled, so that every threshold is reached."""
    name, clips = next(iter(speech.items()))
    return name, clips[0]


@pytest.mark.parametrize(
    ("llr", "passes"), [(2.5, True), (0.0, True), (-1e-9, False), (-math.inf, False)]
)
def test_both_must_accept(
    tiny_model: Path, store: str, own: tuple[str, Path], llr: float, passes: bool
) -> None:
    alone, guard = Verifier(tiny_model, store), Verifier(tiny_model, store, countermeasure=Ear(llr))
    name, path = own
    plain, answer = alone.verify(name, path), guard.verify(name, path)
    assert (plain.accepted, plain.reason, plain.real_speech_llr) == (True, "", None)
    assert (answer.accepted, answer.real_speech_llr) == (passes, llr)
    assert answer.reason == ("" if passes else "Ear takes it for made speech")
    assert replace(answer, accepted=True, reason="", real_speech_llr=None) == plain
    found, named = alone.identify(path, margin=0), guard.identify(path, margin=0)
    assert (found.speaker, found.real_speech_llr) == (name, None)
    assert (named.speaker, named.real_speech_llr) == (name if passes else None, llr)
    assert named.reason == answer.reason
    assert replace(named, speaker=name, reason="", real_speech_llr=None) == found


def test_the_voice_alone_can_reject(tiny_model: Path, store: str, own: tuple[str, Path]) -> None:
    guard = Verifier(tiny_model, store, countermeasure=Ear(-3.0))
    answer = guard.verify(*own, operating_point=2.0)
    assert not answer.accepted
    assert answer.reason == f"the score, {answer.score:.3f}, is under the threshold 2.000"
    named = guard.identify(own[1], 2.0)
    assert (named.speaker, named.real_speech_llr) == (None, -3.0)
    assert named.reason.startswith("the best score, ")


def test_two_recordings_must_both_be_real(tiny_model: Path, speech: Clips) -> None:
    (first, *_), *_ = speech.values()
    said = Verifier(tiny_model, countermeasure=Ear(1.0, -1.0)).compare_recordings(first, first)
    assert (said.accepted, said.real_speech_llr) == (False, (1.0, -1.0))
    assert said.reason == f"{first}: Ear takes it for made speech"
    real = Verifier(tiny_model, countermeasure=Ear(1.0, 0.0)).compare_recordings(first, first)
    assert (real.accepted, real.reason) == (True, "")
    plain = Verifier(tiny_model).compare_recordings(first, first)
    assert (plain.real_speech_llr, plain.accepted) == (None, True)
    assert Verifier(tiny_model).compare_recordings(first, first, 2.0).reason.endswith("2.000")


@pytest.mark.parametrize("kind", ["path", "file", "fifo", "speech"])
def test_a_recording_is_read_once_for_both(
    tiny_model: Path, store: str, own: tuple[str, Path], kind: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    ear, (name, path) = Ear(1.0), own
    guard = Verifier(tiny_model, store, countermeasure=ear)
    source: Any = {"file": io.BytesIO(path.read_bytes()), "speech": load_speech(path)}.get(kind)
    if kind == "fifo":
        os.mkfifo(source := tmp_path / "fifo")
        subprocess.Popen(["sh", "-c", f"cat '{path}' > '{source}'"])
    opened = []
    inside = audio.open_recording
    monkeypatch.setattr(
        "speakerguard.sound.speech.open_recording",
        lambda *given: opened.append(given) or inside(*given),  # type: ignore[func-returns-value]
    )
    assert guard.verify(name, source or path).accepted
    (asked,) = ear.asked
    assert isinstance(asked, Speech)
    assert asked.samples.tobytes() == load_speech(path).samples.tobytes()
    assert len(opened) == (1 if kind == "speech" else 2)  # one of them by this test


def test_a_stream_is_asked_about_as_well(
    tiny_model: Path, store: str, own: tuple[str, Path]
) -> None:
    name, path = own
    samples = audio.read(path)
    for llr in (1.0, -1.0):
        guard = Verifier(tiny_model, store, countermeasure=Ear(llr))
        growing = guard.stream(name)
        growing.add(samples)
        answer = growing.finish()
        assert (answer.real_speech_llr, answer.accepted) == (llr, llr > 0)
        assert answer == guard.verify(name, (samples, audio.SAMPLE_RATE))


def test_an_answer_that_is_no_number_decides_nothing(
    tiny_model: Path, store: str, own: tuple[str, Path]
) -> None:
    guard = Verifier(tiny_model, store, countermeasure=Ear(math.nan))
    with pytest.raises(UsageError, match="the countermeasure Ear says nan, which decides nothing"):
        guard.verify(*own)


def test_countermeasures_go_by_name(
    tiny_model: Path, store: str, own: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="no countermeasure 'x'; installed: "):
        Verifier(tiny_model, store, countermeasure="x")
    monkeypatch.setattr(countermeasure, "load", lambda name: Ear(-1.0))
    answer = Verifier(tiny_model, store, countermeasure="ear").verify(*own)
    assert answer.reason == "ear takes it for made speech"
