"""A recording is read as told: its channel, samples without a header, pipes, tensors."""

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from support.recordings import encode, tone

from speakerguard.errors import (
    EmptyAudioError,
    NotAudioError,
    OversizedAudioError,
    SpeakerguardError,
    UsageError,
)
from speakerguard.sound import sources
from speakerguard.sound.audio import Reading, read
from speakerguard.sound.pipe import read_pipe
from speakerguard.sound.speech import load_speech
from speakerguard.verification.verifier import Verifier

RAW = {
    "ulaw": ("ULAW", "FILE"),
    "alaw": ("ALAW", "FILE"),
    "u8": ("PCM_U8", "FILE"),
    "s8": ("PCM_S8", "FILE"),
    "s16le": ("PCM_16", "LITTLE"),
    "s16be": ("PCM_16", "BIG"),
    "s24le": ("PCM_24", "LITTLE"),
    "s32be": ("PCM_32", "BIG"),
    "f32le": ("FLOAT", "LITTLE"),
    "f32be": ("FLOAT", "BIG"),
}


def headless(coding: str, samples: np.ndarray, rate: int = 8_000) -> bytes:
    subtype, endian = RAW[coding]
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="RAW", subtype=subtype, endian=endian)
    return file.getvalue()


@pytest.mark.parametrize("coding", RAW)
@pytest.mark.parametrize("channels", [1, 2])
def test_samples_without_a_header_are_read_as_told(
    coding: str, channels: int, tmp_path: Path
) -> None:
    samples = tone(1.0, 16_000, channels)
    path = tmp_path / "call.raw"
    path.write_bytes(headless(coding, samples))
    how = Reading(path, raw=coding, rate=16_000, channels=channels)
    worst = {"u8": 0.01, "s8": 0.01, "ulaw": 0.02, "alaw": 0.02}.get(coding, 1e-4)
    np.testing.assert_allclose(read(how), samples[:, 0], atol=worst)
    assert read(Reading(path, raw=coding, rate=8_000, channels=channels)).size == 32_000
    rate, blocks = read_pipe(io.BytesIO(path.read_bytes() + b"\1" * (coding != "u8")), raw=how)
    streamed = np.concatenate(list(blocks))
    assert (rate, streamed.shape[1]) == (16_000, channels)
    np.testing.assert_array_equal(streamed[: len(samples)].mean(axis=1), read(how))


@pytest.mark.parametrize(
    "wrong",
    [
        *({"raw": "gsm", "rate": 8_000}, {"raw": "ulaw"}, {"rate": 8_000}, {"channels": 2}),
        *({"channel": 0}, {"channel": 65}, {"raw": "u8", "rate": 8_000, "channels": 0}),
        {"raw": "u8", "rate": 100},
    ],
)
def test_what_cannot_be_told_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SpeakerguardError):
        Reading("a.raw", **wrong)


def test_nothing_without_a_header_is_empty() -> None:
    with pytest.raises(EmptyAudioError):
        read(Reading(b"", raw="ulaw", rate=8_000))
    with pytest.raises(EmptyAudioError):
        read(Reading(b"\1", raw="s16le", rate=8_000))


class Breaks(io.BytesIO):
    """A file object that raises in the middle, as of a network share."""

    def __init__(self, data: bytes, error: BaseException, at: int) -> None:
        super().__init__(data)
        self.error, self.at = error, at

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() >= self.at and size:
            raise self.error
        return super().read(min(size or 0, 4_096) if size and size > 0 else 4_096)


