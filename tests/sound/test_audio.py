"""Whatever comes in leaves as one waveform, or as an error that says what to do."""

import gc
import io
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from speakerguard.errors import (
    AudioError,
    EmptyAudioError,
    InvalidSamplesError,
    NotAudioError,
    SpeakerguardError,
    TruncatedAudioError,
    UsageError,
)
from speakerguard.sound.audio import BLOCK_SECONDS, open_recording, printable, read

Samples = npt.NDArray[np.float32]
TONE = 440.0  # Hz
WAVS = [("WAV", kind) for kind in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT")]
RIFFS = [*WAVS, ("WAVEX", "PCM_16"), ("RF64", "PCM_16"), ("AIFF", "PCM_16")]
FLAC, VORBIS, OPUS = ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS")
MP3 = ("MP3", "MPEG_LAYER_III")
RATES = (8_000, 11_025, 22_050, 44_100, 48_000, 96_000)
UNKNOWN_TO = {"OPUS": {11_025, 22_050, 44_100, 96_000}, "MPEG_LAYER_III": {96_000}}


def tone(seconds: float = 1.5, rate: int = 16_000, channels: int = 1) -> Samples:
    """0.3 sin(2π 440 t) and a little noise: float32 (n, channels)."""
    time = np.arange(int(seconds * rate)) / rate
    noise = 0.003 * np.random.default_rng(0).standard_normal(len(time))
    mono = (0.3 * np.sin(2 * np.pi * TONE * time) + noise).astype(np.float32)
    return np.stack([mono] * channels, axis=1)


def encode(kind: tuple[str, str], samples: Samples, rate: int = 16_000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind[0], subtype=kind[1])
    return file.getvalue()


def frequency(waveform: Samples) -> float:
    spectrum = np.abs(np.fft.rfft(waveform))
    return float(spectrum.argmax() * 16_000 / len(waveform))


class Pipe(io.RawIOBase):
    """A stream that gives its bytes once."""

    def __init__(self, data: bytes) -> None:
        self.left = io.BytesIO(data)

    def read(self, size: int = -1) -> bytes:
        return self.left.read(size)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("kind", [*RIFFS, FLAC, VORBIS, OPUS, MP3], ids="-".join)
def test_every_format_rate_and_channel_count_keeps_time_and_pitch(
    kind: tuple[str, str], rate: int
) -> None:
    if rate in UNKNOWN_TO.get(kind[1], ()):
        rate = 16_000
    for channels in (1, 2):
        waveform = read(encode(kind, tone(rate=rate, channels=channels), rate))
        assert waveform.dtype == np.float32
        assert waveform.ndim == 1
        assert len(waveform) / 16_000 == pytest.approx(1.5, abs=0.002)
        assert frequency(waveform) == pytest.approx(TONE, abs=1)
        assert np.sqrt(np.mean(waveform**2)) == pytest.approx(0.3 / np.sqrt(2), rel=0.02)


def test_five_channels_become_their_mean() -> None:
    channels = np.tile(np.float32([0.5, 0.0, 0.25, 0.0, 0.25]), (1_000, 1))
    np.testing.assert_array_equal(read(encode(("WAV", "FLOAT"), channels)), np.float32(0.2))


@pytest.mark.parametrize(
    "give",
    [
        lambda path: path,
        str,
        lambda path: path.read_bytes(),
        lambda path: bytearray(path.read_bytes()),
        lambda path: memoryview(path.read_bytes()),
        lambda path: io.BytesIO(path.read_bytes()),
        lambda path: path.open("rb"),
        lambda path: Pipe(path.read_bytes()),
        lambda path: (tone()[:, 0], 16_000),
        lambda path: (tone()[:, 0].tolist(), 16_000.0),
        lambda path: (tone(channels=2).astype(np.float64), 16_000),
        lambda path: (np.round(tone() * 32_768).astype(np.int16), 16_000),
        lambda path: (np.round(tone() * 2.0**31).astype(np.int32), 16_000),
    ],
)
def test_every_kind_of_source_gives_the_same_samples(
    give: Callable[[Path], Any], tmp_path: Path
) -> None:
    path = tmp_path / "tone.wav"
    soundfile.write(path, tone(), 16_000, subtype="PCM_24")
    np.testing.assert_allclose(read(give(path)), tone()[:, 0], rtol=0, atol=2e-5)


def test_a_file_object_is_read_from_its_start_and_left_open() -> None:
    file = io.BytesIO(encode(("WAV", "PCM_16"), tone()))
    file.seek(1_000)
    assert len(read(file)) == 24_000
    assert not file.closed


def test_a_pipe_in_the_file_system_is_read(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    (tmp_path / "tone.flac").write_bytes(encode(FLAC, tone()))
    with subprocess.Popen(["cp", tmp_path / "tone.flac", fifo]):
        assert len(read(fifo)) == 24_000


@pytest.mark.parametrize(
    "data",
    [
        *(encode(FLAC, tone()), encode(FLAC, tone())[:-2_000], encode(MP3, tone())[:-9_000]),
        *(encode(WAVS[1], tone())[:-2], encode(WAVS[1], tone(0.3, 2_000), 2_000), b"junk", b""),
    ],
)
@pytest.mark.parametrize("piped", [False, True])
def test_what_was_opened_is_closed(data: bytes, piped: bool, tmp_path: Path) -> None:
    path, fifo = tmp_path / "a", tmp_path / "fifo"
    path.write_bytes(data)
    os.mkfifo(fifo)
    with warnings.catch_warnings(record=True) as met:
        warnings.simplefilter("always")
        filling = subprocess.Popen(["cp", path, fifo]) if piped else nullcontext()
        with filling, suppress(AudioError):
            read(fifo if piped else path)
        gc.collect()
    assert [str(warning.message) for warning in met] == []


@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_blocks_equal_resampling_the_whole(rate: int) -> None:
    samples = np.random.default_rng(1).uniform(-0.5, 0.5, int(50.3 * rate)).astype(np.float32)
    blocks = list(open_recording((samples, rate)).blocks())
    assert len(blocks) > 2
    assert max(map(len, blocks)) <= (BLOCK_SECONDS + 0.1) * 16_000
    whole = soxr.resample(samples, rate, 16_000)
    np.testing.assert_allclose(np.concatenate(blocks), whole, rtol=0, atol=1e-5)


def test_what_is_said_of_a_recording() -> None:
    recording = open_recording((np.tile(np.float32([0.1, 1, 1, 1, 1, -0.2]), 1_000), 8_000))
    assert (recording.name, recording.rate, recording.channels) == ("<array>", 8_000, 1)
    list(recording.blocks())
    assert (recording.seconds, recording.peak) == (0.75, 1.0)
    assert (recording.samples, recording.clipped) == (6_000, 2_000)


def test_an_hour_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "hour.wav"
    silence = np.zeros(4_000 * 600, np.uint8) + 128
    header = encode(("WAV", "PCM_U8"), np.zeros(1, np.float32), 4_000)[:40]
    with path.open("wb") as file:
        file.write(header + (len(silence) * 6).to_bytes(4, "little"))
        for _ in range(6):
            file.write(silence.tobytes())
    program = (
        "import resource, sys\n"
        "from speakerguard.sound.audio import open_recording\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "recording = open_recording(sys.argv[1])\n"
        "samples = sum(map(len, recording.blocks()))\n"
        "print(samples, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, check=True
    )
    samples, kib = map(int, ran.stdout.split())
    assert samples == 3_600 * 16_000
    assert kib < 30_000  # the whole would be 230 MB


def cuts(size: int) -> list[int]:
    return [*(int(size * share / 100) for share in (5, 20, 50, 80, 95)), size - 50, size - 1]


@pytest.mark.parametrize("rate", [8_000, 48_000])
@pytest.mark.parametrize("kind", [*RIFFS, FLAC, VORBIS, OPUS, MP3], ids="-".join)
def test_a_file_that_was_cut_off_is_refused(kind: tuple[str, str], rate: int) -> None:
    data = encode(kind, tone(4, rate), rate)
    for cut in cuts(len(data)):
        if kind == MP3 and cut > 0.97 * len(data):
            continue  # frames stand alone: the loss of the last one or two cannot be told
        with pytest.raises((TruncatedAudioError, NotAudioError)) as refusal:
            read(data[:cut])
        assert refusal.value.exit_code == 3
        if cut > 0.5 * len(data):
            assert "cut off" in str(refusal.value)


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0x80000000])
def test_a_wav_written_to_a_pipe_has_no_length_and_is_read(length: int) -> None:
    data = encode(("WAV", "PCM_16"), tone())
    streamed = data[:40] + length.to_bytes(4, "little") + data[44:]
    assert len(read(streamed)) == 24_000


