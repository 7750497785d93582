"""Sound that comes through a pipe: 16-bit PCM, with a header or without."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speakerguard.errors import NotAudioError
from speakerguard.sound.pipe import read_pipe

Clips = dict[str, list[Path]]


@pytest.fixture(scope="module")
def probe(speech: Clips) -> np.ndarray:
    """About 8 s of 16-bit speech at 16 kHz."""
    clips = [soundfile.read(path, dtype="int16") for path in next(iter(speech.values()))[1:]]
    return np.concatenate([samples[:: max(1, rate // 16_000)] for samples, rate in clips])


@pytest.mark.parametrize("rate", [8_000, 44_100])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_pipe_with_a_header(probe: np.ndarray, rate: int, channels: int) -> None:
    sent = np.stack([probe[: rate + 7]] * channels, axis=1)
    file = io.BytesIO()
    soundfile.write(file, sent, rate, format="WAV", subtype="PCM_16")
    found_rate, blocks = read_pipe(io.BytesIO(file.getvalue() + b"\x01"))
    assert found_rate == rate
    np.testing.assert_array_equal(np.concatenate(list(blocks)), sent)


def test_a_pipe_without_a_header(probe: np.ndarray) -> None:
    rate, blocks = read_pipe(io.BytesIO(probe[:16_007].astype("<i2").tobytes()), 12_000)
    assert rate == 12_000
    np.testing.assert_array_equal(np.concatenate(list(blocks))[:, 0], probe[:16_007])
    assert list(read_pipe(io.BytesIO())[1]) == []


def test_a_pipe_of_other_pcm_is_refused(probe: np.ndarray) -> None:
    file = io.BytesIO()
    soundfile.write(file, probe[:100], 16_000, format="WAV", subtype="PCM_24")
    with pytest.raises(NotAudioError, match="S16_LE"):
        read_pipe(io.BytesIO(file.getvalue()))


def test_a_pipe_ends_where_its_header_says(probe: np.ndarray) -> None:
    file = io.BytesIO()
    soundfile.write(file, probe, 16_000, format="WAV", subtype="PCM_16")
    _, blocks = read_pipe(io.BytesIO(file.getvalue() + b"LIST\x04\0\0\0more"))
    np.testing.assert_array_equal(np.concatenate(list(blocks))[:, 0], probe)


@pytest.mark.parametrize(
    "start",
    [
        *(b"fLaC", b"OggS", b"ID3\4", b"\xff\xfb\x90\0"),
        *(b"RF64\xff\xff\xff\xffWAVE", b"RIFX\0\0\0\0WAVE", b"riff.\x91\xcf\x11", b".snd\0"),
    ],
)
def test_an_encoded_pipe_is_refused(start: bytes) -> None:
    with pytest.raises(NotAudioError, match="only 16-bit PCM"):
        read_pipe(io.BytesIO(start + bytes(1000)))