@pytest.mark.parametrize("at", [0, 0.3, 0.8])
@pytest.mark.parametrize("kind", [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS")])
@pytest.mark.parametrize("error", [OSError("gone"), RuntimeError("lost"), EOFError()])
def test_a_file_object_that_raises_is_a_usage_error(
    at: float, kind: tuple[str, str], error: Exception, capfd: pytest.CaptureFixture[str]
) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (160_000, 1)).astype(np.float32)
    data = encode(*kind, noise)
    place = int(at * len(data))
    with pytest.raises(UsageError, match="<audio>: cannot be read"):
        read(Breaks(data, error, place))
    said = capfd.readouterr()
    assert said.out + said.err == ""
    with pytest.raises(KeyboardInterrupt):
        read(Breaks(data, KeyboardInterrupt(), place))


def test_a_pipe_is_read_up_to_a_bound(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sources, "MAX_ENCODED", 3 << 20)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for reader in (read, lambda path: read(path.open("rb", buffering=0))):
        with (
            subprocess.Popen(["sh", "-c", f"cat /dev/zero > {fifo}"], stderr=subprocess.DEVNULL),
            pytest.raises(OversizedAudioError, match="more than 3 MiB"),
        ):
            reader(fifo)


def test_a_tensor_is_taken_whatever_its_kind() -> None:
    torch = pytest.importorskip("torch")
    samples = torch.from_numpy(tone(1.0)[:, 0])
    expected = read((tone(1.0), 16_000))
    np.testing.assert_array_equal(read((samples.clone().requires_grad_(), 16_000)), expected)
    np.testing.assert_allclose(read((samples.bfloat16(), 16_000)), expected, atol=2e-3)
    np.testing.assert_allclose(read((samples.double(), 16_000)), expected, atol=1e-7)
    whole = (samples * 32_768).round().to(torch.int16)
    np.testing.assert_allclose(read((whole, 16_000)), expected, atol=2e-5)
    with pytest.raises(UsageError, match=r"give \(samples, rate\)"):
        read((samples.to_sparse(), 16_000))


@pytest.fixture
def guard(tiny_model: Path, tmp_path: Path, speech: dict[str, list[Path]]) -> Verifier:
    guard = Verifier(tiny_model, str(tmp_path / "profiles.db"))
    guard.enroll("alice", next(iter(speech.values()))[:2])
    return guard


def ask(tiny_model: Path, tmp_path: Path, *words: str, data: bytes | None = None) -> Any:
    line = [sys.executable, "-m", "speakerguard", *words, "--model", str(tiny_model)]
    if words[0] in ("verify", "enroll", "identify"):
        line += ["--store", str(tmp_path / "profiles.db"), "--json"]
    return subprocess.run(line, input=data, capture_output=True, timeout=120)


def test_the_command_line_reads_as_told(
    guard: Verifier, tiny_model: Path, tmp_path: Path, speech: dict[str, list[Path]]
) -> None:
    clips = [read(path) for path in next(iter(speech.values()))[1:3]]
    length = min(map(len, clips))
    pair = np.stack([clip[:length] for clip in clips], axis=1)
    soundfile.write(tmp_path / "pair.wav", pair, 16_000)
    (tmp_path / "call.ulaw").write_bytes(headless("ulaw", pair[:, 0]))
    raw = ["--raw", "ulaw", "--rate", "16000"]
    second = guard.verify("alice", tmp_path / "pair.wav", channel=2)
    told = ask(
        tiny_model, tmp_path, "verify", "alice", str(tmp_path / "pair.wav"), "--channel", "2"
    )
    assert f'"score": {second.score}' in told.stdout.decode(), told.stderr
    how = Reading(tmp_path / "call.ulaw", raw="ulaw", rate=16_000)
    expected = f'"score": {guard.verify("alice", how).score}'
    file = ask(tiny_model, tmp_path, "verify", "alice", str(tmp_path / "call.ulaw"), *raw)
    assert expected in file.stdout.decode(), file.stderr
    piped = ask(
        tiny_model, tmp_path, "verify", "alice", "-", "--stream", *raw,
        data=(tmp_path / "call.ulaw").read_bytes(),
    )  # fmt: skip
    assert expected in piped.stdout.decode(), piped.stderr
    missing = ask(tiny_model, tmp_path, "identify", str(tmp_path / "pair.wav"), "--channel", "3")
    assert (missing.returncode, b"no channel 3" in missing.stderr) == (2, True)
    out = ["embed", "--out", str(tmp_path / "a.npz")]
    done = ask(tiny_model, tmp_path, *out, str(tmp_path / "call.ulaw"), *raw)
    assert done.returncode == 0, done.stderr


def test_the_command_line_says_nothing_that_is_not_its_own(
    guard: Verifier, tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.mp3").write_bytes(b"\xff\xfb\x10\x00" + bytes(50_000))
    (tmp_path / "a.sds").write_bytes(b"\xf0\x7e\x00\x01" + bytes(range(128)) * 100)
    for name in ("a.mp3", "a.sds"):
        refused = ask(tiny_model, tmp_path, "verify", "alice", str(tmp_path / name))
        assert refused.returncode == 3
        assert refused.stdout == b""
        assert refused.stderr.count(b"\n") == 1, refused.stderr


def test_a_pipe_with_a_huge_chunk_is_refused_without_being_kept() -> None:
    head = encode("WAV", "PCM_16")
    listed = head[:36] + b"LIST" + (2**32 - 16).to_bytes(4, "little")
    with pytest.raises(NotAudioError, match="no samples in the first 16 MiB"):
        read_pipe(io.BytesIO(listed + bytes(100)))
    cover = head[:36] + b"LIST" + (1 << 20).to_bytes(4, "little") + bytes(1 << 20) + head[36:]
    np.testing.assert_allclose(
        np.concatenate(list(read_pipe(io.BytesIO(cover))[1])) / 32_768, tone(), atol=1e-4
    )


def test_a_speech_of_a_reading_carries_its_name(tmp_path: Path) -> None:
    (tmp_path / "call.raw").write_bytes(bytes(8_000))
    with pytest.raises(SpeakerguardError, match=r"call\.raw"):
        load_speech(Reading(tmp_path / "call.raw", raw="s16le", rate=8_000))