def test_an_mp3_that_does_not_state_its_length_is_read_to_its_end() -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (16_000 * 10, 1)).astype(np.float32)
    data = encode(MP3, np.concatenate([0.01 * tone(10), noise]))  # of variable bit rate
    assert len(read(data)) == 20 * 16_000
    bare = data[data.find(data[:2], 4) :]  # without the frame that says how long it is
    assert len(read(bare)) == pytest.approx(20 * 16_000, abs=1_600)
    for cut in (len(bare) // 2, len(bare) - 1):
        with pytest.raises(TruncatedAudioError, match="convert it to WAV"):
            read(bare[:cut])


NOT_AUDIO = [
    b"hello",
    b"\0" * 5_000,
    b"RIFF\0\0\0\0WAVE",
    b"fLaC",
    b"OggS" * 20,
    b"ID3" + b"\0" * 99,
]


@pytest.mark.parametrize("data", NOT_AUDIO)
def test_what_is_not_audio_is_refused(data: bytes) -> None:
    with pytest.raises(NotAudioError, match=r"<bytes>: cannot be decoded .* Convert it"):
        read(data)


def test_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    header = bytearray(encode(("WAV", "PCM_16"), tone())[:44])
    header[40:] = bytes(4)
    for source in (b"", tmp_path / "empty.wav", bytes(header), (np.zeros(0), 16_000)):
        with pytest.raises(EmptyAudioError, match=r"empty|no samples"):
            read(source)
    with pytest.raises(EmptyAudioError):
        read((np.zeros(1, np.float32), 96_000))  # not one sample at 16 kHz


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_samples_that_are_no_number_are_refused(value: float, tmp_path: Path) -> None:
    samples = tone(3).astype(np.float64)
    samples[32_000] = value
    path = tmp_path / "bad.wav"
    soundfile.write(path, samples, 16_000, subtype="DOUBLE")
    for source in (path, (samples, 16_000)):
        with pytest.raises(InvalidSamplesError, match=r"at 2\.00 s|full scale is 1"):
            read(source)


def test_integers_kept_as_floats_are_refused() -> None:
    with pytest.raises(InvalidSamplesError, match="Divide samples of 16 bits by 32768"):
        read((tone() * 32_768, 16_000))


@pytest.mark.parametrize("rate", [0, -1, 100, 10**7])
def test_a_rate_that_cannot_carry_speech_is_refused(rate: int) -> None:
    with pytest.raises(NotAudioError, match="sample rate"):
        read((tone(), rate))


@pytest.mark.parametrize(
    "source",
    [
        *("/nonexistent/a.wav", "", "a\0b", "/tmp", 3, None, [0.1], np.zeros(5), (np.zeros(5),)),
        *((np.zeros(5), 16_000, 1), (np.zeros(5), "fast"), (np.zeros(5), float("nan"))),
        *((np.zeros(5), float("inf")), (16_000, np.zeros(5)), ([[1], [1, 2]], 16_000)),
        *((["a"], 16_000), (None, 16_000), (0.5, 16_000), (np.zeros((2, 2, 2)), 16_000)),
        *((np.zeros((2, 16_000)), 16_000), (np.zeros(5, bool), 16_000), ([1, 2], 16_000)),
        io.StringIO("text"),
    ],
)
def test_what_cannot_be_a_recording_is_a_usage_error(source: Any) -> None:
    with pytest.raises(UsageError):
        read(source)


def test_a_closed_file_is_a_usage_error(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(encode(("WAV", "PCM_16"), tone()))
    with path.open("rb") as closed:
        pass
    with pytest.raises(UsageError, match=r"a\.wav: cannot be read .*closed"):
        read(closed)


NAMES = [
    "صوت عربي.wav",
    "声音.wav",
    "🎤👩‍👩‍👧.wav",
    os.fsdecode(b"bad\xff\xfe.wav"),
    "new\nline.wav",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_in_any_script_are_read_and_can_be_shown(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(encode(("WAV", "PCM_16"), tone()))
    assert len(read(path)) == 24_000
    path.write_bytes(b"junk")
    with pytest.raises(NotAudioError) as refusal:
        read(path)
    str(refusal.value).encode("utf-8")
    assert "\n" not in str(refusal.value)


def test_printable_hides_only_what_cannot_be_shown() -> None:
    assert printable("صوت 声 👩‍👧") == "صوت 声 👩‍👧"
    assert printable("a\x1b[31m\n\udcff") == r"a\x1b[31m\n\udcff"


ORIGINALS = [
    encode(kind, tone(0.3, 16_000))
    for kind in (WAVS[1], WAVS[4], RIFFS[6], FLAC, VORBIS, OPUS, MP3)
]


def read_or_refuse(data: bytes) -> None:
    try:
        waveform = read(data)
    except SpeakerguardError:
        pass
    else:
        assert np.isfinite(waveform).all()
        assert np.abs(waveform).max() <= 1


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([b"", b"RIFF", b"fLaC", b"OggS", b"ID3\x03", b"\xff\xfb"]), st.binary())
def test_random_bytes_are_read_or_refused(start: bytes, rest: bytes) -> None:
    read_or_refuse(start + rest)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(ORIGINALS),
    st.lists(st.tuples(st.integers(0, 400) | st.integers(0, 2**16), st.binary(max_size=8))),
    st.integers(0, 2**16) | st.none(),
)
def test_damaged_files_are_read_or_refused(
    original: bytes, edits: list[tuple[int, bytes]], cut: int | None
) -> None:
    data = bytearray(original)
    for place, patch in edits:
        data[place : place + len(patch)] = patch
    read_or_refuse(bytes(data[:cut]))


def test_ctrl_c_while_decoding_is_not_a_damaged_file(tmp_path: Path) -> None:
    """libsndfile must not meet the interrupt in a callback, where it would be swallowed."""
    path = tmp_path / "long.flac"
    rng = np.random.default_rng(0)
    soundfile.write(path, rng.uniform(-0.5, 0.5, 16_000 * 60).astype(np.float32), 16_000)
    program = (
        "import signal, sys, _thread, threading\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored under nohup
        "from speakerguard.sound.audio import read\n"
        "from speakerguard.errors import AudioError\n"
        "threading.Timer(0.1, _thread.interrupt_main).start()\n"
        "try:\n"
        "    while True: read(sys.argv[1])\n"
        "except KeyboardInterrupt: print('stopped')\n"
        "except AudioError as error: print(error)\n"
    )
    line = [sys.executable, "-c", program, str(path)]
    said = [subprocess.run(line, capture_output=True, text=True, timeout=60).stdout for _ in "123"]
    assert said == ["stopped\n"] * 3
