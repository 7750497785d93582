"""Commands about lists: enrolment maps, and recordings that cannot be used."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from speakerguard.evaluation.trials import read_scores
from speakerguard.verification.profile import centroid
from speakerguard.verification.verifier import Verifier

pytest_plugins = ["support.calling"]
Clips = dict[str, list[Path]]


@pytest.fixture
def spoken(speech: Clips, tmp_path: Path) -> Path:
    """Clips as ``<speaker>_<n>.opus`` in one folder, linked, and two that nobody can use."""
    folder = tmp_path / "spoken"
    folder.mkdir()
    for letter, clips in zip("ab", speech.values(), strict=False):
        for number, clip in enumerate(clips):
            (folder / f"{letter}_{number}{clip.suffix}").symlink_to(clip)
    (folder / "empty.wav").touch()
    (folder / "junk.wav").write_text("junk")
    return folder


def test_a_model_is_the_mean_of_its_recordings(run: Any, spoken: Path, tiny_model: Path) -> None:
    Path("map").write_text("\ufeffA a_0,a_1\r\nB b_0 b_1\r\n")
    Path("list").write_text("A a_2 F bonafide target\nA b_2 M bonafide nontarget\n"
                            "B b_3 M A07 spoof\n")  # fmt: skip
    ran = run("score", "--trials", "list", "--root", spoken, "--enrolment-map", "map", "--out", "s")
    assert (ran.code, ran.out, ran.error) == (0, "3 scores in s\n", "")
    table = read_scores("s")
    assert (table.enrol, table.labels.tolist()) == (
        ["A", "A", "B"],
        ["target", "nontarget", "spoof"],
    )
    guard = Verifier(tiny_model)
    files = [next(spoken.glob(f"{name}.*")) for name in ("a_0", "a_1", "a_2", "b_2")]
    first, second, test, other = guard.embed(files)
    voice = centroid(np.stack([first, second]))
    np.testing.assert_allclose(table.scores[:2], [voice @ test, voice @ other], atol=1e-5)
    lost = run("score", "--trials", "list", "--root", spoken, "--out", "s")
    assert (lost.code, "--enrolment-map" in lost.error) == (2, True)
    shown = run("evaluate", "--trials", "list", "--root", spoken, "--enrolment-map", "map")
    assert (shown.code, "| pooled |" in shown.out) == (0, True)
    both = run("evaluate", "s", "--enrolment-map", "map")
    assert (both.code, "--enrolment-map: s holds scores" in both.error) == (2, True)


def test_what_cannot_be_used_ends_nothing_that_may_go_on(run: Any, spoken: Path) -> None:
    Path("map").write_text("A a_0,junk\nC empty,junk\n")
    Path("list").write_text("A a_1 target\nA b_1 nontarget\nA empty nontarget\n"
                            "C a_2 nontarget\nC a_3 nontarget\n")  # fmt: skip
    given = ("--trials", "list", "--root", spoken, "--enrolment-map", "map")
    refused = run("score", *given, "--out", "s")
    assert (refused.code, refused.out) == (3, "")
    assert "2 of 7 recordings cannot be used" in refused.error
    assert "--unusable skip" in refused.error
    assert not Path("s").exists()
    ran = run("score", *given, "--out", "s", "--unusable", "skip")
    assert (ran.code, ran.out) == (0, "2 scores in s\n")
    assert "2 of 7 recordings left out:\n" in ran.error
    assert "junk.wav: cannot be decoded" in ran.error
    assert "empty.wav: the file is empty" in ran.error
    assert "3 trials left out, on lines 3 to 5\n" in ran.error
    assert read_scores("s").test == ["a_1", "b_1"]
    shown = run("evaluate", *given, "--unusable", "skip", "--out", "e")
    assert (shown.code, "3 trials left out" in shown.error) == (0, True)
    counted = json.loads(Path("e/results.json").read_text())["left_out"]
    assert counted == {"recordings": 2, "trials": 3}
    Path("list").write_text("C empty target\n")
    none = run("score", *given, "--out", "n", "--unusable", "skip")
    assert (none.code, "That is all of them" in none.error) == (3, True)
    assert not Path("n").exists()
    Path("list").write_text("C a_1 target\n")
    none = run("score", *given, "--out", "n", "--unusable", "skip")
    assert (none.code, "no trial is left" in none.error) == (2, True)


def test_a_missing_file_may_be_left_out_but_not_all(run: Any, spoken: Path) -> None:
    Path("list").write_text("1 a_0 a_1\n0 a_0 b_1\n0 a_0 absent\n1 lost a_1\n")
    given = ("score", "--trials", "list", "--out", "s")
    refused = run(*given, "--root", spoken)
    assert (refused.code, "(1 more missing)" in refused.error) == (2, True)
    ran = run(*given, "--root", spoken, "--unusable", "skip")
    assert (ran.code, ran.out) == (0, "2 scores in s\n")
    assert "2 of 5 recordings left out:" in ran.error
    assert "absent: no such file" in ran.error
    elsewhere = run(*given, "--root", Path(), "--unusable", "skip")
    assert (elsewhere.code, "(4 more missing)" in elsewhere.error) == (2, True)


def test_embed_goes_on_without(run: Any, spoken: Path) -> None:
    files = [*sorted(spoken.iterdir()), Path("absent.wav")]
    refused = run("embed", *files, "--out", "x.npz")
    assert (refused.code, "3 of 11 recordings" in refused.error) == (2, True)
    assert not Path("x.npz").exists()
    ran = run("embed", *files, "--out", "x.npz", "--unusable", "skip")
    assert (ran.code, ran.out) == (0, "8 embeddings in x.npz\n")
    assert "3 of 11 recordings left out:" in ran.error
    assert "absent.wav: no such file" in ran.error
    assert len(np.load("x.npz").files) == 8
    alone = run("embed", files[-1], "--out", "y.npz", "--unusable", "skip")
    assert (alone.code, alone.error) == (
        2,
        "speakerguard: absent.wav: no such file. Check the path.\n",
    )


def test_a_cohort_goes_on_without_unless_told(
    run: Any, speech: Clips, tiny_model: Path, tmp_path: Path
) -> None:
    for speaker, clips in speech.items():
        (tmp_path / "c" / speaker).mkdir(parents=True)
        (tmp_path / "c" / speaker / clips[0].name).symlink_to(clips[0])
    (tmp_path / "c" / speaker / "junk.wav").write_text("junk")
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes((tiny_model / "model.safetensors").read_bytes())
    given = ("cohort", "--speech", "c", "--model", folder)
    refused = run(*given, "--unusable", "fail")
    assert (refused.code, "1 of 5 recordings cannot be used" in refused.error) == (3, True)
    assert not (folder / "cohort.safetensors").exists()
    made = run(*given)
    assert (made.code, "1 of 5 recordings left out:" in made.error) == (0, True)
    assert (folder / "cohort.safetensors").exists()


def test_enrolment_is_all_or_nothing_unless_told(run: Any, spoken: Path) -> None:
    good = next(spoken.glob("a_0.*"))
    given = ("enroll", "alice", good, spoken / "junk.wav")
    assert run(*given).code == 3
    assert run("profiles", "list").out == ""
    answer = json.loads(run(*given, "--unusable", "skip", "--json").out)
    assert answer["utterances"] == 1
    (left,) = (one for one in answer["warnings"] if one["code"] == "left-out")
    assert "junk.wav: cannot be decoded" in left["message"]
    none = run("enroll", "bob", spoken / "junk.wav", "--unusable", "skip")
    assert (none.code, run("profiles", "list").out) == (3, "alice\n")


def test_an_operating_point_of_ones_own(run: Any, spoken: Path, tiny_model: Path) -> None:
    folder = Path("own")
    folder.mkdir()
    (folder / "model.safetensors").write_bytes((tiny_model / "model.safetensors").read_bytes())
    names = [f"{letter}_{number}" for letter in "ab" for number in range(4)]
    pairs = [(a, b) for a in names for b in names]
    lines = [f"{int(a == b)} {a} {b}" for a, b in pairs if a == b or a[0] != b[0]]
    Path("list").write_text("\n".join(lines))
    given = ("calibrate", "--trials", "list", "--root", spoken, "--model", "./own")
    few = run(*given, "--point", "fa-5%")
    assert (few.code, "fa-5% cannot be learnt from 32 trials" in few.error) == (2, True)
    assert not (folder / "calibration.json").exists()
    wrong = run(*given, "--point", "strict")
    assert (wrong.code, "such as fa-0.5%" in wrong.error) == (2, True)
    ran = run(*given, "--point", "fa-12.50%", "--point", "fr-40%")
    assert ran.code == 0, ran.error
    kept = json.loads((folder / "calibration.json").read_text())["points"]
    assert list(kept) == ["fa-1%", "fa-0.1%", "fa-12.5%", "fr-40%", "eer"]
    assert kept["fa-12.5%"]["p_fa"] <= 0.125
    clips = sorted(spoken.glob("a_*"))
    run("enroll", "alice", *clips[:2], "--model", "./own")
    how = ("verify", "alice", clips[2], "--model", "./own", "--json", "--point")
    answer = json.loads(run(*how, "fa-12.5%").out)
    assert (answer["operating_point"], answer["threshold"]) == (
        "fa-12.5%", kept["fa-12.5%"]["threshold"],
    )  # fmt: skip
    unknown = run(*how, "fa-2%")
    assert (unknown.code, "calibrate --point" in unknown.error) == (2, True)
    assert "fa-12.5%, fr-40% left out; to keep: --point" in run(*given).error


def test_a_threshold_of_ones_own_decides(run: Any, spoken: Path) -> None:
    clips = sorted(spoken.glob("a_*"))
    run("enroll", "alice", clips[0])
    for threshold, code in ((-1.0, 0), (1.5, 1)):
        for command in (("verify", "alice"), ("identify",)):
            ran = run(*command, clips[1], "--threshold", threshold, "--json")
            answer = json.loads(ran.out)
            assert (ran.code, answer["operating_point"]) == (code, "custom")
            assert answer["threshold"] == threshold
    both = run("identify", clips[1], "--threshold", 0, "--point", "eer")
    assert (both.code, "Leave one out" in both.error) == (2, True)
