"""Replay, codecs, noise, mimicry and splicing do to a voice what their names say."""

from pathlib import Path

import numpy as np
import pytest

from advgan.conversion.attacks import VocoderCopy, copy_through_vocoder
from advgan.judging.quality import log_spectral_distance, snr, stoi
from advgan.victim.channels import CODECS, random_transform, round_trip
from advgan.victim.claim import Guard
from advgan.victim.plugins import build
from speakerguard.errors import UsageError
from speakerguard.sound.audio import Waveform, read
from speakerguard.sound.voice import change_voice, pitch_of, pitch_ratio

Clips = dict[str, list[Path]]


@pytest.fixture
def guard() -> Guard:
    """A guard that nothing here asks anything."""
    return Guard(None, np.zeros(4, np.float32), 0.5, np.random.default_rng(0))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def voices(speech: Clips) -> tuple[Waveform, Waveform]:
    source, target = (read(clips[0])[:40_000] for clips in list(speech.values())[:2])
    return source, target


@pytest.mark.parametrize("codec", CODECS)
def test_a_codec_keeps_time_and_level(voices: tuple[Waveform, Waveform], codec: str) -> None:
    source = voices[0]
    coded = round_trip(source, codec)
    assert coded.shape == source.shape
    here = snr(source, coded)
    assert here > 3
    assert all(snr(source, np.roll(coded, lag)) < here for lag in (-40, -8, -2, 2, 8, 40))


def test_an_unknown_codec_is_named() -> None:
    with pytest.raises(UsageError, match="unknown codec 'amr'; there are opus"):
        round_trip(np.zeros(100, np.float32), "amr")


@pytest.mark.parametrize("factor", [0.7, 1.5])
def test_mimicry_moves_the_pitch(real_speech: Clips, factor: float) -> None:
    voices = [read(clips[0])[:40_000] for clips in real_speech.values()]
    source = max(voices, key=lambda voice: pitch_of(voice) or 0.0)  # so that 0.7 of it is a voice's
    moved = change_voice(source, factor, 1.05, keep_pace=True)
    assert moved.shape == source.shape
    assert pitch_ratio(source, moved) == pytest.approx(factor, rel=0.12)
    level = np.linalg.norm(moved) / np.linalg.norm(source)
    assert level == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(
    ("name", "given"),
    [("replay", {}), ("telephone", {}), ("codec", {"codec": "gsm"}), ("noise", {"snr": 10}),
     ("mimicry", {}), ("splice", {"seconds": 1.0})],
)  # fmt: skip
def test_what_comes_is_audio_and_repeats_itself(
    voices: tuple[Waveform, Waveform], name: str, given: dict[str, object]
) -> None:
    def run() -> Waveform:
        guard = Guard(None, np.zeros(4, np.float32), 0.5, np.random.default_rng(0))  # type: ignore[arg-type]
        audio: Waveform = build(name, given).run(*voices, guard)
        return audio

    audio = run()
    assert audio.dtype == np.float32
    assert np.isfinite(audio).all()
    assert np.abs(audio).max() <= 1
    np.testing.assert_array_equal(audio, run())


def test_noise_has_the_asked_ratio(voices: tuple[Waveform, Waveform], guard: Guard) -> None:
    source, target = (0.05 * voice for voice in voices)
    audio = build("noise", {"snr": 10}).run(source, target, guard)
    assert snr(source, audio) == pytest.approx(10, abs=0.1)


def test_a_splice_is_of_the_target_alone(guard: Guard) -> None:
    source = np.zeros(48_000, np.float32)
    target = np.linspace(0.1, 0.9, 16_000, dtype=np.float32)
    audio = build("splice", {"snippet": 0.25}).run(source, target, guard)
    assert len(audio) == len(source)
    inside = audio[400:3_600]
    assert np.isin(inside, target).all()
    assert not np.array_equal(audio[:16_000], target)


def test_a_copy_through_the_vocoder_keeps_words_but_not_samples(
    voices: tuple[Waveform, Waveform], guard: Guard
) -> None:
    source, target = voices
    copied = copy_through_vocoder(source)
    assert copied.shape == source.shape
    assert snr(source, copied) < 10
    assert log_spectral_distance(source, copied) < log_spectral_distance(source, target[:40_000])
    assert (stoi(source, copied) or 0) > 0.7
    np.testing.assert_array_equal(
        VocoderCopy(of="target").run(source, target, guard), copy_through_vocoder(target)
    )


def test_transforms_pass_gradients() -> None:
    import torch

    rng = np.random.default_rng(0)
    for _ in range(12):
        audio = (0.1 * torch.randn(2, 4_000)).requires_grad_()
        changed = random_transform(rng)(audio)
        assert changed.shape == audio.shape
        (slope,) = torch.autograd.grad(changed.square().sum(), audio)
        assert slope.abs().sum() > 0


def test_quality_of_what_is_the_same_and_what_is_not() -> None:
    rng = np.random.default_rng(0)
    noise = 0.1 * rng.standard_normal(32_000).astype(np.float32)
    assert snr(noise, noise) == 120
    assert log_spectral_distance(noise, noise) == 0
    assert log_spectral_distance(noise[:100], noise[:100]) is None
    assert stoi(noise, noise) == pytest.approx(1, abs=1e-3)
    other = 0.1 * rng.standard_normal(32_000).astype(np.float32)
    assert abs(stoi(noise, other) or 0) < 0.3
    assert stoi(noise[:1_000], other[:1_000]) is None


@pytest.mark.parametrize(("db", "published"), [(10, 0.968270), (0, 0.773883), (-10, 0.372457)])
def test_intelligibility_is_as_pystoi_0_4_has_it(db: float, published: float) -> None:
    rng = np.random.default_rng(0)
    swell = 1.1 + np.sin(np.arange(48_000) / 800)
    clean = (0.1 * rng.standard_normal(48_000) * swell).astype(np.float32)
    noise = rng.standard_normal((3, 48_000))[[10, 0, -10].index(int(db))]
    noisy = (clean + noise * np.std(clean) * 10 ** (-db / 20)).astype(np.float32)
    assert stoi(clean, noisy) == pytest.approx(published, abs=2e-4)
