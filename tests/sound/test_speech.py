"""No speech means no score; and what there is of speech is found, at any level, in any piece."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soxr

from speakerguard.errors import AudioError, NoSpeechError, SilentAudioError
from speakerguard.sound import speech as module
from speakerguard.sound.audio import BLOCK_SECONDS, read
from speakerguard.sound.speech import (
    FRAME,
    PAD,
    TIGHT,
    Speech,
    SpeechDetector,
    load_speech,
)

Samples = npt.NDArray[np.float32]
Clips = dict[str, list[Path]]


def codes(found: Speech) -> list[str]:
    return [warning.code for warning in found.warnings]


def decibels(samples: Samples) -> float:
    return float(20 * np.log10(np.sqrt(np.mean(samples**2))))


@pytest.fixture(scope="module")
def clip(speech: Clips) -> Samples:
    """The longest clip of the first speaker, not too loud."""
    longest = max((read(path) for path in next(iter(speech.values()))), key=len)
    return longest * np.float32(0.5 / np.abs(longest).max())


def melody() -> npt.NDArray[np.float64]:
    time = np.arange(8_000) / 16_000
    pitches = np.random.default_rng(0).choice([220, 247, 262, 294, 330, 349, 392, 440], 40)
    decay = np.exp(-4 * time)
    notes = [
        sum(np.sin(2 * np.pi * pitch * h * time) / h for h in (1, 2, 3, 4)) * decay
        for pitch in pitches
    ]
    return 0.2 * np.concatenate(notes)


TIME = np.arange(16_000 * 20) / 16_000
NOISE = np.random.default_rng(0).standard_normal(16_000 * 20)
BUZZ = sum(np.sin(2 * np.pi * 150 * k * TIME) / k for k in range(1, 20))
NOT_SPEECH = {
    "loud white noise": 0.3 * np.clip(NOISE, -3, 3),
    "quiet white noise": 0.001 * NOISE,
    "low tone": 0.3 * np.sin(2 * np.pi * 200 * TIME),
    "tone": 0.3 * np.sin(2 * np.pi * 1_000 * TIME),
    "buzz at the pace of syllables": 0.1 * BUZZ * (1 + np.sin(2 * np.pi * 4 * TIME)),
    "melody": melody(),
    "clicks": 0.8 * (np.abs(NOISE) > 3.5),
}


def test_which_frames_were_kept_is_said(clip: Samples) -> None:
    quiet = np.zeros(22_345, np.float32)
    recording = np.concatenate([quiet, clip, quiet])
    found = load_speech((recording, 16_000))
    frames = np.pad(recording, (0, -len(recording) % FRAME)).reshape(-1, FRAME)
    np.testing.assert_array_equal(frames[found.kept].ravel(), found.samples)
    assert found.kept.shape == (len(frames),)
    assert not found.kept[:20].any()


@pytest.mark.parametrize("name", NOT_SPEECH)
def test_what_is_not_speech_has_no_score(name: str) -> None:
    with pytest.raises(NoSpeechError, match=r"speech (found )?in 20\.0 s.* Record"):
        load_speech((NOT_SPEECH[name], 16_000))


@pytest.mark.parametrize("level", [0.0, 2e-4])
def test_silence_is_called_silence(level: float) -> None:
    with pytest.raises(SilentAudioError, match="microphone"):
        load_speech((level * np.ones(48_000), 16_000))


def test_music_and_noises_of_the_corpus_are_not_speech(shared: Path) -> None:
    music = sorted((shared / "corpus" / "augment" / "music_opsound").rglob("*.opus"))
    noises = sorted((shared / "corpus" / "augment" / "misc").rglob("*.opus"))
    assert len(music) + len(noises) > 10
    for path in [*music, *noises[::3]]:
        with pytest.raises(AudioError):
            load_speech(path)


def test_net_seconds_are_plausible(speech: Clips) -> None:
    found = [load_speech(path) for clips in speech.values() for path in clips]
    assert all(0.5 <= clip.net_seconds <= clip.total_seconds + 0.032 for clip in found)
    share = sum(clip.net_seconds for clip in found) / sum(clip.total_seconds for clip in found)
    assert share > 0.5
    for clip in found:
        assert clip.samples.dtype == np.float32
        padding = len(clip.within(TIGHT)) / 16_000 - clip.net_seconds
        assert 0 <= padding < 0.3 * clip.net_seconds + 0.2


def test_silence_around_speech_is_not_speech(clip: Samples) -> None:
    alone = load_speech((clip, 16_000))
    pause = np.zeros(16_000 * 5, np.float32)
    among = load_speech((np.concatenate([pause, clip, pause]), 16_000))
    assert among.total_seconds == pytest.approx(alone.total_seconds + 10)
    assert among.net_seconds == pytest.approx(alone.net_seconds, rel=0.1)
    assert len(among.samples) < len(clip) + 16_000


def test_pauses_are_kept_to_either_side_of_speech(clip: Samples) -> None:
    pause = np.zeros(16_000 * 5, np.float32)
    found = load_speech((np.concatenate([clip, pause, clip]), 16_000))
    spoken = np.flatnonzero(found.spoken)
    distance = np.abs(np.arange(len(found.spoken))[:, None] - spoken).min(axis=1)
    np.testing.assert_array_equal(found.kept, distance <= PAD)
    assert len(found.within(0)) == len(spoken) * FRAME
    np.testing.assert_array_equal(found.within(PAD), found.samples)
    assert len(found.within(0)) < len(found.within(TIGHT)) < len(found.samples)


def test_padding_reaches_over_the_borders_of_blocks(clip: Samples) -> None:
    pause = np.zeros(FRAME * 20, np.float32)
    whole = np.concatenate([np.tile(np.concatenate([clip, pause]), 30)])
    assert len(whole) > BLOCK_SECONDS * 16_000
    found = load_speech((whole, 16_000))
    near = np.convolve(found.spoken, np.ones(2 * PAD + 1), "same") > 0.5
    np.testing.assert_array_equal(found.kept, near)


@pytest.mark.parametrize("seconds", [0.032, 0.5, 1.0, 99.0])
def test_the_first_seconds_of_speech_are_of_speech(clip: Samples, seconds: float) -> None:
    found = load_speech((clip, 16_000))
    first = found.first(seconds)
    assert first.net_seconds == pytest.approx(min(seconds, found.net_seconds), abs=0.032)
    assert first.net_seconds == pytest.approx(first.spoken.sum() * FRAME / 16_000)
    np.testing.assert_array_equal(first.samples, found.samples[: len(first.samples)])
    assert len(first.samples) == first.kept.sum() * FRAME
    assert not first.spoken[np.flatnonzero(first.kept)[-1] + 1 :].any()


def test_the_onset_is_kept(clip: Samples) -> None:
    pause = np.zeros(FRAME * 60, np.float32)  # whole frames, so that they fall as in the clip
    kept = load_speech((np.concatenate([pause, clip]), 16_000)).samples
    energy = np.cumsum(clip.astype(np.float64) ** 2)
    start = int(np.searchsorted(energy, 1e-3 * energy[-1]))  # almost nothing lies before
    opening = clip[start : start + 1_600]
    places = np.lib.stride_tricks.sliding_window_view(kept[: 16_000 * 3], len(opening))
    assert np.abs(places - opening).max(axis=1).min() == 0


@pytest.mark.parametrize("gain", [2.0, 0.5, 0.1, 0.01])
def test_loudness_hardly_matters(clip: Samples, gain: float) -> None:
    usual = clip * np.float32(0.4 / np.abs(clip).max())
    found = load_speech((usual * np.float32(gain), 16_000))
    expected = load_speech((usual, 16_000)).net_seconds
    assert found.net_seconds == pytest.approx(expected, rel=0.05)


def test_speech_at_minus_60_decibels_is_found(clip: Samples) -> None:
    quiet = clip * np.float32(10 ** ((-60 - decibels(clip)) / 20))
    assert decibels(quiet) == pytest.approx(-60, abs=0.01)
    found = load_speech((quiet, 16_000))
    assert found.net_seconds > 0.8 * load_speech((clip, 16_000)).net_seconds


def test_too_little_speech_has_no_score(clip: Samples) -> None:
    energy = np.cumsum(clip**2, dtype=np.float64)
    start = int(np.argmax(energy[4_800:] - energy[:-4_800]))
    with pytest.raises(NoSpeechError, match=r"only 0\.\d\d s of speech .* at least 0\.5 s"):
        load_speech((clip[start : start + 4_800], 16_000))
    assert load_speech((clip[start : start + 4_800], 16_000), min_seconds=0.1).net_seconds < 0.33


def test_one_silent_channel_does_not_matter(clip: Samples) -> None:
    mono = load_speech((clip, 16_000))
    stereo = load_speech((np.stack([clip, np.zeros_like(clip)], axis=1), 16_000))
    assert stereo.net_seconds == pytest.approx(mono.net_seconds, rel=0.05)
    assert not stereo.warnings


def test_a_clean_clip_has_no_warning(speech: Clips) -> None:
    for path in [path for clips in speech.values() for path in clips]:
        samples = read(path)
        assert codes(load_speech((samples * 0.5 / np.abs(samples).max(), 16_000))) == []


def test_a_telephone_is_recognised_by_its_rate_and_by_its_band(clip: Samples) -> None:
    low = soxr.resample(clip, 16_000, 8_000)
    by_rate = load_speech((low, 8_000))
    assert codes(by_rate) == ["telephone-band"]
    assert "8000 Hz" in by_rate.warnings[0].message
    by_band = load_speech((soxr.resample(low, 8_000, 16_000), 16_000))
    assert codes(by_band) == ["telephone-band"]
    assert "4 kHz" in by_band.warnings[0].message
    assert codes(load_speech((soxr.resample(clip, 16_000, 44_100), 44_100))) == []


def test_clipping_is_noticed(clip: Samples) -> None:
    found = load_speech((np.clip(clip * 20 / np.abs(clip).max(), -1, 1), 16_000))
    assert codes(found) == ["clipping"]
    assert "%" in found.warnings[0].message


def test_long_recordings_are_read_no_further_than_needed(
    clip: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_SPEECH", 20.0)
    repeats = int(200 * 16_000 / len(clip))
    found = load_speech((np.tile(clip, repeats), 16_000))
    assert codes(found) == ["long-recording"]
    assert "after 20 s" in found.warnings[0].message
    assert 20 <= found.net_seconds <= 40
    assert found.total_seconds <= 100
    monkeypatch.setattr(module, "MAX_SPEECH", 0.5)  # reached in the last block: all was read
    assert codes(load_speech((clip, 16_000))) == []


def test_nothing_is_not_sought_for_ever(clip: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SECONDS", 60.0)
    hiss = 1e-3 * np.random.default_rng(0).standard_normal(300 * 16_000).astype(np.float32)
    with pytest.raises(NoSpeechError, match=r"no speech found in (60|80|100)\.0 s"):
        load_speech((hiss, 16_000))
    with pytest.raises(NoSpeechError, match=r"Record someone.* The part after 1 min was not read"):
        load_speech((np.concatenate([hiss, clip]), 16_000))
    found = load_speech((np.concatenate([clip, hiss]), 16_000))
    assert codes(found) == ["long-recording"]
    assert "after 1 min was not read" in found.warnings[0].message


def test_the_detector_hears_a_stream_as_it_hears_the_whole(clip: Samples) -> None:
    whole = SpeechDetector().probabilities(clip)
    detector = SpeechDetector()
    pieces = [clip[start : start + 7 * FRAME] for start in range(0, len(clip), 7 * FRAME)]
    streamed = np.concatenate([detector.probabilities(piece) for piece in pieces])
    np.testing.assert_allclose(streamed, whole, atol=1e-4)
    assert whole.max() > 0.9
    detector.reset()
    np.testing.assert_array_equal(detector.probabilities(clip), whole)
    assert detector.probabilities(clip[:100]).shape == (0,)


def test_the_same_recording_gives_the_same_speech(clip: Samples) -> None:
    first, second = load_speech((clip, 16_000)), load_speech((clip, 16_000))
    np.testing.assert_array_equal(first.samples, second.samples)


def test_errors_name_the_recording(tmp_path: Path) -> None:
    import soundfile

    path: Any = tmp_path / "noise.wav"
    soundfile.write(path, NOT_SPEECH["loud white noise"], 16_000)
    with pytest.raises(NoSpeechError) as refusal:
        load_speech(path)
    assert str(refusal.value).startswith(str(path))
