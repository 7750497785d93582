"""8-bit models: close to their original, of another fingerprint, and honest about the loss."""

import json
from pathlib import Path

import numpy as np
import pytest

from speakerguard.embedders import load as engines
from speakerguard.embedders.guard import OnnxEmbedder
from speakerguard.errors import CheckpointError, TrialError, UsageError
from speakerguard.evaluation.evaluate import score_trials
from speakerguard.evaluation.metrics import det_curve
from speakerguard.evaluation.quantise import LOSS_FILE, quantise
from speakerguard.evaluation.trials import Trial
from speakerguard.sound.speech import load_speech
from speakerguard.verification.verifier import Verifier

onnx = pytest.importorskip("onnx")
Clips = dict[str, list[Path]]
LABELS = ("target", "nontarget")


@pytest.fixture
def root(speech: Clips, tmp_path: Path) -> Path:
    for speaker, clips in list(speech.items())[:3]:
        folder = tmp_path / "corpus" / "s" / speaker
        folder.mkdir(parents=True)
        for number, clip in enumerate(clips[:3]):
            (folder / f"{number}{clip.suffix}").symlink_to(clip)
    return tmp_path / "corpus"


def trials_of(root: Path) -> list[Trial]:
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.*"))
    return [
        Trial(a, b, "target" if a.split("/")[1] == b.split("/")[1] else "nontarget", 1)
        for index, a in enumerate(names)
        for b in names[index + 1 :]
    ]


def test_an_8_bit_model(tiny_model: Path, root: Path, tmp_path: Path) -> None:
    trials, out = trials_of(root), tmp_path / "guard-int8"
    losses = quantise(tiny_model, out, root, trials, root)
    small, original = engines.load(out), engines.load(tiny_model)
    assert isinstance(small, OnnxEmbedder)
    assert small.fingerprint.startswith(f"{original.fingerprint}-int8-")
    assert (small.dimension, small.min_samples) == (original.dimension, original.min_samples)
    clips = [load_speech(path).samples for path in sorted(root.rglob("*.*"))]
    first, second = np.array(original.embed(clips)), np.array(small.embed(clips))
    cosine = (first * second).sum(axis=1)
    assert cosine.min() > 0.95
    assert cosine.max() < 1 - 1e-6
    assert [loss.condition for loss in losses] == ["full", "2 s"]
    for verifier, eer in (
        (Verifier(tiny_model), losses[0].pooled),
        (Verifier(out), losses[0].pooled_int8),
    ):
        table = score_trials(verifier, trials, root)
        assert det_curve(table.targets, table.nontargets).eer().rate == pytest.approx(eer, abs=1e-6)
    kept = json.loads((out / LOSS_FILE).read_text())
    assert (kept["model"], kept["of"]) == (small.fingerprint, original.fingerprint)
    assert len(kept["eer"]) == 2
    kinds = {node.op_type for node in onnx.load(out / "model.onnx").graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds


def test_other_ranges_make_another_model(tiny_model: Path, root: Path, tmp_path: Path) -> None:
    trials = [next(t for t in trials_of(root) if t.label == label) for label in LABELS]
    found = []
    for number, speech in enumerate((root, root, next((root / "s").iterdir()))):
        quantise(tiny_model, tmp_path / str(number), speech, trials, root)
        found.append(engines.load(tmp_path / str(number)).fingerprint)
    assert found[0] == found[1] != found[2]


def test_a_model_is_not_quantised_into_another(
    tiny_model: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "speakerguard.evaluation.quantise.check_files", lambda *_: pytest.fail("this is work")
    )
    with pytest.raises(UsageError, match=r"holds the weights of a model already\. Name another"):
        quantise(tiny_model, tiny_model, root, trials_of(root), root)


def test_what_cannot_be_made_8_bit(tiny_model: Path, root: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no speech found"):
        quantise(tiny_model, tmp_path / "out", tmp_path / "empty", trials_of(root), root)
    with pytest.raises(TrialError, match="no such file"):
        quantise(tiny_model, tmp_path / "out", root, trials_of(root), tmp_path)
    assert not (tmp_path / "out").exists()
    with pytest.raises(CheckpointError, match="no model"):
        quantise(tmp_path / "empty", tmp_path / "out", root, trials_of(root), root)
