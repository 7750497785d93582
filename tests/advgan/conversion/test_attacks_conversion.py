"""The attacker's networks as attacks and as a defence: untrained here, but run as trained ones."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from advgan.conversion import attacks as conversion
from advgan.networks import checkpoint as networks
from advgan.networks.discriminator import Discriminator, DiscriminatorConfig
from advgan.networks.generator import Generator, GeneratorConfig
from advgan.networks.perturber import Perturber, PerturberConfig
from advgan.victim.claim import Guard
from advgan.victim.defences import defence
from advgan.victim.plugins import NotRunError, build
from speakerguard.network import checkpoint
from speakerguard.sound.audio import Waveform
from speakerguard.sound.speech import load_speech

Clips = dict[str, list[Path]]


@pytest.fixture
def folder(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of shipped checkpoints: an untrained guard, generator, perturber, discriminator."""
    monkeypatch.setenv("SPEAKERGUARD_CHECKPOINTS", str(tiny_model.parent))
    _, fingerprint = checkpoint.load(tiny_model / checkpoint.MODEL_FILE)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = {
            "generator": Generator(GeneratorConfig(width=8)),
            "perturber": Perturber(PerturberConfig(width=8, blocks=2, epsilon=0.003)),
            "discriminator": Discriminator(DiscriminatorConfig(width=4)),
        }
    for kind, network in made.items():
        path = tiny_model.parent / f"tiny-{kind}" / checkpoint.MODEL_FILE
        networks.save(kind, network.eval(), path, about={"guard": fingerprint})
    conversion._loaded.cache_clear()
    conversion._perturber.cache_clear()
    yield tiny_model.parent
    conversion._loaded.cache_clear()
    conversion._perturber.cache_clear()


@pytest.fixture(scope="module")
def voices(speech: Clips) -> tuple[Waveform, Waveform]:
    source, target = (load_speech(clips[0]).samples[:24_000] for clips in list(speech.values())[:2])
    return source, target


@pytest.fixture
def guard() -> Guard:
    return Guard(None, np.zeros(192, np.float32), 0.5, np.random.default_rng(0))  # type: ignore[arg-type]


@pytest.mark.usefixtures("folder")
def test_a_conversion_is_audio_of_the_sources_length(
    voices: tuple[Waveform, Waveform], guard: Guard
) -> None:
    attack = build("again-vc", {"weights": "tiny-generator"})
    audio = attack.run(*voices, guard)
    assert audio.dtype == np.float32
    assert abs(len(audio) - len(voices[0])) < 1_000
    assert 0 < np.abs(audio).max() <= 1
    np.testing.assert_array_equal(audio, attack.run(*voices, guard))
    brief = build("again-vc", {"weights": "tiny-generator", "seconds": 0.5})
    assert brief.budget.target_seconds == 0.5
    assert not np.array_equal(brief.run(*voices, guard), audio)


@pytest.mark.usefixtures("folder")
def test_a_perturbation_stays_within_its_epsilon(
    voices: tuple[Waveform, Waveform], guard: Guard
) -> None:
    audio = build("perturbation-gan", {"weights": "tiny-perturber"}).run(*voices, guard)
    change = np.abs(audio - voices[0]).max()
    assert 0 < change <= 0.003 + 1e-6


@pytest.mark.usefixtures("folder")
def test_the_discriminator_is_a_defence(
    voices: tuple[Waveform, Waveform], monkeypatch: pytest.MonkeyPatch
) -> None:
    from advgan.judging import judge
    from speakerguard.verification import countermeasure

    monkeypatch.setattr(countermeasure, "load", lambda name: judge.Detector("tiny-discriminator"))
    made = defence("countermeasure")
    (seen,) = made.views(voices[0], np.random.default_rng(0))
    np.testing.assert_array_equal(seen, voices[0])
    doubts = [made.suspicion(voice, [0.5]) for voice in voices]
    assert all(doubt is not None and np.isfinite(doubt) for doubt in doubts)
    assert doubts[0] != doubts[1]


def test_missing_weights_are_a_reason_not_to_run(
    folder: Path, voices: tuple[Waveform, Waveform], guard: Guard
) -> None:
    for name, kind in (("again-vc", "generator"), ("perturbation-gan", "perturber")):
        with pytest.raises(NotRunError, match=f"no {kind} weights 'nowhere': train them") as error:
            build(name, {"weights": "nowhere"}).run(*voices, guard)
        assert str(folder) not in str(error.value)
