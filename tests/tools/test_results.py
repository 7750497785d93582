"""tools/results.py: systems compared over the same draws of speakers, and the tables."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.tooling import load_tool

from speakerguard.evaluation.bootstrap import paired_bootstrap
from speakerguard.evaluation.trials import ScoreTable, Trial, read_trials
from speakerguard.sound.corpus import speaker_of

tool = load_tool("results")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A list of all trials between twelve speakers' two recordings."""
    names = [f"s/{speaker}/{take}.wav" for speaker in "abcdefghijkl" for take in "12"]
    lines = [
        f"{int(speaker_of(one) == speaker_of(two))} {one} {two}"
        for number, one in enumerate(names)
        for two in names[number + 1 :]
    ]
    (tmp_path / "trials.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, Any]]:
    """Two systems of drawn scores, the guard's worse; what they were asked to score."""
    calls: list[tuple[str, Any]] = []

    def load(system: str) -> Any:
        scoring = SimpleNamespace(unit="cosine", fingerprint=f"{system}-1")
        folder = tmp_path / "checkpoints" / system
        return SimpleNamespace(scoring=scoring, embedder=SimpleNamespace(folder=folder))

    def score(verifier: Any, trials: list[Trial], _root: Path, **how: float) -> ScoreTable:
        system = verifier.scoring.fingerprint
        calls.append((system, how))
        rng = np.random.default_rng(len(how))
        labels = np.array([trial.label for trial in trials])
        apart = 1 if system.startswith("guard") else 4
        scores = rng.normal(size=len(trials)) + apart * (labels == "target")
        return ScoreTable(labels, scores, [t.enrol for t in trials], [t.test for t in trials])

    monkeypatch.setattr(tool, "load", load)
    monkeypatch.setattr(tool, "score_trials", score)
    monkeypatch.setattr(tool, "KEPT", tmp_path / "kept")
    return calls


def results(system: str) -> dict[str, Any]:
    row = {"name": "pooled", "eer": 0.25, "eer_low": 0.2, "eer_high": 0.3}
    about = {"system": system, "fingerprint": f"{system}-1", "version": "1"}
    return {**about, "conditions": {name: [row] for name in tool.CONDITIONS}}


def test_systems_are_compared_over_the_same_draws(root: Path, asked: list[Any]) -> None:
    guard, reference = results("guard"), results("campplus")
    found = tool.compared(guard, reference, root)
    assert len(asked) == 2 * len(tool.CONDITIONS)
    trials = read_trials(root / "trials.txt")
    one, two = (tool.scored(tool.load(n), trials, root, "full") for n in ("guard", "campplus"))
    assert len(asked) == 2 * len(tool.CONDITIONS)  # scores are kept
    speakers = [[speaker_of(n) for n in names] for names in (one.enrol, one.test)]
    interval = paired_bootstrap(one.scores, two.scores, one.labels == "target", *speakers)
    assert found["against"]["difference"]["full"] == interval._asdict()
    assert interval.low > 0
    kept = json.loads((root / "checkpoints/guard/results.json").read_text())
    assert kept == found
    table = tool.table({"guard": found, "campplus": reference})
    assert "| pooled − campplus [95 %] |" in table
    cell = f"{100 * interval.low:+.1f} to {100 * interval.high:+.1f}"
    assert table.splitlines()[2].endswith(f"| {cell} |")


def test_what_was_compared_is_kept_until_a_model_changes(root: Path, asked: list[Any]) -> None:
    found = tool.compared(results("guard"), results("campplus"), root)
    count = len(asked)
    found["against"]["difference"]["full"]["low"] = 9
    assert tool.compared(found, results("campplus"), root)["against"]["difference"]["full"][
        "low"
    ] == 9  # fmt: skip
    newer = results("campplus") | {"fingerprint": "campplus-2"}
    assert tool.compared(found, newer, root)["against"]["fingerprint"] == "campplus-2"
    assert found["against"]["difference"]["full"]["low"] != 9
    assert len(asked) == count
