"""Offsets, channels that cancel and channels that differ: noticed, and no voice is lost."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soxr

from speakerguard.errors import SilentAudioError, UsageError
from speakerguard.sound.audio import open_recording, read
from speakerguard.sound.mixing import Mixer
from speakerguard.sound.speech import Speech, load_speech

Samples = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def voices(speech: dict[str, list[Path]]) -> tuple[Samples, Samples]:
    """Two speakers, about as loud and equally long, without an offset of their own."""
    clips = [read(clips[0]) for clips in list(speech.values())[:2]]
    length = min(map(len, clips))
    first, second = (clip[:length] - clip[:length].mean() for clip in clips)
    return first * np.float32(0.4 / np.abs(first).max()), second * np.float32(
        0.4 / np.abs(second).max()
    )


def codes(found: Speech) -> list[str]:
    return [warning.code for warning in found.warnings]


@pytest.mark.parametrize("offset", [-0.5, 0.002, 0.05, 0.3])
@pytest.mark.parametrize("gain", [1.0, 0.05])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_an_offset_is_taken_away_before_anything_else(
    voices: tuple[Samples, Samples], offset: float, gain: float, rate: int
) -> None:
    clip = soxr.resample(voices[0], 16_000, rate) * np.float32(gain)
    plain, shifted = load_speech((clip, rate)), load_speech((clip + np.float32(offset), rate))
    assert codes(shifted) == codes(plain)
    assert shifted.net_seconds == pytest.approx(plain.net_seconds, rel=0.05)
    np.testing.assert_array_equal(shifted.kept, plain.kept)
    np.testing.assert_allclose(shifted.samples, plain.samples, atol=max(1e-4, 0.02 * gain))


def test_each_channel_has_its_own_offset(voices: tuple[Samples, Samples]) -> None:
    both = np.stack([voices[0] + np.float32(0.2), voices[0] - np.float32(0.4)], axis=1)
    np.testing.assert_allclose(read((both, 16_000)), voices[0], atol=1e-3)
    dead = np.stack([voices[0], np.full_like(voices[0], 0.3)], axis=1)  # a microphone that is out
    np.testing.assert_allclose(read((dead, 16_000)), voices[0] / 2, atol=1e-3)


def test_what_has_no_offset_is_left_bit_for_bit(voices: tuple[Samples, Samples]) -> None:
    for clip in voices:
        np.testing.assert_array_equal(read((clip, 16_000)), clip)
        small = clip + np.float32(5e-5)
        np.testing.assert_array_equal(read((small, 16_000)), small)


def test_an_offset_is_the_same_in_blocks_as_in_the_whole(voices: tuple[Samples, Samples]) -> None:
    long = np.tile(voices[0], 1 + 50 * 16_000 // len(voices[0])) + np.float32(0.25)
    heard = read((long, 16_000))
    np.testing.assert_allclose(heard, long - long.mean(), atol=2e-3)
    assert np.abs(np.diff(heard)).max() <= np.abs(np.diff(long)).max() + 1e-3  # no step between


def test_an_offset_alone_is_silence() -> None:
    with pytest.raises(SilentAudioError):
        load_speech((np.full(48_000, 0.4, np.float32), 16_000))


@pytest.mark.parametrize("other", [-1.0, -0.8])
@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_channels_that_cancel_are_not_averaged(
    voices: tuple[Samples, Samples], other: float, rate: int
) -> None:
    clip = soxr.resample(voices[0], 16_000, rate)
    noise = np.random.default_rng(0).standard_normal((2, len(clip)))
    pair = np.stack([clip, np.float32(other) * clip], axis=1) + np.float32(1e-3) * noise.T
    found = load_speech((pair.astype(np.float32), rate))
    assert "channels-cancel" in codes(found)
    assert "channels-differ" not in codes(found)
    assert found.net_seconds == pytest.approx(load_speech((clip, rate)).net_seconds, rel=0.05)


def test_channels_that_agree_have_no_warning(voices: tuple[Samples, Samples]) -> None:
    clip = voices[0]
    delayed = np.roll(clip, 40) * np.float32(0.7)  # microphones 85 cm apart
    quiet = np.float32(1e-3) * np.random.default_rng(0).standard_normal(len(clip))
    for other in (clip, np.float32(0.3) * clip, delayed, np.zeros_like(clip), quiet):
        found = load_speech((np.stack([clip, other], axis=1).astype(np.float32), 16_000))
        assert codes(found) == codes(load_speech((clip, 16_000)))


def test_a_voice_a_channel_is_told_and_one_can_be_chosen(voices: tuple[Samples, Samples]) -> None:
    first, second = voices
    turns = np.arange(len(first)) // 16_000 % 2  # as in a call: one speaks, then the other
    for pair in (np.stack(voices, axis=1), np.stack([first * turns, second * (1 - turns)], axis=1)):
        found = load_speech((pair.astype(np.float32), 16_000))
        assert "channels-differ" in codes(found)
        assert "--channel" in next(w.message for w in found.warnings if "differ" in w.code)
    pair = np.stack(voices, axis=1)
    for channel in (1, 2):
        chosen = load_speech((pair, 16_000), channel=channel)
        np.testing.assert_array_equal(
            chosen.samples, load_speech((voices[channel - 1], 16_000)).samples
        )
        assert "channels-differ" not in codes(chosen)
    with pytest.raises(UsageError, match="no channel 3; it has 2"):
        open_recording((pair, 16_000), channel=3)
    with pytest.raises(UsageError, match="counted from 1"):
        open_recording((pair, 16_000), channel=0)


def test_a_mixer_keeps_its_mind_on_short_chunks() -> None:
    rng = np.random.default_rng(0)
    long = rng.uniform(-0.5, 0.5, (16_000, 1)).astype(np.float32)
    mixer = Mixer(16_000, 1)
    mixer.mono(long + np.float32(0.2))
    rest = np.float32([[0.7], [0.71]])
    np.testing.assert_allclose(mixer.mono(rest), [0.5, 0.51], atol=0.01)
    assert mixer.mono(rest[:0]).shape == (0,)
