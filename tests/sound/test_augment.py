from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speakerguard.errors import UsageError
from speakerguard.sound.audio import SAMPLE_RATE, Waveform
from speakerguard.sound.augment import (
    Augmenter,
    Generator,
    NoiseBank,
    add_noise,
    coloured_noise,
    compress,
    equalise,
    reverberate,
    simulated_room,
    telephone,
)


def voice(count: int, rng: Generator) -> Waveform:
    """A buzz of random pitch that comes and goes."""
    time = np.arange(count) / SAMPLE_RATE
    pitch = rng.uniform(80, 250)
    harmonics = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 20))
    return (0.2 * harmonics * (1 + np.sin(2 * np.pi * 3 * time))).astype(np.float32)


def bank() -> NoiseBank:
    rng = np.random.default_rng(0)
    noises = tuple(rng.integers(-9_000, 9_000, n).astype(np.int16) for n in (17_000, 60_000))
    return NoiseBank(noises, (simulated_room(rng),))


def decibels(waveform: Waveform) -> float:
    return float(10 * np.log10(np.mean(np.square(waveform, dtype=np.float64))))


STEPS: dict[str, Callable[[Waveform, Generator], Waveform]] = {
    "reverberate": lambda x, rng: reverberate(x, simulated_room(rng)),
    "add_noise": lambda x, rng: add_noise(x, coloured_noise(len(x), rng), 5),
    "equalise": equalise,
    "telephone": telephone,
    "compress": compress,
    "everything": lambda x, rng: Augmenter(bank(), voice)(x, 1.0, rng),
    "without a bank": lambda x, rng: Augmenter(NoiseBank((), ()), voice)(x, 1.0, rng),
}
SOUNDS: dict[str, Callable[[int], Waveform]] = {
    "voice": lambda n: voice(n, np.random.default_rng(1)),
    "silence": lambda n: np.zeros(n, np.float32),
    "constant": lambda n: np.ones(n, np.float32),
    "whisper": lambda n: voice(n, np.random.default_rng(1)) * np.float32(1e-7),
}


@pytest.mark.parametrize("sound", SOUNDS)
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("count", [4_801, 24_000])
def test_length_and_type_stay_and_nothing_becomes_nan(step: str, sound: str, count: int) -> None:
    waveform = SOUNDS[sound](count)
    before = waveform.copy()
    for seed in range(12):
        result = STEPS[step](waveform, np.random.default_rng(seed))
        assert result.shape == (count,)
        assert result.dtype == np.float32
        assert np.isfinite(result).all()
    np.testing.assert_array_equal(waveform, before, "the input was changed")


@pytest.mark.parametrize("step", STEPS)
def test_the_generator_decides_all(step: str) -> None:
    waveform = SOUNDS["voice"](16_000)
    first, again = (STEPS[step](waveform, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    others = [STEPS[step](waveform, np.random.default_rng(seed)) for seed in range(6, 9)]
    assert any(not np.allclose(first, other) for other in others)


@pytest.mark.parametrize("snr", [0.0, 7.5, 18.0])
def test_noise_comes_at_the_ratio_asked_for(snr: float) -> None:
    waveform = SOUNDS["voice"](32_000)
    noise = coloured_noise(32_000, np.random.default_rng(0)) * np.float32(0.01)
    added = add_noise(waveform, noise, snr) - waveform
    assert decibels(waveform) - decibels(added) == pytest.approx(snr, abs=0.1)


def test_reverberation_keeps_level_and_onset() -> None:
    waveform = np.zeros(16_000, np.float32)
    waveform[4_000:] = SOUNDS["voice"](12_000)
    for seed in range(10):
        wet = reverberate(waveform, simulated_room(np.random.default_rng(seed)))
        assert decibels(wet) == pytest.approx(decibels(waveform), abs=0.1)
        assert np.abs(wet[:3_990]).max() < 1e-4


def test_a_measured_room_with_silence_before_it_does_not_delay() -> None:
    room = np.zeros(4_000, np.float32)
    room[700] = -0.5
    waveform = SOUNDS["voice"](16_000)
    np.testing.assert_allclose(reverberate(waveform, room), -waveform, atol=1e-4)


def test_a_telephone_line_holds_nothing_above_four_kilohertz() -> None:
    waveform = coloured_noise(32_000, np.random.default_rng(0))
    for seed in range(6):
        line = telephone(waveform, np.random.default_rng(seed))
        power = np.abs(np.fft.rfft(line * np.hanning(32_000))) ** 2
        hz = np.fft.rfftfreq(32_000, 1 / SAMPLE_RATE)
        assert power[hz > 4_100].sum() < 1e-3 * power.sum()


def test_codecs_give_back_the_same_voice_at_the_same_level() -> None:
    waveform = SOUNDS["voice"](32_000) * np.float32(0.1)
    for seed in range(8):
        decoded = compress(waveform, np.random.default_rng(seed))
        overlap = np.abs(np.fft.irfft(np.fft.rfft(decoded) * np.fft.rfft(waveform).conj())).max()
        assert overlap / (np.linalg.norm(decoded) * np.linalg.norm(waveform)) > 0.9
        assert decibels(decoded) == pytest.approx(decibels(waveform), abs=1)
        assert not np.array_equal(decoded, waveform)


def test_strength_zero_changes_only_the_level() -> None:
    waveform = SOUNDS["voice"](16_000)
    result = Augmenter(bank(), voice)(waveform, 0.0, np.random.default_rng(0))
    ratio = np.linalg.norm(result) / np.linalg.norm(waveform)
    np.testing.assert_allclose(result, waveform * ratio, atol=1e-5)
    assert 10**-1.5 <= np.abs(result).max() <= 1


def test_bank_tells_rooms_from_noises(tmp_path: Path) -> None:
    folder = tmp_path / "birirama" / "augment"  # a name above the folder says nothing
    noise = 0.1 * np.random.default_rng(0).standard_normal(40_000)
    for name in ("noise/rain.wav", "misc/rir/hall.flac", "noise/notes.txt"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".txt":
            path.write_text("recorded on a Monday")
        else:
            soundfile.write(path, noise, SAMPLE_RATE)
    soundfile.write(folder / "noise" / "click.wav", noise[:8_000], SAMPLE_RATE)
    found = NoiseBank.load(folder)
    assert [len(noise) for noise in found.noises] == [40_000]
    assert [len(room) for room in found.rooms] == [8_000]


def test_a_missing_or_empty_bank_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone: no such folder"):
        NoiseBank.load(tmp_path / "gone")
    with pytest.raises(UsageError, match="holds no noise"):
        NoiseBank.load(tmp_path)
    soundfile.write(tmp_path / "rir.wav", np.zeros(100), SAMPLE_RATE)
    with pytest.raises(UsageError, match=r"rir.wav: is silent"):
        NoiseBank.load(tmp_path)
