"""Perturbations stay within their bound, raise the score, and pass straight through defences."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from advgan.attacks.controls import RandomNoise
from advgan.attacks.gradient import GradientAttack
from advgan.victim.claim import PER_NAT, SURE, Guard, Model
from advgan.victim.defences import defence
from advgan.victim.pcm import from_pcm, straight_through, to_pcm
from advgan.victim.plugins import NotRunError, build
from speakerguard.sound.audio import Waveform, read
from speakerguard.sound.speech import load_speech
from speakerguard.verification.countermeasure import SecondOpinion
from speakerguard.verification.verifier import Verifier

Clips = dict[str, list[Path]]
Bench = tuple[Callable[..., Guard], Waveform, Waveform]


@pytest.fixture(scope="module", params=["tiny_model", "normalised_model"])
def bench(request: pytest.FixtureRequest, speech: Clips) -> Bench:
    """An untrained network, that once scores by cosines, once by how far they exceed the usual."""
    return prepared(Verifier(request.getfixturevalue(request.param)), speech)


@pytest.fixture(scope="module")
def shipped(speech: Clips) -> Bench:
    """The same of the guard itself, whose score a small change of any voice can raise."""
    return prepared(Verifier("guard"), speech)


def prepared(verifier: Verifier, speech: Clips) -> Bench:
    """Makes guards for one claim, with source and target."""
    model = Model(verifier)
    voices = list(speech.values())
    source, target = (load_speech(clips[0]).samples[:32_000] for clips in voices[:2])
    profile = model.embed(read(voices[1][1]))

    def crowd(count: int) -> Sequence[Waveform]:
        return [read(voices[2][index % 4])[:16_000] for index in range(count)]

    def make(**given: object) -> Guard:
        options = {"threshold": 0.9, "rng": np.random.default_rng(0), "crowd": crowd} | given
        return Guard(model, profile, **options)  # type: ignore[arg-type]

    return make, source, target


@pytest.fixture(scope="module")
def paused(speech: Clips) -> Waveform:
    """A second of faint noise, then speech."""
    voice = max((read(path) for path in next(iter(speech.values()))), key=len)[:48_000]
    noise = np.random.default_rng(0).standard_normal(16_384, np.float32)
    audio = np.concatenate([np.float32(0.002) * noise, voice])
    assert len(load_speech((to_pcm(audio), 16_000)).samples) <= len(audio) - 4_096
    return from_pcm(to_pcm(audio))


def similarity(guard: Guard, audio: Waveform) -> float:
    with torch.inference_mode():
        return float(guard.similarity(torch.from_numpy(audio)[None]))


@pytest.mark.parametrize("name", ["fgsm", "pgd", "margin", "universal"])
@pytest.mark.parametrize("bound", [{"epsilon": 0.001}, {"snr": 35.0}])
def test_the_bound_is_kept(shipped: Bench, name: str, bound: dict[str, float]) -> None:
    make, source, target = shipped
    steps = {} if name == "fgsm" else {"steps": 3}
    audio = build(name, bound | steps).run(source, target, make())
    assert audio.dtype == np.float32
    assert np.abs(audio).max() <= 1
    change = (audio - source).astype(np.float64)
    assert np.abs(change).max() > 0
    if "epsilon" in bound:
        assert np.abs(change).max() <= 0.001 + 1e-6
    else:
        ratio = np.linalg.norm(source) / np.linalg.norm(change)
        assert 20 * np.log10(ratio) >= 35 - 1e-3


def test_more_steps_and_a_wider_bound_reach_further(shipped: Bench) -> None:
    make, source, target = shipped
    start = similarity(make(), source)
    reached = [
        similarity(make(), build("pgd", {"epsilon": e, "steps": s}).run(source, target, make()))
        for e, s in ((0.0005, 3), (0.002, 3), (0.002, 12))
    ]
    assert start < reached[0] < reached[1] < reached[2]
    noise = RandomNoise(epsilon=0.002).run(source, target, make())
    assert similarity(make(), noise) < reached[1]


def test_the_margin_attack_stops_at_the_threshold(bench: Bench) -> None:
    make, source, target = bench
    start = similarity(make(), source)
    strong = build("pgd", {"epsilon": 0.005, "steps": 12}).run(source, target, make())
    threshold = (start + similarity(make(), strong)) / 2
    given = {"epsilon": 0.005, "steps": 40, "margin": 0.002}
    guard = make(threshold=threshold)
    weak = build("margin", given).run(source, target, guard)
    assert similarity(make(), weak) >= threshold + 0.002
    assert np.linalg.norm(weak - source) < np.linalg.norm(strong - source)


@pytest.mark.parametrize("title", ["none", "low-pass"])
def test_what_an_attack_climbs_is_the_score_that_decides(
    bench: Bench, paused: Waveform, title: str
) -> None:
    """With what speech detection cuts away, and behind a defence."""
    guard = bench[0](defence=None if title == "none" else defence(title))
    assert similarity(guard, paused) == pytest.approx(guard.score(paused), rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("level", [1.0, 1e-4])
def test_only_what_is_heard_has_a_gradient(bench: Bench, paused: Waveform, level: float) -> None:
    """Of what is refused, as too quiet, everything has one, for an attack to begin with."""
    audio = torch.from_numpy(np.float32(level) * paused)[None].requires_grad_()
    (slope,) = torch.autograd.grad(bench[0]().similarity(audio).sum(), audio)
    assert slope[0, 16_384:].abs().max() > 0
    assert bool(slope[0, :4_096].any()) == (level < 1)


def test_what_gives_an_attack_away_counts_against_it() -> None:
    alike, apart = torch.tensor([2.0, 2.0]), torch.tensor([3.0, 1.0])
    doubting = defence({"combined": {"parts": ["median", "score-variation"]}})
    assert doubting.to_raise(alike) == 2
    assert doubting.to_raise(apart) == 0
    assert defence("smoothing").to_raise(apart) == 2


def test_a_universal_perturbation_hears_no_source(bench: Bench) -> None:
    make, source, target = bench
    attack = build("universal", {"epsilon": 0.004, "steps": 2, "seconds": 0.5})
    quiet = np.zeros_like(source)
    shift = attack.run(quiet, target, make(rng=np.random.default_rng(1)))
    loud = attack.run(0.5 * source, target, make(rng=np.random.default_rng(2)))
    np.testing.assert_allclose(loud - 0.5 * source, shift, atol=1e-6)
    np.testing.assert_array_equal(shift[:8_000], shift[8_000:16_000])
    with pytest.raises(NotRunError, match="--train"):
        attack.run(source, target, make(crowd=None))


def test_a_universal_perturbation_is_trained_through_the_defence_it_adapts_to(
    bench: Bench,
) -> None:
    make, source, target = bench
    attack = build("universal", {"epsilon": 0.004, "steps": 2, "seconds": 0.5})
    memory: dict[object, Waveform] = {}
    alone = attack.run(source, target, make(memory=memory))
    through = make(defence=defence({"quantise": {"bits": 4}}))
    expected = attack.run(source, target, through)
    assert np.abs(expected - alone).max() > 0
    after = attack.run(source, target, replace(through, memory=memory))
    np.testing.assert_array_equal(after, expected)


def test_expectation_over_transformations_is_deterministic(bench: Bench) -> None:
    make, source, target = bench
    attack = build("pgd", {"epsilon": 0.002, "steps": 2, "transforms": 3})
    first, again = (attack.run(source, target, make()) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    other = attack.run(source, target, make(rng=np.random.default_rng(5)))
    assert np.abs(first - other).max() > 0


def test_straight_through_goes_forward_changed_and_back_unchanged() -> None:
    waveform = torch.linspace(-0.5, 0.5, 8, requires_grad=True)
    seen = straight_through(waveform, np.zeros(6, np.float32))
    np.testing.assert_allclose(seen.detach().numpy(), np.zeros(8), atol=1e-7)
    (slope,) = torch.autograd.grad((seen * torch.arange(8.0)).sum(), waveform)
    np.testing.assert_array_equal(slope.numpy(), np.arange(8.0))


@pytest.mark.parametrize("title", ["quantise", "low-pass", "smoothing"])
def test_an_adaptive_attack_does_better_behind_its_defence(bench: Bench, title: str) -> None:
    make, source, target = bench
    attack = build("pgd", {"epsilon": 0.002, "steps": 8})
    assert isinstance(attack, GradientAttack)
    blind = attack.run(source, target, make())
    adaptive = attack.run(source, target, make(defence=defence(title)))
    behind = make(defence=defence(title))
    assert similarity(behind, adaptive) > similarity(behind, source)
    assert similarity(behind, adaptive) > similarity(behind, blind) - 0.02


@pytest.mark.parametrize("name", ["countermeasure", "combined"])
def test_an_attack_that_knows_of_a_countermeasure_deceives_it_as_well(
    bench: Bench, name: str
) -> None:
    make, source, target = bench
    parts = {"parts": ["quantise", "countermeasure"]}
    standing = defence({name: parts} if name == "combined" else name)
    attack = build("pgd", {"epsilon": 0.004, "steps": 30})
    made = build("again-vc", {}).run(source, target, make())
    blind = attack.run(made, target, make())
    knowing = attack.run(made, target, make(defence=standing))
    doubts = [standing.suspicion(audio, [0.0]) for audio in (blind, knowing)]
    assert doubts[0] is not None
    assert doubts[1] is not None
    assert doubts[0] > -SURE
    assert doubts[1] < doubts[0] - 1
    behind = make(defence=standing)
    assert similarity(behind, knowing) > similarity(behind, made)


def test_an_llr_that_is_high_enough_asks_for_no_more(bench: Bench) -> None:
    make, source, _ = bench
    found = []
    for llr in (SURE - 2, SURE, SURE + 5):
        standing = defence("countermeasure")
        standing.__dict__["_judge"] = SecondOpinion(Judge(llr))
        found.append(similarity(make(defence=standing), source))
    guard = make()
    near = pytest.approx(similarity(guard, source), abs=0.01)  # 16 bits
    assert found[1] == found[2] == near
    assert found[0] == pytest.approx(found[1] - 2 * PER_NAT, abs=1e-4)
    standing = defence("countermeasure")
    opaque: Any = type("Opaque", (), {"llr": lambda self, source: -9.0})()
    standing.__dict__["_judge"] = SecondOpinion(opaque)
    assert similarity(make(defence=standing), source) == found[1]


class Judge:
    """A countermeasure of one opinion."""

    def __init__(self, llr: float) -> None:
        self.opinion = llr

    def llr(self, source: object) -> float:
        return self.opinion

    def llr_of(self, speech: torch.Tensor) -> torch.Tensor:
        return self.opinion + 0 * speech.sum()


def test_sixteen_bits_there_and_back() -> None:
    waveform = np.array([-1.5, -1, -1 / 32_768, 0, 0.5, 1, 2], np.float32)
    pcm = to_pcm(waveform)
    assert pcm.tolist() == [-32_768, -32_768, -1, 0, 16_384, 32_767, 32_767]
    np.testing.assert_array_equal(to_pcm(from_pcm(pcm)), pcm)
