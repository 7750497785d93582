"""Suites and policies: what is shipped can be read, and what is wrong is named."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from advgan.pairs import Pair
from advgan.report import programs
from advgan.report.assemble import attacker_weights
from advgan.report.plan import Plan, Suite, load_suite
from advgan.report.policy import load_policy
from advgan.victim.defences import Median, ScoreVariation, Smoothing, defence
from speakerguard.errors import ConfigError, UsageError


def write(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["smoke", "standard"])
def test_the_shipped_suites_hold_all_that_is_promised(name: str) -> None:
    suite, sha256 = load_suite(name)
    assert len(sha256) == 64
    names = {entry.built.name for entry in suite.entries}
    assert {"genuine", "zero-effort", "unconverted", "vocoder-copy", "random-noise"} <= names
    assert {"again-vc", "adversarial-again-vc", "perturbation-gan"} <= names
    assert {"fgsm", "pgd", "margin", "nes", "decision-only", "replay", "codec"} <= names
    assert {"noise", "mimicry", "splice", "synthesiser", "telephone"} <= names
    assert any(entry.against != "none" for entry in suite.entries)
    assert "universal" in names or name == "smoke"
    epsilons = {entry.built.budget.epsilon for entry in suite.entries}
    noise = {e.built.budget.epsilon for e in suite.entries if e.attack == "random-noise"}
    assert noise <= epsilons - {None}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("attakcs: [replay]", "unknown key 'attakcs'; did you mean 'attacks'?"),
        ("attacks: [repaly]", "unknown attack 'repaly'. Did you mean 'replay'?"),
        ("attacks: [{pgd: {epsilon: 2}}]", "attack 'pgd': epsilon"),
        ("attacks: [replay, replay]", "names 'replay' twice"),
        ("attacks: [{pgd: {epsilon: 0.1, against: opus}}]", "no defence of the suite: none"),
        (
            "attacks: [{nes: {against: score-variation}}]\ndefences: [score-variation]",
            "nes cannot adapt to 'score-variation'",
        ),
        ("controls: [unconverted]", "genuine and zero-effort"),
        ("defences: [medain]", "unknown defence 'medain'. Did you mean 'median'?"),
        ("pairs: many", "pairs"),
    ],
)
def test_a_wrong_suite_is_explained(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        load_suite(str(write(tmp_path, text)))
    assert message in str(error.value)


def test_an_unknown_suite_lists_those_there_are() -> None:
    with pytest.raises(UsageError, match="no suite 'smokey'; there are smoke, standard"):
        load_suite("smokey")


def test_lists_of_values_make_one_attack_each(tmp_path: Path) -> None:
    text = """
defences: [opus, quantise]
attacks:
  - pgd: {epsilon: [0.001, 0.002], against: [none, opus]}
  - splice: {seconds: [1, 2], snippet: [0.2, 0.4]}
