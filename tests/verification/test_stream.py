"""Streams: provisional answers on the way, and at the end what the whole recording gives."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from speakerguard.errors import (
    InvalidSamplesError,
    NoSpeechError,
    NoSuchProfileError,
    NotAudioError,
    UsageError,
)
from speakerguard.verification import stream as streaming
from speakerguard.verification.verifier import Verifier

Clips = dict[str, list[Path]]


@pytest.fixture
def guard(tiny_model: Path, tmp_path: Path, speech: Clips) -> Verifier:
    guard = Verifier(tiny_model, str(tmp_path / "profiles.db"))
    guard.enroll("alice", next(iter(speech.values()))[:2])
    return guard


@pytest.fixture(scope="module")
def probe(speech: Clips) -> np.ndarray:
    """About 8 s of 16-bit speech at 16 kHz."""
    clips = [soundfile.read(path, dtype="int16") for path in next(iter(speech.values()))[1:]]
    return np.concatenate([samples[:: max(1, rate // 16_000)] for samples, rate in clips])


@pytest.mark.parametrize("step", [160, 1_001, 16_000, 10**9])
def test_the_final_answer_is_the_offline_one(guard: Verifier, probe: np.ndarray, step: int) -> None:
    stream = guard.stream("alice")
    provisional = [stream.add(probe[i : i + step]) for i in range(0, len(probe), step)]
    assert stream.finish() == guard.verify("alice", (probe, 16_000))
    answers = [answer for answer in provisional if answer]
    assert len(answers) >= 1
    assert len(answers) <= 1 + len(probe) / 16_000


@pytest.mark.parametrize("rate", [8_000, 48_000])
@pytest.mark.parametrize("step", [4_801, 10**9])
def test_other_rates_and_channels_give_the_offline_answer_too(
    guard: Verifier, probe: np.ndarray, rate: int, step: int
) -> None:
    speech = soxr.resample(probe, 16_000, rate)
    long = np.tile(speech, 1 + 45 * rate // len(speech))[: 45 * rate]  # more than two blocks
    pair = np.stack([long, -long], axis=1) + np.int16(300)
    stream = guard.stream("alice", rate)
    for start in range(0, len(pair), step):
        stream.add(pair[start : start + step])
    final = stream.finish()
    assert final == guard.verify("alice", (pair, rate))
    assert "channels-cancel" in [warning.code for warning in final.warnings]
    assert stream.finish() == final
    with pytest.raises(UsageError, match="finished"):
        stream.add(pair)


def test_a_stream_keeps_one_channel_at_16_khz(guard: Verifier) -> None:
    stream = guard.stream("alice", 768_000)
    chunk = np.zeros((76_800, 64), np.int16)
    for _ in range(10):
        stream.add(chunk)
    kept = sum(block.nbytes for block, _ in stream._parts)
    kept += sum(block.nbytes for block in stream._waiting)
    assert kept < 2 * chunk.nbytes + 4 * 16_000 * 4
    assert stream.seconds == pytest.approx(1.0)
    for _ in range(4):
        stream.add(chunk)
    assert stream.full  # as many samples as are searched of any recording
    assert stream.seconds < 1.4


def test_samples_that_are_no_number_end_a_stream(guard: Verifier, probe: np.ndarray) -> None:
    stream = guard.stream("alice")
    with pytest.raises(InvalidSamplesError):
        stream.add(np.full(16_000 * 21, np.nan, np.float32))


def test_answers_grow_rarer(guard: Verifier, probe: np.ndarray) -> None:
    stream = guard.stream("alice")
    judged = []
    stream.so_far = lambda: judged.append(stream.seconds)  # type: ignore[assignment, method-assign]
    for _ in range(3_000):
        stream.add(probe[:1_600])
    assert len(judged) < 60
    assert max(np.diff(judged)) > 10


def test_what_is_not_speech_has_no_answer(guard: Verifier) -> None:
    stream = guard.stream("alice")
    noise = (1_000 * np.random.default_rng(0).standard_normal(40_000)).astype(np.int16)
    assert stream.add(noise) is None
    with pytest.raises(NoSpeechError):
        stream.finish()
    with pytest.raises(NoSuchProfileError):
        guard.stream("bob")


def test_a_stream_is_bounded(
    guard: Verifier, probe: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "LONGEST", 3.0)
    stream = guard.stream("alice")
    for start in range(0, len(probe), 1_600):
        stream.add(probe[start : start + 1_600])
    assert stream.full
    assert stream.seconds == pytest.approx(3.0)


def test_a_stream_goes_on_as_it_began(guard: Verifier, probe: np.ndarray) -> None:
    stream = guard.stream("alice")
    stream.add(probe[:100])
    for wrong in (probe[:100].astype(np.float32), np.stack([probe, probe], axis=1)[:100], b"0000"):
        with pytest.raises(UsageError, match="stream"):
            stream.add(wrong)
    for rate in (0, -16_000, 10**9):
        with pytest.raises(NotAudioError, match="sample rate"):
            guard.stream("alice", rate)


def test_the_command_line_follows_a_pipe(
    guard: Verifier, probe: np.ndarray, tiny_model: Path, tmp_path: Path
) -> None:
    line = [sys.executable, "-m", "speakerguard", "verify", "alice", "-", "--stream", "--json"]
    line += ["--model", str(tiny_model), "--store", str(tmp_path / "profiles.db")]
    ran = subprocess.run(line, input=probe.astype("<i2").tobytes(), capture_output=True)
    expected = guard.verify("alice", (probe, 16_000))
    assert ran.returncode == (0 if expected.accepted else 1), ran.stderr.decode()
    assert f'"score": {expected.score}' in ran.stdout.decode()
    assert b"so far" in ran.stderr


def test_a_stream_is_no_file(guard: Verifier) -> None:
    from speakerguard.cli.stream import follow

    with pytest.raises(UsageError, match="not to a file"):
        follow(guard, "alice", "probe.wav", None)


def test_a_closed_standard_input_is_said(guard: Verifier, monkeypatch: pytest.MonkeyPatch) -> None:
    from speakerguard.cli.stream import follow

    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UsageError, match="-: standard input is closed"):
        follow(guard, "alice", "-", None)
