"""The shipped weights, on real speech of speakers they were not trained on."""

from pathlib import Path

import numpy as np
import pytest

from speakerguard.errors import NoSpeechError
from speakerguard.evaluation.evaluate import score_trials
from speakerguard.evaluation.metrics import det_curve
from speakerguard.evaluation.trials import ScoreTable, read_trials
from speakerguard.network import checkpoint
from speakerguard.sound.audio import read
from speakerguard.sound.corpus import source_of
from speakerguard.verification.verifier import Verifier

FOLDER = Path(__file__).resolve().parents[2] / "checkpoints" / "guard"
FILES = 12  # of each source, evenly spread over those in the list


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Verifier:
    if not (FOLDER / checkpoint.MODEL_FILE).is_file():
        pytest.skip(f"{FOLDER} holds no weights")
    return Verifier(FOLDER, str(tmp_path_factory.mktemp("store") / "profiles.db"))


@pytest.fixture(scope="module")
def dev(shared: Path) -> Path:
    folder = shared / "corpus" / "dev"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return folder


@pytest.fixture(scope="module")
def table(guard: Verifier, dev: Path) -> ScoreTable:
    """Every trial between some files of each source: always the same ones."""
    trials = read_trials(dev / "trials.txt")
    names = sorted({name for trial in trials for name in (trial.enrol, trial.test)})
    kept: set[str] = set()
    for source in sorted({source_of(name) for name in names}):
        inside = [name for name in names if source_of(name) == source]
        kept.update(inside[:: max(1, len(inside) // FILES)])
        kept.update(inside[1 :: max(2, len(inside) // FILES)])
    return score_trials(guard, [t for t in trials if {t.enrol, t.test} <= kept], dev)


def test_voices_are_told_apart(table: ScoreTable) -> None:
    assert len(table.targets) > 50
    assert len(table.nontargets) > 200
    assert det_curve(table.targets, table.nontargets).eer().rate < 0.08


def test_each_source_is_told_apart(table: ScoreTable) -> None:
    sources = np.array([source_of(name) for name in table.enrol])
    for source in set(sources):
        scores, labels = table.scores[sources == source], table.labels[sources == source]
        if {"target", "nontarget"} <= set(labels):
            gap = scores[labels == "target"].mean() - scores[labels == "nontarget"].mean()
            assert gap > 0.1, source


def test_noise_has_no_score(guard: Verifier, dev: Path) -> None:
    guard.enroll("someone", sorted((dev / "vctk").rglob("*.opus"))[:2], replace=True)
    noise = 0.1 * np.random.default_rng(0).standard_normal(16_000 * 5)
    with pytest.raises(NoSpeechError):
        guard.verify("someone", (noise, 16_000))


def test_loudness_hardly_matters(guard: Verifier, dev: Path) -> None:
    clips = sorted(next(iter(sorted((dev / "vctk").iterdir()))).iterdir())
    guard.enroll("someone", clips[:2], replace=True)
    for path in clips[2:5]:
        samples = read(path)
        full, half = (guard.verify("someone", (samples * gain, 16_000)) for gain in (1.0, 0.5))
        assert half.score == pytest.approx(full.score, abs=0.02)
