"""Normalised scores against their formula, and cohorts that do not belong."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors.numpy import save_file

from speakerguard.errors import CheckpointError, UsageError
from speakerguard.network import checkpoint
from speakerguard.verification import cohort
from speakerguard.verification.calibration import CalibrationFile
from speakerguard.verification.cohort import Cohort
from speakerguard.verification.scoring import ABOVE, COSINE
from speakerguard.verification.verifier import Verifier


def unit(seed: int, *shape: int) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal(shape)
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize(("members", "count"), [(300, cohort.NEAREST), (20, 20)])
def test_scores_follow_the_formula(members: int, count: int) -> None:
    strangers, enrol, test = unit(0, members, 16), unit(1, 5, 16), unit(2, 5, 16)
    found = Cohort(strangers, "m").normalise(enrol, test)
    for row in range(5):
        cosine = float(enrol[row] @ test[row])
        usual = [np.sort(strangers @ side)[-count:].mean() for side in (enrol[row], test[row])]
        assert found[row] == pytest.approx(cosine - np.mean(usual), abs=1e-6)


def test_neither_side_nor_the_number_of_trials_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    strangers, enrol, test = unit(0, 50, 8), unit(1, 7, 8), unit(2, 7, 8)
    whole = Cohort(strangers, "m").normalise(enrol, test)
    np.testing.assert_allclose(Cohort(strangers, "m").normalise(test, enrol), whole)
    monkeypatch.setattr(cohort, "_ROWS", 3)
    np.testing.assert_allclose(Cohort(strangers, "m").normalise(enrol, test), whole, rtol=1e-5)


def test_one_probe_against_all_scores_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    strangers, enrol, probe = unit(0, 50, 8), unit(1, 7, 8), unit(2, 8)
    monkeypatch.setattr(cohort, "_ROWS", 3)
    found = Cohort(strangers, "m").normalise(enrol, np.broadcast_to(probe, enrol.shape))
    each = Cohort(strangers, "m").normalise(enrol, np.repeat(probe[None], 7, axis=0))
    np.testing.assert_allclose(found, each, rtol=1e-6)


def test_a_voice_like_everybody_must_come_nearer() -> None:
    """Equal cosines, but one pair lies amid the cohort."""
    strangers = unit(0, 200, 32) + 2 * np.eye(32, dtype=np.float32)[0]
    strangers /= np.linalg.norm(strangers, axis=1, keepdims=True)
    amid, apart = np.eye(32, dtype=np.float32)[[0]], np.eye(32, dtype=np.float32)[[1]]
    side = np.eye(32, dtype=np.float32)[[2]]
    near = [(0.8 * voice + 0.6 * side).astype(np.float32) for voice in (amid, apart)]
    found = [
        Cohort(strangers, "m").normalise(voice, probe)[0]
        for voice, probe in zip((amid, apart), near, strict=True)
    ]
    assert found[0] < found[1]


def test_verifier_decides_on_normalised_scores(
    tiny_model: Path, speech: dict[str, list[Path]], tmp_path: Path
) -> None:
    folder = tmp_path / "guard"
    shutil.copytree(tiny_model, folder)
    store = str(tmp_path / "profiles.db")
    with pytest.raises(CheckpointError, match="has no cohort"):
        _ = Verifier(folder, score_norm=True).calibration
    before = Verifier(folder, store)
    own, probe = speech[sorted(speech)[0]][:2]
    before.enroll("alice", [own])
    assert before.verify("alice", probe).unit == COSINE
    strangers = Cohort(unit(0, 50, 192), before.fingerprint)
    strangers.save(folder / cohort.COHORT_FILE)
    with pytest.raises(CheckpointError, match=r"above strangers .*calibrate --trials TRIALS"):
        _ = Verifier(folder).calibration
    shutil.copy(folder / checkpoint.CALIBRATION_FILE, folder / checkpoint.NORMALISED_FILE)
    with pytest.raises(CheckpointError, match=r"belongs to weights .* calibrate again"):
        _ = Verifier(folder).calibration  # they are of other scores
    thresholds = CalibrationFile.load(folder / checkpoint.CALIBRATION_FILE)
    made_by = Verifier(folder).scoring.fingerprint
    replace(thresholds, model=made_by).save(folder / checkpoint.NORMALISED_FILE)
    guard, plain = Verifier(folder, store), Verifier(folder, store, score_norm=False)
    answer, cosine = guard.verify("alice", probe), plain.verify("alice", probe)
    profile, (embedding,) = guard.profile("alice"), guard.embed([probe])
    strangers = Cohort.load(folder / cohort.COHORT_FILE, guard.fingerprint)
    expected = strangers.normalise(profile.centroid[None], embedding[None])[0]
    assert (answer.unit, cosine.unit) == (ABOVE, COSINE)
    assert answer.score == pytest.approx(expected)
    assert answer.cosine == cosine.score == cosine.cosine
    assert cosine == before.verify("alice", probe)
    assert answer.accepted == (answer.score >= answer.threshold)
    found = guard.identify(probe)
    assert found.ranking[0][1] == pytest.approx(expected)
    assert found.cosines[0] == pytest.approx(answer.cosine)
    assert (found.unit, found.margin) == (ABOVE, 0.05)
    assert plain.identify(probe).margin == 0.05


def test_strangers_of_other_weights_are_refused_where_scores_are_made(
    normalised_model: Path, speech: dict[str, list[Path]], tmp_path: Path
) -> None:
    folder = tmp_path / "guard"
    shutil.copytree(normalised_model, folder)
    Cohort(unit(0, 50, 192), "of-others").save(folder / cohort.COHORT_FILE)
    guard = Verifier(folder, str(tmp_path / "profiles.db"))
    (clip, *_) = next(iter(speech.values()))
    guard.enroll("alice", [clip])  # needs no score
    with pytest.raises(CheckpointError, match=r"belongs to weights of-others.*--no-score-norm"):
        guard.verify("alice", clip)
    assert Verifier(folder, guard.store, score_norm=False).verify("alice", clip).unit == COSINE


def test_saved_and_loaded_for_the_same_model_alone(tmp_path: Path) -> None:
    path = tmp_path / cohort.COHORT_FILE
    made = Cohort(unit(0, 30, 8), "model-a")
    made.save(path)
    loaded = Cohort.load(path, "model-a")
    np.testing.assert_allclose(loaded.embeddings, made.embeddings, atol=1e-3)
    with pytest.raises(CheckpointError, match="belongs to weights model-a, these are model-b"):
        Cohort.load(path, "model-b")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match=r"not a whole .*speakerguard cohort"):
        Cohort.load(path, "model-a")
    with pytest.raises(CheckpointError, match="has no cohort"):
        Cohort.load(tmp_path / "none", "model-a")


ROWS = unit(0, 30, 8)


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        (ROWS[0], r"not floats \(speakers, dimension\)"),
        (ROWS[None], r"not floats \(speakers, dimension\)"),
        (np.eye(8, dtype=np.int32), "int32 of shape"),
        (np.where(np.arange(8) == 3, np.float32("nan"), ROWS), "not of length 1"),
        (np.where(np.arange(8) == 3, np.float32("inf"), ROWS), "not of length 1"),
        (1.02 * ROWS, "not of length 1"),
        (0 * ROWS, "not of length 1"),
        (ROWS[[2] * 30], "not of two different speakers"),
        (ROWS[:1], "not of two different speakers"),
        (ROWS[:0], "not of two different speakers"),
    ],
)
def test_what_cannot_be_strangers_is_refused(
    rows: np.ndarray, problem: str, tmp_path: Path
) -> None:
    path = tmp_path / cohort.COHORT_FILE
    about = {"format": cohort.FORMAT, "model": "m"}
    save_file({"embeddings": np.ascontiguousarray(rows)}, path, metadata=about)
    with pytest.raises(CheckpointError, match=f"cohort.safetensors: .*{problem}.* Make it again"):
        Cohort.load(path, "m")


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float8_e4m3fn])
def test_types_that_numpy_lacks_are_refused(kind: torch.dtype, tmp_path: Path) -> None:
    path = tmp_path / cohort.COHORT_FILE
    safetensors.torch.save_file({"embeddings": torch.eye(8).to(kind)}, path)
    with pytest.raises(CheckpointError, match="Make it again"):
        Cohort.load(path, "m")


def test_strangers_of_another_dimension_are_refused() -> None:
    with pytest.raises(CheckpointError, match=r"have 8 values, .* have 16\. Make it again"):
        Cohort(ROWS, "m").normalise(unit(1, 3, 16), unit(2, 3, 16))


def test_one_speaker_is_no_cohort() -> None:
    with pytest.raises(UsageError, match="two speakers"):
        Cohort(unit(0, 1, 8), "m")
