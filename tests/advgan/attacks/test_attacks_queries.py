"""Query attacks ask no more than they may, and get somewhere for it."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from advgan.attacks.queries import DecisionOnly, Nes
from speakerguard.errors import NoSpeechError
from speakerguard.sound.audio import Waveform


@dataclass
class Scale:
    """A guard that likes whatever points along one direction: its best answer is known."""

    wanted: Waveform
    threshold: float
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    queries: int = 0

    def score(self, waveform: Waveform) -> float:
        self.queries += 1
        if not waveform.any():
            raise NoSpeechError("silence")
        return float(waveform @ self.wanted / np.linalg.norm(waveform))

    def accepts(self, waveform: Waveform) -> bool:
        return self.score(waveform) >= self.threshold


@pytest.fixture
def voices() -> tuple[Waveform, Waveform]:
    """A source, and a target at right angles to it."""
    rng = np.random.default_rng(3)
    source, target = rng.standard_normal((2, 400)).astype(np.float32)
    target -= source * (source @ target) / (source @ source)
    return 0.1 * source, 0.1 * target


def test_a_budget_that_asks_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="22 or more for samples=20"):
        Nes(queries=21)
    with pytest.raises(ValueError, match="21 or more for halvings=20"):
        DecisionOnly(queries=20, halvings=20)


@pytest.mark.parametrize("queries", [22, 57, 300])
def test_the_budget_is_kept(voices: tuple[Waveform, Waveform], queries: int) -> None:
    source, target = voices
    unit = target / np.linalg.norm(target)
    for attack in (Nes(queries=queries), DecisionOnly(queries=queries)):
        guard = Scale(unit, 0.9)
        attack.run(source, target, guard)  # type: ignore[arg-type]
        assert 0 < guard.queries <= queries


def test_scores_lead_uphill_within_the_bound(voices: tuple[Waveform, Waveform]) -> None:
    source, target = voices
    guard = Scale(target / np.linalg.norm(target), 2.0)
    reached = [
        guard.score(
            Nes(queries=queries, epsilon=0.02, period=0, sigma=0.001).run(source, target, guard)
        )  # type: ignore[arg-type]
        for queries in (40, 400)
    ]
    start = guard.score(source)
    assert start < reached[0] < reached[1]
    audio = Nes(queries=400, epsilon=0.02, period=50).run(source, target, guard)  # type: ignore[arg-type]
    assert np.abs(audio - source).max() <= 0.02 + 1e-6


def test_it_stops_once_accepted(voices: tuple[Waveform, Waveform]) -> None:
    source, target = voices
    guard = Scale(target / np.linalg.norm(target), -1.0)
    np.testing.assert_array_equal(Nes().run(source, target, guard), source)  # type: ignore[arg-type]
    assert guard.queries == 1


def test_it_goes_on_until_there_is_as_much_to_spare(
    voices: tuple[Waveform, Waveform],
) -> None:
    source, target = voices
    start = Scale(target / np.linalg.norm(target), 0.0).score(source)
    for spare, asked in ((0.02, 1), (0.2, 22)):  # over the threshold by 0.05
        guard = Scale(target / np.linalg.norm(target), start - 0.05)
        Nes(queries=22, samples=20, spare=spare, epsilon=1e-6).run(source, target, guard)  # type: ignore[arg-type]
        assert guard.queries == asked


def test_a_refusal_is_no_score_to_climb_from(voices: tuple[Waveform, Waveform]) -> None:
    source, target = voices

    class Deaf(Scale):
        def score(self, waveform: Waveform) -> float:
            if self.queries:
                self.queries += 1
                raise NoSpeechError("silence")
            return super().score(waveform)

    guard = Deaf(target / np.linalg.norm(target), 2.0)
    audio = Nes(queries=100, samples=10).run(source, target, guard)  # type: ignore[arg-type]
    np.testing.assert_array_equal(audio, source)


def test_decisions_keep_it_accepted_and_bring_it_nearer(
    voices: tuple[Waveform, Waveform],
) -> None:
    source, target = voices
    guard = Scale(target / np.linalg.norm(target), 0.5)
    far, near = (
        DecisionOnly(queries=queries).run(source, target, guard)  # type: ignore[arg-type]
        for queries in (12, 400)
    )
    assert guard.accepts(near)
    assert np.linalg.norm(near - source) <= np.linalg.norm(far - source)
    assert np.linalg.norm(near - source) < np.linalg.norm(target - source)


def test_where_the_recording_is_rejected_there_is_no_start(
    voices: tuple[Waveform, Waveform],
) -> None:
    source, target = voices
    guard = Scale(target / np.linalg.norm(target), 2.0)
    audio = DecisionOnly().run(source, target, guard)  # type: ignore[arg-type]
    np.testing.assert_array_equal(audio, target)
    assert guard.queries == 1