"""
    suite, _ = load_suite(str(write(tmp_path, text)))
    titles = [entry.title for entry in suite.entries][3:]
    assert titles[:4] == [
        "pgd[epsilon=0.001]", "pgd[epsilon=0.002]",
        "pgd[epsilon=0.001] through opus", "pgd[epsilon=0.002] through opus",
    ]  # fmt: skip
    assert len(titles) == 8


def test_a_bystander_is_neither_source_nor_target() -> None:
    pairs = tuple(Pair(f"c/{s}/1.wav", f"c/{t}/1.wav", (f"c/{t}/2.wav",))
                  for s, t in (("a", "b"), ("b", "a"), ("c", "d")))  # fmt: skip
    plan = Plan("x", Suite(), "guard", None, Path(), pairs, 0, None)
    assert list(plan.bystanders(0)) == ["c/c/1.wav"]
    assert list(plan.bystanders(2)) == ["c/a/1.wav", "c/b/1.wav"]
    two = Plan("x", Suite(), "guard", None, Path(), pairs[:2], 0, None)
    assert list(two.bystanders(0)) == []


def test_the_shipped_policy_can_be_read() -> None:
    policy = load_policy(None)
    assert policy.limit("noise", "noise[snr=10]", "physical") == 0.05
    assert policy.limit("replay", "replay", "physical") == policy.families.physical


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("familys: {gradient: 0.1}", "unknown key 'familys'; did you mean 'families'?"),
        ("families: {gradeint: 0.1}", "did you mean 'gradient'?"),
        ("attacks: {relpay: 0.1}", "attacks.relpay: no such attack; did you mean 'replay'?"),
        ("genuine_rejected: 35", "genuine_rejected"),
    ],
)
def test_a_misspelt_policy_names_the_nearest_key(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        load_policy(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)


def test_defences_do_what_their_names_say() -> None:
    rng = np.random.default_rng(0)
    noise = (0.1 * rng.standard_normal(16_000)).astype(np.float32)
    (coarse,) = defence({"quantise": {"bits": 4}}).views(noise, rng)
    assert len(np.unique(coarse)) <= 16
    (low,) = defence({"low-pass": {"hz": 2_000}}).views(noise, rng)
    assert np.abs(np.fft.rfft(low))[4_000:].max() < 0.01 * np.abs(np.fft.rfft(noise)).max()
    spike = np.zeros(100, np.float32)
    spike[50] = 1
    assert not defence("median").views(spike, rng)[0].any()
    votes = Smoothing(copies=3)
    assert len(votes.views(noise, rng)) == 3
    assert votes.fuse([0.1, 0.9, 0.5]) == 0.5
    doubt = ScoreVariation()
    assert doubt.suspicion(noise, [0.8, 0.5]) == pytest.approx(0.3)
    joined = defence({"combined": {"parts": ["median", "score-variation"]}})
    assert joined.title == "median + score-variation"
    assert [program.__name__ for program in joined.programs] == ["Median", "ScoreVariation"]
    views = joined.views(noise, rng)
    np.testing.assert_array_equal(views[0], defence("median").views(noise, rng)[0])
    assert joined.suspicion(views[0], [0.8, 0.5]) == pytest.approx(0.3)
    assert (joined.limit, defence("countermeasure").limit) == (None, 0.0)


def test_a_report_knows_the_weights_that_attacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPEAKERGUARD_CHECKPOINTS", str(tmp_path))
    plan: Any = SimpleNamespace(suite=Suite(attacks=("again-vc", {"perturbation-gan": {}})))
    assert attacker_weights(plan) == {}
    seen = []
    for content in (b"one", b"other"):
        (tmp_path / "again-vc").mkdir(exist_ok=True)
        (tmp_path / "again-vc" / "model.safetensors").write_bytes(content)
        found = attacker_weights(plan)
        assert found.keys() == {"again-vc"}
        seen.append(found["again-vc"])
    assert seen[0] != seen[1]


def test_other_weights_change_the_key_of_their_attack_alone() -> None:
    pairs = (Pair("a/1.wav", "b/1.wav", ("b/2.wav",)),)
    suite = Suite(attacks=("again-vc", {"fgsm": {"epsilon": [0.001, 0.002]}}))
    plan = Plan("x", suite, "guard", None, Path(), pairs, 0, None)
    first, other = plan.keys({"again-vc": "1"}), plan.keys({"again-vc": "2"})
    changed = [a != b for a, b in zip(first, other, strict=True)]
    assert changed == [entry.title == "again-vc" for entry in suite.entries]
    assert len(set(first)) == len(first)


def test_another_program_of_a_defence_is_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of one that another package brought, which this project does not import."""
    (tmp_path / "rivals").mkdir()
    program = tmp_path / "rivals" / "softly.py"
    program.write_text(f"from {Median.__module__} import Median\nclass Softly(Median): pass\n")
    (tmp_path / "rivals" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(Median, "programs", [type("Softly", (), {"__module__": "rivals.softly"})])
    plan = Plan("x", Suite(defences=("median",)), "guard", None, tmp_path, (), 0, None)
    digests = [plan.digest("guard", "code", {})]
    for text in ("# soft\n", "LEVEL = 1\n"):
        program.write_text(program.read_text() + text)
        programs._module.cache_clear()
        digests.append(plan.digest("guard", "code", {}))
    assert digests[0] == digests[1] != digests[2]


def test_other_speech_to_train_on_is_another_run(tmp_path: Path) -> None:
    pairs = (Pair("a/1.wav", "b/1.wav", ("b/2.wav",)),)
    for name in (*pairs[0].files, "train/c/1.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"1")
    train = tmp_path / "train"
    plan = Plan("x", Suite(), "guard", None, tmp_path, pairs, 0, train)
    first = plan.digest("guard", "code", {})
    assert plan.digest("guard", "code", {}) == first
    (train / "c" / "2.wav").write_bytes(b"1")
    second = plan.digest("guard", "code", {})
    assert second != first
    if os.name != "nt":  # a name that is no text
        (train / "c" / os.fsdecode(b"\xff.wav")).write_bytes(b"1")
        assert plan.digest("guard", "code", {}) not in (first, second)
