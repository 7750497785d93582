"""Recordings from the field, against a profile of the same four seconds."""

import importlib.util
from pathlib import Path

import pytest

from speakerguard.errors import NotAudioError
from speakerguard.sound.audio import Reading, read
from speakerguard.verification.verifier import Verification, Verifier

CASES = {  # codes of the warnings
    "whole.wav": set(),
    "opus-without-end-flag.ogg": {"open-end"},
    "flac-of-unknown-length.flac": set(),
    "vbr-without-header.mp3": set(),
    "large-tag-behind.mp3": set(),
    "wav-that-says-length-0.wav": {"open-end"},
    "two-streams-one-after-the-other.opus": set(),
    "quiet-with-dc-offset.wav": set(),
    "channels-that-cancel.wav": {"channels-cancel"},
    "a-voice-a-channel.wav": {"channels-differ"},
    "browser-recording.webm": set(),
    "phone-memo.m4a": set(),
    "flac-in-ogg.oga": set(),
}
DECODED_BY_AV = ("webm", "m4a", "oga")


@pytest.fixture(scope="module")
def cases(shared: Path) -> Path:
    folder = shared / "cases" / "audio"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return folder


@pytest.fixture(scope="module")
def guard(cases: Path, tmp_path_factory: pytest.TempPathFactory) -> Verifier:
    guard = Verifier(store=str(tmp_path_factory.mktemp("cases") / "profiles.db"))
    guard.enroll("p227", [cases / "whole.wav"])
    return guard


def codes(answer: Verification) -> set[str]:
    """Of warnings about decoding; another is that the probe is what was enrolled."""
    known = {"open-end", "chained", "several-streams", "channels-cancel", "channels-differ"}
    return {warning.code for warning in answer.warnings} & (known | {"telephone-band", "clipping"})


@pytest.mark.parametrize("name", CASES)
def test_a_recording_from_the_field_is_accepted(
    guard: Verifier, cases: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    if name.endswith(DECODED_BY_AV) and importlib.util.find_spec("av") is None:
        with pytest.raises(NotAudioError, match="speakerguard\\[formats\\]"):
            read(cases / name)
        return
    seconds = 8.0 if "two-streams" in name else 4.0
    assert len(read(cases / name)) / 16_000 == pytest.approx(seconds, abs=0.12)
    answer = guard.verify("p227", cases / name)
    assert answer.accepted
    assert codes(answer) == CASES[name]
    said = capfd.readouterr()
    assert said.out + said.err == ""


def test_one_voice_of_a_call_is_chosen(guard: Verifier, cases: Path) -> None:
    call = cases / "a-voice-a-channel.wav"
    both, left, right = (guard.verify("p227", call, channel=n) for n in (None, 1, 2))
    assert (left.accepted, right.accepted) == (True, False)
    assert left.score > both.score + 0.3


def test_telephone_samples_are_read_as_told(guard: Verifier, cases: Path) -> None:
    told = Reading(cases / "telephone-8000-hz.ulaw", raw="ulaw", rate=8_000)
    answer = guard.verify("p227", told)
    assert answer.accepted
    assert codes(answer) == {"telephone-band"}
