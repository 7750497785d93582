"""Enrol, verify, identify: decisions at their exact edges, and refusals that say why."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from speakerguard.errors import (
    CheckpointError,
    ConfigError,
    IncompatibleProfileError,
    NoSpeechError,
    NoSuchProfileError,
    UsageError,
)
from speakerguard.network import checkpoint
from speakerguard.sound.audio import read
from speakerguard.sound.speech import load_speech
from speakerguard.verification.cautions import SHORT_SPEECH
from speakerguard.verification.store import ProfileStore
from speakerguard.verification.verifier import Verifier

Clips = dict[str, list[Path]]


@pytest.fixture
def guard(tiny_model: Path, tmp_path: Path) -> Verifier:
    return Verifier(tiny_model, str(tmp_path / "profiles.db"))


@pytest.fixture
def set_threshold(guard: Verifier) -> Callable[[float], None]:
    """Sets the default operating point's threshold."""

    def to(threshold: float) -> None:
        point = replace(guard.calibration.point(), threshold=threshold)
        points = guard.calibration.points | {point.name: point}
        guard.scoring.calibration = replace(guard.calibration, points=points)

    return to


@pytest.fixture(scope="module")
def voices(speech: Clips) -> tuple[list[Path], list[Path]]:
    """The clips of two speakers."""
    first, second, *_ = speech.values()
    return first, second


def test_the_same_file_gives_the_same_embedding(guard: Verifier, speech: Clips) -> None:
    path = next(iter(speech.values()))[0]
    first, second = guard.embed([path, path])
    (alone,) = guard.embed([path])
    (by_value,) = guard.embed([path.read_bytes()])
    assert first.tobytes() == second.tobytes()
    np.testing.assert_allclose(alone, first, rtol=0, atol=1e-5)
    assert by_value.tobytes() == alone.tobytes()
    assert alone.dtype == np.float32
    assert np.linalg.norm(alone) == pytest.approx(1, abs=1e-5)


def test_company_does_not_change_an_embedding(guard: Verifier, speech: Clips) -> None:
    clips = [load_speech(path) for paths in speech.values() for path in paths]
    shorter = [
        replace(clip, samples=clip.samples[: 9_000 + 1_001 * i]) for i, clip in enumerate(clips)
    ]
    together = guard.embed_speech([*clips, *shorter])
    alone = [guard.embed_speech([clip])[0] for clip in [*clips, *shorter]]
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)
    assert np.linalg.norm(np.array(alone)[:, None] - np.array(alone), axis=2).max() > 0.1
    assert guard.embed_speech([]) == []


