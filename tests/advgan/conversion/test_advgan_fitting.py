"""A voice fitted to a verifier: the score climbs, and nothing but the voice moves."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from advgan.conversion.converter import Converter
from advgan.conversion.fitting import fit_voice, moved
from advgan.conversion.recording import Utterance, load_utterance, some_of
from advgan.networks import checkpoint
from advgan.networks.generator import Generator, GeneratorConfig
from advgan.networks.mel import to_guard
from advgan.report.plan import Entry
from advgan.victim.claim import Guard, Model
from advgan.victim.defences import defence
from advgan.victim.plugins import build
from speakerguard.errors import UsageError
from speakerguard.verification.verifier import Verifier


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained generator."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("generator") / "model.safetensors"
    checkpoint.save("generator", Generator(GeneratorConfig(width=8, blocks=2)), file)
    return file


@pytest.fixture(scope="module")
def voices(speech: dict[str, list[Path]]) -> tuple[Utterance, Utterance]:
    first, second = (
        load_utterance(clips[0], speech_only=True) for clips in list(speech.values())[:2]
    )
    return Utterance("source", first.waveform[:24_000]), second


@pytest.fixture(scope="module")
def model() -> Model:
    """The shipped guard: what an untrained one scores is too rough to climb."""
    return Model(Verifier("guard"))


def claim(model: Model, target: Utterance, before: str = "none") -> Guard:
    rng = np.random.default_rng(0)
    met = None if before == "none" else defence(before)
    return Guard(model, model.embed(target.waveform), 0.0, rng, met)


def test_the_score_climbs_and_only_the_voice_moves(
    voices: tuple[Utterance, Utterance], model: Model
) -> None:
    made, (source, target) = Converter("again-vc"), voices
    asked, voice = claim(model, target), made._voice(target)
    say = partial(made._say, source, np.random.default_rng(0))
    fitted = fit_voice(say, voice, asked, 8)
    with torch.no_grad():
        before, after = (float(asked.similarity(say(one))) for one in (voice, fitted))
    assert after > before + 0.2
    assert torch.equal(fitted.content, voice.content)
    assert asked.queries == 0


def test_no_move_is_the_voice_itself(weights: Path, voices: tuple[Utterance, Utterance]) -> None:
    voice = Converter(weights, "griffin-lim")._voice(voices[1])
    same = moved(voice, torch.zeros(2, 2, 8))
    for before, after in zip(voice.voice, same.voice, strict=True):
        torch.testing.assert_close(after.mean, before.mean)
        torch.testing.assert_close(after.deviation, before.deviation)
    louder = moved(voice, torch.tensor([0.0, 1.0]).repeat(2, 1)[..., None].expand(2, 2, 8))
    torch.testing.assert_close(louder.voice[0].deviation, voice.voice[0].deviation * np.e)


def test_a_converter_fits_to_its_own_guard_or_to_a_claim(
    voices: tuple[Utterance, Utterance], model: Model, speech: dict[str, list[Path]]
) -> None:
    source, target = voices
    plain, fitted = Converter("again-vc"), Converter("again-vc", steps=4)
    asked = claim(model, target)
    sounds = [c.convert(source, target) for c in (plain, fitted)]
    scores = [float(asked.similarity(to_guard(torch.from_numpy(sound)[None]))) for sound in sounds]
    assert scores[1] > scores[0]
    assert len(sounds[0]) == len(sounds[1])
    np.testing.assert_array_equal(fitted.convert(source, target), sounds[1])
    np.testing.assert_array_equal(fitted.convert(source, target, claim(model, target)), sounds[1])
    third = claim(model, load_utterance(list(speech.values())[2][0]))
    assert not np.array_equal(fitted.convert(source, target, third), sounds[1])
    np.testing.assert_array_equal(plain.convert(source, target, third), sounds[0])


def test_a_finished_conversion_is_nearly_the_same_and_scores_more(
    voices: tuple[Utterance, Utterance], model: Model
) -> None:
    source, target = voices
    epsilon, asked = 0.001, claim(model, target)
    plain, finished = Converter("again-vc"), Converter("again-vc", epsilon=epsilon)
    sounds = [c.convert(source, target) for c in (plain, finished)]
    heard = [to_guard(torch.from_numpy(sound)[None]) for sound in sounds]
    scores = [float(asked.similarity(one)) for one in heard]
    assert scores[1] > scores[0] + 0.2
    assert len(sounds[0]) == len(sounds[1])
    assert 0.5 * epsilon < float((heard[1] - heard[0]).abs().quantile(0.99)) < 1.1 * epsilon
    attack = build("fitted-again-vc", {"steps": 1, "epsilon": epsilon})
    audio = attack.run(source.waveform, target.waveform, asked)
    assert asked.score(audio) > scores[0] + 0.2
    with pytest.raises(UsageError, match="--eps is 2"):
        Converter("again-vc", epsilon=2)


def test_a_step_hears_some_of_the_words() -> None:
    rng, whole = np.random.default_rng(0), np.arange(48_000, dtype=np.float32)
    heard = [some_of(Utterance("x", whole), 1.0, rng).waveform for _ in range(20)]
    assert {len(one) for one in heard} == {16_000}
    assert len({one[0] for one in heard}) > 15
    assert some_of(Utterance("x", whole), 3.0, rng).waveform.shape == whole.shape
    assert some_of(Utterance("x", whole), 9.0, rng).waveform.shape == whole.shape


@pytest.mark.parametrize("before", ["none", "quantise"])
def test_as_an_attack_it_follows_the_claim_through_its_defence(
    voices: tuple[Utterance, Utterance], model: Model, before: str
) -> None:
    source, target = voices
    asked = claim(model, target, before)
    audio = [
        build(name, more).run(source.waveform, target.waveform, asked)
        for name, more in (("again-vc", {}), ("fitted-again-vc", {"steps": 5}))
    ]
    assert audio[0].shape == audio[1].shape
    assert asked.queries == 0
    scores = [asked.score(one) for one in audio]
    assert scores[1] > scores[0]


def test_defences_can_be_adapted_to() -> None:
    entry = Entry(attack="fitted-again-vc", against="quantise")
    assert entry.title == "fitted-again-vc through quantise"
    assert entry.built.uses_gradient
