"""The score in torch: the verifier's own number, with the gradient it really has."""

from pathlib import Path

import numpy as np
import pytest
import torch

from advgan.judging.judge import Judge
from advgan.pairs import Pair
from advgan.report.bench import Bench
from advgan.report.plan import Plan, Suite
from advgan.victim.claim import Guard, Knowledge
from advgan.victim.pcm import to_pcm
from advgan.victim.scores import Scores
from speakerguard.sound.audio import SAMPLE_RATE
from speakerguard.verification.cohort import COHORT_FILE, Cohort
from speakerguard.verification.scoring import Scoring
from speakerguard.verification.verifier import Verifier


def unit(seed: int, *shape: int) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal(shape)
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture(params=[0, 40, 300])
def scoring(request: pytest.FixtureRequest, tmp_path: Path) -> Scoring:
    """Of a model with so many strangers; with none, scores are cosines."""
    if request.param:
        Cohort(unit(0, request.param, 16), "m").save(tmp_path / COHORT_FILE)
    return Scoring(tmp_path, "m")


def test_it_is_the_verifiers_score(scoring: Scoring) -> None:
    enrol, probe = unit(1, 9, 16), unit(2, 9, 16)
    probe[:3] = unit(3, 16) + enrol[:3]  # some alike
    probe /= np.linalg.norm(probe, axis=1, keepdims=True)
    found = Scores(scoring)(torch.from_numpy(enrol), torch.from_numpy(probe)).numpy()
    np.testing.assert_allclose(found, scoring.compare(enrol, probe), rtol=1e-4, atol=1e-4)
    one = Scores(scoring)(torch.from_numpy(enrol[:1]), torch.from_numpy(probe)).numpy()
    expected = scoring.compare(np.repeat(enrol[:1], 9, axis=0), probe)
    np.testing.assert_allclose(one, expected, rtol=1e-4, atol=1e-4)


def test_its_gradient_is_that_of_finite_differences(scoring: Scoring) -> None:
    scores = Scores(scoring).double()
    enrol, probe = (torch.from_numpy(unit(s, 3, 16)).double() for s in (1, 2))
    assert torch.autograd.gradcheck(scores, (enrol, probe.requires_grad_()))


def test_strangers_all_alike_give_no_infinite_gradient(tmp_path: Path) -> None:
    scoring = Scoring(tmp_path, "m")
    scoring.cohort = Cohort(np.repeat(unit(0, 1, 8), 5, axis=0), "m")
    probe = torch.from_numpy(unit(2, 2, 8)).requires_grad_()
    Scores(scoring)(torch.from_numpy(unit(1, 2, 8)), probe).sum().backward()
    assert probe.grad is not None
    assert probe.grad.isfinite().all()


@pytest.mark.parametrize("name", ["tiny_model", "normalised_model"])
def test_whoever_asks_hears_the_verifiers_score(
    name: str, request: pytest.FixtureRequest, speech: dict[str, list[Path]], tmp_path: Path
) -> None:
    """A claim by attacked audio: verified, judged, queried, and as a case of a report."""
    model = request.getfixturevalue(name)
    own, other = list(speech.values())[:2]
    root = own[0].parents[1]
    files = [path.relative_to(root).as_posix() for path in (other[0], own[0], *own[1:3])]
    suite = Suite(attacks=({"random-noise": {"epsilon": 0.001}},), seconds=3)
    plan = Plan("x", suite, str(model), None, root, (Pair(*files[:2], tuple(files[2:])),), 0, None)
    bench = Bench(plan)
    attack = len(suite.entries) - 1
    audio, row = bench.audio(0, attack), bench.case(0, attack)
    guard = bench.guard(0, suite.entries[attack])
    guard.knowledge = Knowledge.SCORES
    verifier, judge = Verifier(model, str(tmp_path / "profiles.db")), Judge(str(model))
    verifier.enroll("target", own[1:3])
    answer = verifier.verify("target", (to_pcm(audio), SAMPLE_RATE))
    opinion = judge.opinion(judge.profile(own[1:3]), (to_pcm(audio), SAMPLE_RATE))
    assert isinstance(guard, Guard)
    for score in (row.scores["none"], guard.score(audio), opinion.score):
        assert score == pytest.approx(answer.score, abs=1e-4)
    assert opinion.cosine == pytest.approx(answer.cosine, abs=1e-5)
    assert opinion.unit == answer.unit == verifier.scoring.unit
    assert guard.threshold == bench.threshold == opinion.threshold == answer.threshold
    assert guard.accepts(audio) == opinion.accepted == answer.accepted