def test_batches_are_bounded_by_their_longest_clip(
    guard: Verifier, speech: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = load_speech(next(iter(speech.values()))[0])
    short = replace(clip, samples=np.resize(clip.samples, 16_000))
    long = replace(clip, samples=np.resize(clip.samples, 50 * 16_000))
    sizes: list[int] = []
    whole = guard.embedder.encoder.forward

    def spy(padded: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        sizes.append(padded.numel())
        return whole(padded, lengths)

    monkeypatch.setattr(guard.embedder.encoder, "forward", spy)
    assert len(guard.embed_speech([short, long] * 3)) == 6
    assert max(sizes) <= 60 * 16_000


def test_enrol_and_verify(guard: Verifier, voices: tuple[list[Path], list[Path]]) -> None:
    own, other = voices
    enrolment = guard.enroll(" Zoë ", own[:2])
    assert enrolment.profile.name == "Zoë"
    assert enrolment.profile.sources == tuple(path.name for path in own[:2])
    assert enrolment.profile.fingerprint == guard.fingerprint
    assert guard.store.get("Zoë").embeddings.shape == (2, 192)
    again = guard.verify("Zoë", own[0])
    assert again.score > guard.verify("Zoë", other[0]).score
    assert again.score == pytest.approx(
        float(enrolment.profile.embeddings[0] @ enrolment.profile.centroid), abs=1e-5
    )
    assert again.llr == pytest.approx(guard.calibration.calibration.llr(again.score))
    assert again.net_seconds == load_speech(own[0]).net_seconds
    assert again.operating_point == "fa-1%"
    assert guard.verify("Zoë", load_speech(own[0])) == again
    assert guard.verify("Zoë", own[0], "eer").threshold == guard.calibration.point("eer").threshold


def test_recordings_are_added_to_a_profile(
    guard: Verifier, voices: tuple[list[Path], list[Path]]
) -> None:
    own, _ = voices
    with pytest.raises(NoSuchProfileError):
        guard.enroll("later", own[:1], add=True)
    guard.enroll("later", own[:1])
    whole = guard.enroll("later", own[1:2], add=True).profile
    guard.enroll("at once", own[:2])
    expected = guard.store.get("at once").embeddings
    np.testing.assert_allclose(whole.embeddings, expected, atol=1e-5)
    assert guard.store.get("later").sources == tuple(path.name for path in own[:2])
    with pytest.raises(UsageError, match="not both"):
        guard.enroll("later", own[:1], replace=True, add=True)


def test_a_recording_enrolled_twice_is_told(
    tmp_path: Path, voices: tuple[list[Path], list[Path]]
) -> None:
    own, _ = voices
    guard = Verifier("guard", tmp_path / "p.db")  # an untrained network hears everybody alike
    made = guard.enroll("twice", [own[0], own[1], own[0]])
    assert [w.code for w in made.warnings if w.code == "duplicate"] == ["duplicate"]
    assert "duplicate" not in {w.code for w in guard.enroll("once", own[:2]).warnings}
    again = guard.enroll("once", own[1:2], add=True)
    assert "duplicate" in {w.code for w in again.warnings}


def test_a_profile_of_another_dimension_is_damaged(
    guard: Verifier, voices: tuple[list[Path], list[Path]]
) -> None:
    own, _ = voices
    profile = guard.enroll("alice", own[:1]).profile
    forged = replace(profile, embeddings=np.eye(1, 7, dtype=np.float32))
    guard.store.add(forged, replace=True)
    for ask in (
        lambda: guard.verify("alice", own[1]),
        lambda: guard.identify(own[1]),
        lambda: guard.enroll("alice", own[1:2], add=True),
        lambda: guard.store.extend(profile),
    ):
        with pytest.raises(IncompatibleProfileError, match=r"“alice” is damaged.*7 values"):
            ask()


def test_a_cohort_that_is_insisted_on_must_be_there(
    tiny_model: Path, voices: tuple[list[Path], list[Path]], tmp_path: Path
) -> None:
    guard = Verifier(tiny_model, str(tmp_path / "profiles.db"), score_norm=True)
    with pytest.raises(CheckpointError, match="cohort"):
        guard.enroll("alice", voices[0][:1])
    assert "alice" not in guard.store


def test_a_score_at_the_threshold_is_accepted(
    guard: Verifier, set_threshold: Callable[[float], None], voices: tuple[list[Path], list[Path]]
) -> None:
    guard.enroll("alice", voices[0][:2])
    score = guard.verify("alice", voices[1][0]).score
    for threshold, accepted in (
        (score, True),
        (np.nextafter(score, 2), False),
        (np.nextafter(score, -2), True),
    ):
        set_threshold(float(threshold))
        answer = guard.verify("alice", voices[1][0])
        assert (answer.score, answer.threshold) == (score, threshold)
        assert answer.accepted is accepted


def test_identify_needs_the_threshold_and_the_margin(
    guard: Verifier, set_threshold: Callable[[float], None], voices: tuple[list[Path], list[Path]]
) -> None:
    own, other = voices
    guard.enroll("alice", own[:1])
    set_threshold(0.5)
    alone = guard.identify(own[0])
    assert (alone.speaker, alone.reason) == ("alice", "")
    guard.enroll("bob", other[:1])
    answer = guard.identify(own[0], margin=0.0)
    assert answer.speaker == "alice"
    assert [name for name, _ in answer.ranking] == ["alice", "bob"]
    (_, best), (_, second) = answer.ranking
    assert best == pytest.approx(1, abs=1e-5)
    wide = guard.identify(own[0], margin=best - second + 1e-6)
    assert wide.speaker is None
    assert "alice and bob lie within" in wide.reason
    assert guard.identify(own[0], margin=best - second).speaker == "alice"
    set_threshold(best)
    assert guard.identify(own[0], margin=0.0).speaker == "alice"
    set_threshold(float(np.nextafter(best, 2)))
    low = guard.identify(own[0], margin=0.0)
    assert low.speaker is None
    assert "under the threshold" in low.reason
    assert low.ranking == answer.ranking


def test_nobody_is_found_among_nobody(guard: Verifier, speech: Clips) -> None:
    clip = next(iter(speech.values()))[0]
    with pytest.raises(NoSuchProfileError, match="enrol someone first"):
        guard.identify(clip)
    with pytest.raises(NoSuchProfileError, match="“alice” is not enrolled"):
        guard.verify("alice", clip)


def test_profiles_of_other_weights_are_refused(
    guard: Verifier, tiny_model: Path, tmp_path: Path, speech: Clips
) -> None:
    clip = next(iter(speech.values()))[0]
    guard.enroll("alice", [clip])
    with torch.no_grad():
        next(guard.embedder.encoder.parameters()).mul_(1.1)
    folder = tmp_path / "other"
    checkpoint.save(guard.embedder.encoder, folder / checkpoint.MODEL_FILE)
    shutil.copy(tiny_model / checkpoint.CALIBRATION_FILE, folder)
    other = Verifier(folder, guard.store)
    assert other.fingerprint != guard.fingerprint
    with pytest.raises(IncompatibleProfileError, match=r"enrolled with model .*: enrol again") as e:
        other.verify("alice", clip)
    assert e.value.exit_code == 4
    with pytest.raises(NoSuchProfileError):
        other.identify(clip)
    with pytest.raises(CheckpointError, match=r"belongs to weights .* calibrate again"):
        _ = other.calibration
    (folder / checkpoint.CALIBRATION_FILE).write_text("{}")
    with pytest.raises(ConfigError, match=r"calibration\.json"):
        _ = other.calibration
    (folder / checkpoint.CALIBRATION_FILE).unlink()
    with pytest.raises(CheckpointError, match=r"scores in cosine .* run `speakerguard calibrate"):
        _ = other.calibration
    other = Verifier(folder, guard.store)
    other.enroll("needs no threshold", [clip])
    assert "needs no threshold" in other.store


def test_recordings_that_disagree_are_noticed(
    guard: Verifier, voices: tuple[list[Path], list[Path]]
) -> None:
    points = guard.calibration.points
    cohesion = guard.enroll("trial", [voices[0][0], voices[1][0]]).profile.cohesion()
    assert cohesion is not None
    for change, warned in ((1e-6, True), (-1e-6, False)):
        eer = replace(points["eer"], threshold=cohesion + change)
        guard.scoring.calibration = replace(guard.calibration, points=points | {"eer": eer})
        enrolment = guard.enroll("mixed", [voices[0][0], voices[1][0]], replace=True)
        messages = [w.message for w in enrolment.warnings if w.code == "disagreement"]
        assert bool(messages) is warned
        assert not warned or "Check that all are of mixed" in messages[0]


def test_a_failed_enrolment_keeps_nothing(guard: Verifier, speech: Clips) -> None:
    clip = next(iter(speech.values()))[0]
    noise = (0.1 * np.random.default_rng(0).standard_normal(48_000), 16_000)
    with pytest.raises(NoSpeechError):
        guard.enroll("alice", [clip, noise])
    with pytest.raises(UsageError, match="at least one"):
        guard.enroll("alice", [])
    assert guard.store.names() == []
    before = guard.enroll("alice", [clip]).profile
    with pytest.raises(NoSpeechError):
        guard.enroll("alice", [noise], replace=True)
    with pytest.raises(UsageError, match="already enrolled"):
        guard.enroll("alice", [clip])
    assert guard.store.get("alice").created == before.created


def test_no_speech_means_no_score(guard: Verifier, speech: Clips) -> None:
    guard.enroll("alice", next(iter(speech.values()))[:1])
    noise = (0.1 * np.random.default_rng(0).standard_normal(48_000), 16_000)
    for ask in (lambda: guard.verify("alice", noise), lambda: guard.identify(noise)):
        with pytest.raises(NoSpeechError):
            ask()


def test_short_speech_is_a_warning(guard: Verifier, speech: Clips) -> None:
    clip = max((read(path) for path in next(iter(speech.values()))), key=len)
    energy = np.cumsum(clip**2, dtype=np.float64)
    start = int(np.argmax(energy[16_000:] - energy[:-16_000]))
    brief = (clip[start : start + 16_000], 16_000)
    assert load_speech(brief).net_seconds < SHORT_SPEECH
    warnings = guard.enroll("alice", [brief]).warnings
    assert "short-speech" in [warning.code for warning in warnings]
    assert warnings[-1].message.startswith("<array>: only")
    answer = guard.verify("alice", brief)
    assert "short-speech" in [warning.code for warning in answer.warnings]
    assert "short-speech" not in [w.code for w in guard.verify("alice", (clip, 16_000)).warnings]


def test_nobody_is_claimed_by_no_name(guard: Verifier, speech: Clips) -> None:
    clips = next(iter(speech.values()))
    guard.enroll("alice", clips[:1])
    for nobody in (None, 5, b"alice"):
        for ask in (guard.verify, guard.stream, guard.profile):
            arguments = (nobody, clips[0]) if ask == guard.verify else (nobody,)
            with pytest.raises(UsageError, match="a name is text"):
                ask(*arguments)  # type: ignore[operator]
        with pytest.raises(UsageError, match="a name is text"):
            guard.enroll(nobody, clips[:1])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "form", [str, Path, lambda path: path.read_bytes(), lambda path: read(path)]
)
def test_one_recording_is_not_taken_for_several(
    guard: Verifier, speech: Clips, form: Callable[[Path], object]
) -> None:
    single = form(next(iter(speech.values()))[0])
    single = (single, 16_000) if isinstance(single, np.ndarray) else single
    for ask in (guard.embed, lambda sources: guard.enroll("alice", sources)):
        with pytest.raises(UsageError, match="give a list"):
            ask(single)  # type: ignore[arg-type]


@pytest.mark.parametrize("margin", [-0.1, float("nan"), float("inf")])
def test_a_margin_is_a_number_from_0(guard: Verifier, speech: Clips, margin: float) -> None:
    with pytest.raises(UsageError, match="finite number from 0"):
        guard.identify(next(iter(speech.values()))[0], margin=margin)


def test_identify_says_whom_it_left_out(
    guard: Verifier, tiny_model: Path, tmp_path: Path, speech: Clips
) -> None:
    clips = next(iter(speech.values()))
    guard.enroll("alice", clips[:1])
    other = guard.profile("alice")
    guard.store.add(replace(other, name="bob", fingerprint="c0ffee"))
    for store in (guard.store, tmp_path / "profiles.db"):
        answer = Verifier(tiny_model, store).identify(clips[0])
        assert [name for name, _ in answer.ranking] == ["alice"]
        assert "other-models" in [warning.code for warning in answer.warnings]


def test_the_store_may_be_given_ready_made(tiny_model: Path, speech: Clips) -> None:
    with ProfileStore("sqlite://") as store:
        Verifier(tiny_model, store).enroll("alice", next(iter(speech.values()))[:1])
        assert store.names() == ["alice"]
