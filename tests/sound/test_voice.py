"""Pitch, formants and spectra are moved as asked, and nothing else is."""

from pathlib import Path

import numpy as np
import pytest

from speakerguard.sound.audio import SAMPLE_RATE, Waveform, read
from speakerguard.sound.voice import (
    change_voice,
    invent_voice,
    mix_voices,
    pitch_of,
    pitch_ratio,
)


def vowel(pitch: float, formant: float, seconds: float = 1.5) -> Waveform:
    """Harmonics of ``pitch`` under one resonance, 300 Hz wide, over a floor."""
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    rng = np.random.default_rng(0)
    sound = 1e-3 * rng.standard_normal(len(time))
    for hz in np.arange(pitch, 7_500, pitch):
        sound += np.cos(2 * np.pi * hz * time) / (1 + ((hz - formant) / 300) ** 2)
    return (0.3 * sound / np.abs(sound).max()).astype(np.float32)


def resonance(waveform: Waveform) -> float:
    """Where the energy of a vowel lies, in Hz."""
    power = np.square(np.abs(np.fft.rfft(waveform)))
    hz = np.fft.rfftfreq(len(waveform), 1 / SAMPLE_RATE)
    return float((hz * power).sum() / power.sum())


@pytest.mark.parametrize(("pitch", "formants"), [(1.0, 1.2), (1.25, 1.0), (0.8, 1.15), (1.2, 0.85)])
def test_pitch_and_formants_move_apart(pitch: float, formants: float) -> None:
    before = vowel(120, 1_500)
    after = change_voice(before, pitch, formants)
    assert after.dtype == np.float32
    assert len(after) == pytest.approx(len(before) / pitch, abs=2)
    assert pitch_of(after) == pytest.approx(120 * pitch, rel=0.03)
    assert resonance(after) == pytest.approx(resonance(before) * formants, rel=0.06)


def test_an_invented_voice_has_a_pitch_and_formants_of_its_own() -> None:
    before = vowel(120, 1_500)
    made = [invent_voice(before, np.random.default_rng(seed)) for seed in range(12)]
    again = invent_voice(before, np.random.default_rng(3))
    np.testing.assert_array_equal(made[3], again)
    pitch = np.array([pitch_of(clip) / 120 for clip in made])
    formant = np.array([resonance(clip) / resonance(before) for clip in made])
    for clip, ratio in zip(made, pitch, strict=True):
        assert clip.dtype == np.float32
        assert len(clip) == pytest.approx(len(before) / ratio, rel=0.03)
    for ratios in (pitch, formant):
        assert ratios.min() < 0.93
        assert ratios.max() > 1.07
        assert 0.6 < ratios.min() < ratios.max() < 1.6
    assert abs(np.corrcoef(pitch, formant)[0, 1]) < 0.9  # they move apart


def test_nothing_asked_changes_nothing(speech: dict[str, list[Path]]) -> None:
    clip = read(next(iter(speech.values()))[0])
    np.testing.assert_allclose(change_voice(clip, 1, 1), clip, atol=1e-5)
    np.testing.assert_allclose(mix_voices(clip, clip, 0.0), clip, atol=1e-5)


def test_a_mixture_takes_the_spectra_and_pitch_of_the_other() -> None:
    own, other = vowel(110, 1_000), vowel(160, 2_400)
    distances = []
    for share in (0.3, 1.0):
        mixed = mix_voices(own, other, share)
        assert pitch_of(mixed) == pytest.approx(110 * (160 / 110) ** share, rel=0.05)
        distances.append(abs(resonance(mixed) - resonance(other)))
    assert distances[1] < distances[0] < abs(resonance(own) - resonance(other))


@pytest.mark.parametrize("hz", [80, 130, 260])
def test_pitch_is_found(hz: float) -> None:
    assert pitch_of(vowel(hz, 1_200)) == pytest.approx(hz, rel=0.02)


def test_what_has_no_voice_has_no_pitch() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    for waveform in (noise, np.zeros(16_000, np.float32), vowel(120, 900)[:500]):
        assert pitch_of(waveform) is None
    assert pitch_ratio(vowel(120, 900), noise) is None
    mixed = mix_voices(vowel(120, 900), noise, 1.0)
    assert len(mixed) == len(vowel(120, 900))  # played no faster


def test_a_voice_can_keep_its_pace() -> None:
    before = vowel(120, 1_500)
    after = change_voice(before, 1.25, 1.1, keep_pace=True)
    assert after.shape == before.shape
    assert pitch_of(after) == pytest.approx(150, rel=0.03)
    assert resonance(after) == pytest.approx(resonance(before) * 1.1, rel=0.06)
