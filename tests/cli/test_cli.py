"""The command line: every command, its exit codes, its JSON, and names in any script."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from speakerguard.cli import claims
from speakerguard.errors import UsageError
from speakerguard.evaluation import evaluate as evaluation
from speakerguard.evaluation.trials import read_scores
from speakerguard.verification.calibration import CalibrationFile

Clips = dict[str, list[Path]]
pytest_plugins = ["support.calling"]
SCORE = ("score", "--trials", "t.txt", "--root", ".", "--out", "s.txt")


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    path = tmp_path / "noise.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(48_000), 16_000)
    return path


@pytest.fixture
def corpus(speech: Clips, tmp_path: Path) -> Path:
    """The clips as ``s/<speaker>/<n>.opus`` below a folder, linked."""
    for speaker, clips in speech.items():
        folder = tmp_path / "corpus" / "s" / speaker
        folder.mkdir(parents=True)
        for number, clip in enumerate(clips):
            (folder / f"{number}.opus").symlink_to(clip)
    return tmp_path / "corpus"


def trials_of(corpus: Path) -> list[tuple[bool, str, str]]:
    names = sorted(path.relative_to(corpus).as_posix() for path in corpus.rglob("*.opus"))
    return [
        (a.split("/")[1] == b.split("/")[1], a, b)
        for index, a in enumerate(names)
        for b in names[index + 1 :]
    ]


def script(
    program: str, *arguments: object, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True, text=True, env={**os.environ, **environment},
    )  # fmt: skip


def test_without_arguments_the_commands_are_listed(run: Any) -> None:
    for listing in (run(), run("--help")):
        commands = "enroll verify identify profiles embed score evaluate calibrate train doctor"
        shown = listing.out + listing.error
        assert all(f" {name} " in shown for name in commands.split())
        assert "3 unusable audio" in shown
    assert all(name in run("profiles", "--help").out for name in ("list", "show", "remove"))


def test_the_version_is_the_installed_one(run: Any) -> None:
    shown = run("--version")
    assert (shown.code, shown.out) == (0, f"speakerguard {version('speakerguard')}\n")


def test_a_voice_from_enrolment_to_removal(run: Any, speech: Clips, noise: Path) -> None:
    own, other, *_ = speech.values()
    assert "nobody is enrolled" in run("profiles", "list").error
    done = run("enroll", "أليس", *own[:2])
    assert done.code == 0
    assert "enrolled أليس from 2 recordings" in done.out
    assert "cohesion" in done.out
    assert run("profiles", "list").out == "أليس\n"
    assert json.loads(run("profiles", "list", "--json").out) == ["أليس"]
    assert own[0].name in run("profiles", "show", "أليس").out
    shown = json.loads(run("profiles", "show", "أليس", "--json").out)
    assert [u["source"] for u in shown["utterances"]] == [path.name for path in own[:2]]

    taken = run("enroll", "أليس", own[0])
    assert (taken.code, taken.out) == (2, "")
    assert "--replace" in taken.error
    assert run("enroll", "أليس", own[0], "--replace").code == 0
    answer = json.loads(run("enroll", "bob", other[0], "--json").out)
    assert answer["speaker"] == "bob"
    assert answer["utterances"] == 1
    assert answer["warnings"] == []

    accepted = run("verify", "أليس", own[0])
    assert accepted.code == 0
    assert accepted.out.startswith("ACCEPT  أليس\n")
    assert "cosine; threshold" in accepted.out
    assert json.loads(run("profiles", "remove", " bob ", "--json").out) == {"removed": "bob"}
    assert run("profiles", "remove", "أليس").out == "removed أليس\n"
    gone = run("verify", "أليس", own[0])
    assert (gone.code, gone.out) == (4, "")
    assert run("profiles", "remove", "أليس").code == 4
    assert run("profiles", "show", "أليس").code == 4


def test_verify_answers_a_program(run: Any, speech: Clips, tiny_model: Path) -> None:
    own, other, *_ = speech.values()
    run("enroll", "alice", own[0])
    same, different = run("verify", "alice", own[0], "--json"), None
    answer = json.loads(same.out)
    assert (same.code, answer["decision"]) == (0, "accept")
    assert set(answer) == {
        *("decision", "speaker", "score", "unit", "cosine", "llr", "operating_point"),
        *("threshold", "net_seconds", "warnings"),
    }
    assert answer["operating_point"] == "fa-1%"
    assert all({"code", "message"} == set(warning) for warning in answer["warnings"])
    file = tiny_model / "calibration.json"
    strict = CalibrationFile.load(file)
    points = strict.points | {"eer": replace(strict.points["eer"], threshold=1.5)}
    kept = file.read_text()
    try:
        replace(strict, points=points).save(file)
        different = run("verify", "alice", other[0], "--json", "--point", "eer")
        said = run("verify", "alice", other[0], "--point", "eer")
    finally:
        file.write_text(kept)
    answer = json.loads(different.out)
    assert (different.code, answer["decision"]) == (1, "reject")
    assert (answer["operating_point"], answer["threshold"]) == ("eer", 1.5)
    assert (said.code, said.out.split()[0]) == (1, "REJECT")


def test_identify(run: Any, speech: Clips) -> None:
    own, other, *_ = speech.values()
    assert run("identify", own[0]).code == 4
    run("enroll", "alice", own[0])
    run("enroll", "bob", other[0])
    found = run("identify", own[0], "--margin", 0, "--json")
    assert (found.code, json.loads(found.out)["speaker"]) == (0, "alice")
    assert run("identify", own[0], "--margin", 0).out.startswith("alice\n")
    unclear = run("identify", own[0], "--margin", 2, "--top", 1)
    assert unclear.code == 1
    assert unclear.out.startswith("nobody: alice and bob lie within")
    assert unclear.out.count("bob") == 1


def test_exit_codes_tell_what_went_wrong(run: Any, speech: Clips, noise: Path) -> None:
    clip = next(iter(speech.values()))[0]
    Path("junk.wav").write_text("junk")
    run("enroll", "alice", clip)
    for code, arguments, words in (
        (2, ("verify", "alice"), "Missing argument"),
        (2, ("bogus",), "No such command"),
        (2, ("verify", "alice", "missing.wav"), "missing.wav: no such file"),
        (2, ("verify", "alice", clip, "--point", "x"), "Choose one of: fa-1%"),
        (2, ("verify", "alice", clip, "--model", "x"), "no model 'x'"),
        (2, ("verify", "alice", clip, "--store", "no://where"), "profile store"),
        (3, ("verify", "alice", noise), "noise.wav: no speech"),
        (3, ("verify", "alice", "junk.wav"), "junk.wav: cannot be decoded"),
        (3, ("enroll", "carol", clip, noise), "noise.wav: no speech"),
        (3, ("identify", noise), "no speech"),
        (4, ("verify", "alicia", clip), "“alicia” is not enrolled. Enrol with"),
        (4, ("profiles", "show", "alicia"), "Did you mean “alice”?"),
        (2, ("verify", "alice", clip, "--point", "eer", "--threshold", 0), "Leave one out"),
        (2, ("verify", "alice", clip, "--threshold", "nan"), "no finite number"),
        (2, ("embed", clip, "--out", "a.txt"), "must end in .npz"),
        (2, ("embed", clip, "--out", noise / "a.npz"), "noise.wav/a.npz: cannot be written"),
        (2, ("score", "--trials", "no.txt", "--root", ".", "--out", "s"), "no.txt"),
        (2, ("evaluate",), "needs a score file"),
        (2, ("evaluate", "s.txt", "--trials", "t.txt"), "holds scores already"),
        (2, ("evaluate", "s.txt", "--model", "campplus"), "--model: s.txt holds scores already"),
        (2, ("train", "--config", "no.yaml"), "no.yaml"),
        (2, ("verify", "alice", clip, "--countermeasure", ""), "no countermeasure ''"),
        (2, ("verify", "alice", "-", "--stream", "--countermeasure", ""), "countermeasure ''"),
        (2, ("score", "--trials", "t.txt", "--root", ".", "--out", "."), ".: is a folder"),
        (2, ("identify", clip, "--margin", "nan"), "no finite number"),
        (2, ("identify", clip, "--margin", "inf"), "no finite number"),
        (2, (*SCORE, "--seconds", "nan"), "no finite number"),
        (2, (*SCORE, "--seconds", "inf"), "no finite number"),
        (2, ("evaluate", "--trials", "t.txt", "--babble", "nan"), "no finite number"),
        (2, ("voices", "--corpus", ".", "--out", "v", "--apart", "nan"), "no finite number"),
        (2, ("voices", "--corpus", ".", "--out", "v", "--coherent", "nan"), "no finite number"),
    ):
        ran = run(*arguments)
        assert (ran.code, ran.out) == (code, ""), arguments
        assert words in ran.error
        assert "Traceback" not in ran.error
    assert run("profiles", "list").out == "alice\n"


def test_a_bug_is_no_rejection(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(claims, "make_verifier", fail)
    ran = run("verify", "alice", "a.wav")
    assert ran.code == 70
    assert "ZeroDivisionError" in ran.error


def test_the_store_is_where_the_option_says(run: Any, speech: Clips, tmp_path: Path) -> None:
    clip = next(iter(speech.values()))[0]
    assert run("enroll", "alice", clip, "--store", f"sqlite:///{tmp_path}/other.db").code == 0
    assert run("profiles", "list").out == ""
    assert run("profiles", "list", "--store", tmp_path / "other.db").out == "alice\n"
    assert not (tmp_path / "profiles.db").exists()  # which SPEAKERGUARD_STORE names
    run("enroll", "bob", clip)
    assert (tmp_path / "profiles.db").exists()


@pytest.mark.parametrize(
    "store",
    [
        *(":memory:", "sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite+pysqlite://"),
        *("sqlite://?cache=shared", "sqlite:///file::memory:?uri=true"),
        "sqlite:///file:x?mode=memory&uri=true",
    ],
)
def test_a_store_that_would_be_gone_is_refused(
    run: Any, speech: Clips, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = next(iter(speech.values()))[0]
    for arguments in (("enroll", "alice", clip), ("profiles", "list")):
        ran = run(*arguments, "--store", store)
        assert (ran.code, ran.out) == (2, "")
        assert "gone when the command ends" in " ".join(ran.error.replace("│", "").split())
    monkeypatch.setenv("SPEAKERGUARD_STORE", store)
    assert run("profiles", "list").code == 2


def test_embed(run: Any, speech: Clips) -> None:
    own, other, *_ = speech.values()
    Path("file").write_bytes(own[0].read_bytes())
    bad = os.fsdecode(b"\xff.opus")
    Path(bad).write_bytes(own[0].read_bytes())
    ran = run("embed", own[0], other[0], "file", bad, own[0], "--out", "all.npz")
    assert (ran.code, ran.out) == (0, "4 embeddings in all.npz\n")
    stored = np.load("all.npz")
    assert set(stored) == {str(own[0]), str(other[0]), "file", r"\udcff.opus"}
    assert stored["file"].dtype == np.float32
    np.testing.assert_array_equal(stored["file"], stored[str(own[0])])
    assert not np.allclose(stored["file"], stored[str(other[0])])
    assert not Path("all.npz.part").exists()


def test_three_formats_of_trials_give_the_same_scores(
    run: Any, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = trials_of(corpus)
    word = {True: "target", False: "nontarget"}
    lists = {
        "voxceleb": [f"{int(same)} {a} {b}" for same, a, b in rows],
        "kaldi": [f"{a} {b} {word[same]}" for same, a, b in rows],
        "sasv": [f"{a} {b} bonafide {word[same]}" for same, a, b in rows],
    }
    read: list[Path] = []
    load = evaluation.load_speech
    monkeypatch.setattr(evaluation, "load_speech", lambda path: read.append(path) or load(path))
    for name, lines in lists.items():
        Path(name).write_text("\n".join(lines) + "\n")
        ran = run("score", "--trials", name, "--root", corpus, "--out", f"{name}.scores")
        assert (ran.code, ran.out) == (0, f"{len(rows)} scores in {name}.scores\n")
        assert len(read) == len(set(read)) == 16
        read.clear()
    text = Path("kaldi.scores").read_text()
    assert Path("voxceleb.scores").read_text() == Path("sasv.scores").read_text() == text
    label, score, enrol, test = text.splitlines()[0].split()
    assert (label, enrol, test) == (word[rows[0][0]], *rows[0][1:])
    assert -1 <= float(score) <= 1.000001

    table = read_scores("kaldi.scores")
    assert len(set(table.scores)) > 0.9 * len(rows)
    shown = run("evaluate", "kaldi.scores", "--bootstrap", 0)
    assert shown.code == 0
    assert f"| pooled | 4 | 24 / {len(rows) - 24} |" in shown.out
    same = run("evaluate", "--trials", "kaldi", "--root", corpus, "--bootstrap", 20, "--out", "e")
    assert same.code == 0
    assert {path.name for path in Path("e").iterdir()} == {
        *("results.json", "scores.txt", "det.png", "scores.png")
    }
    assert Path("e/scores.txt").read_text() == text
    results = json.loads(Path("e/results.json").read_text())["results"]
    assert results[-1]["name"] == "pooled"
    assert f"| {100 * results[-1]['eer']:.2f}" in shown.out
    assert results[-1]["cllr"] > 0
    short = run("score", "--trials", "kaldi", "--root", corpus, "--out", "short", "--seconds", 1)
    assert short.code == 0
    assert Path("short").read_text() != text


def test_all_unusable_recordings_are_named_at_once(run: Any, corpus: Path) -> None:
    _, a, b = trials_of(corpus)[0]
    for name in ("quiet.wav", "empty.wav"):
        (corpus / name).write_bytes(b"")
    Path("list").write_text(f"1 {a} quiet.wav\n1 {a} {b}\n0 {a} empty.wav\n")
    ran = run("score", "--trials", "list", "--root", corpus, "--out", "s")
    assert (ran.code, ran.error.splitlines()[0].count("2 of 4 recordings cannot be used")) == (3, 1)
    assert "quiet.wav: the file is empty" in ran.error
    assert "empty.wav: the file is empty" in ran.error


def test_bad_lists_are_refused_with_the_line(run: Any, corpus: Path) -> None:
    _, a, b = trials_of(corpus)[0]
    for lines, words in (
        ([f"1 {a} {b}", f"0 {a} gone.wav"], "line 2"),
        ([f"1 {a} {b}", f"{a} {b}"], "line 2 has no label"),
        ([f"{a} {b} maybe"], "line 1"),
    ):
        Path("list").write_text("\n".join(lines))
        ran = run("score", "--trials", "list", "--root", corpus, "--out", "s")
        assert (ran.code, ran.out) == (2, "")
        assert words in ran.error
        assert not Path("s").exists()


def test_calibrate_keeps_thresholds_beside_the_model(
    run: Any, corpus: Path, tiny_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes((tiny_model / "model.safetensors").read_bytes())
    pairs = [(a, b) for same, a, b in trials_of(corpus) if not same][::4]
    lines = [f"0 {a} {b}\n1 {a} {a}" for a, b in pairs]  # untrained, it knows only the same file
    Path("list").write_text("\n".join(dict.fromkeys("\n".join(lines).split("\n"))))
    early = run("evaluate", "--trials", "list", "--root", corpus, "--model", folder)
    assert (early.code, "| pooled |" in early.out) == (0, True)  # no threshold is needed for this
    clips = sorted(corpus.rglob("*.opus"))[:2]
    stranger = run("verify", "bob", clips[0], "--model", folder)
    assert (stranger.code, "“bob” is not enrolled" in stranger.error) == (4, True)
    assert run("enroll", "bob", *clips, "--model", folder).code == 0
    unsure = run("verify", "bob", clips[0], "--model", folder)
    assert (unsure.code, "speakerguard calibrate" in unsure.error) == (2, True)
    ran = run("calibrate", "--trials", "list", "--root", corpus, "--model", folder)
    assert ran.code == 0, ran.error
    assert "say little about fa-0.1%" in ran.error
    kept = json.loads((folder / "calibration.json").read_text())
    for name in ("fa-1%", "fa-0.1%", "eer"):
        assert f"{kept['points'][name]['threshold']:+.4f}" in ran.out
    given = ("--model", folder)
    without = run("evaluate", "--trials", "list", "--root", corpus, *given, "--score-norm")
    assert (without.code, "speakerguard cohort" in without.error) == (2, True)
    made = run("cohort", "--speech", corpus, "--model", folder)
    assert (made.code, "speakerguard calibrate" in made.out) == (0, True)
    assert run("verify", "bob", clips[0], *given).code == 2
    assert run("calibrate", "--trials", "list", "--root", corpus, *given).code == 0
    normalised = json.loads((folder / "calibration-asnorm.json").read_text())
    assert normalised["points"]["eer"] != kept["points"]["eer"]
    assert json.loads((folder / "calibration.json").read_text()) == kept
    shown = run("evaluate", "--trials", "list", "--root", corpus, *given, "--bootstrap", 0)
    assert "| pooled |" in shown.out
    again = run("calibrate", "--trials", "list", "--root", corpus, *given, "--no-score-norm")
    assert again.code == 0
    assert f"was {kept['points']['fa-1%']['threshold']:+.4f}" in again.out
    assert "was" not in ran.out
    assert json.loads((folder / "calibration.json").read_text())["points"] == kept["points"]
    assert json.loads((folder / "calibration-asnorm.json").read_text()) == normalised
    clip = next(iter(corpus.rglob("*.opus")))
    run("enroll", "alice", clip, "--model", folder)
    said = run("verify", "alice", clip, *given)
    assert said.code == 0, said.error
    assert "cosine above strangers; threshold" in said.out
    assert "cosine    +1.000" in said.out
    plain = run("verify", "alice", clip, *given, "--no-score-norm")
    assert "score     +1.000  cosine; threshold" in plain.out
    named = run("identify", clip, *given)
    assert "cosine +1.000  alice" in named.out
    assert "scores are cosines above strangers" in named.out
    answer = json.loads(run("verify", "alice", clip, *given, "--json").out)
    assert answer["unit"] == "cosine above strangers"
    assert answer["threshold"] == normalised["points"]["fa-1%"]["threshold"]


def test_doctor(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SPEAKERGUARD_STORE", str(tmp_path / "file" / "profiles.db"))
    ran = run("doctor", "--json")
    answer = json.loads(ran.out)
    assert (ran.code, answer["ok"]) == (1, False)
    assert "profile store" in [check["name"] for check in answer["checks"] if check["ok"] is False]
    assert "numpy" in run("doctor").out


def test_tensorflow_is_not_imported_by_what_decides(
    tiny_model: Path, speech: Clips, tmp_path: Path
) -> None:
    program = (
        "import sys\n"
        "from speakerguard import cli\n"
        "for line in sys.argv[2:]:\n"
        "    sys.argv = ['speakerguard', *line.split('|')]\n"
        "    try: cli.main()\n"
        "    except SystemExit as exit: assert exit.code in (0, 1), (line, exit.code)\n"
        "assert 'torch' in sys.modules\n"
        "print(sorted(m for m in sys.modules if m.split('.')[0] in {'tensorflow', 'keras'}))\n"
    )
    clip = next(iter(speech.values()))[0]
    ran = script(
        program, "-", f"enroll|alice|{clip}", f"verify|alice|{clip}", f"identify|{clip}",
        SPEAKERGUARD_CHECKPOINTS=str(tiny_model.parent), SPEAKERGUARD_STORE=str(tmp_path / "p.db"),
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1] == "[]"


def test_any_name_works_in_the_c_locale(tiny_model: Path, speech: Clips, tmp_path: Path) -> None:
    clip = next(iter(speech.values()))[0]
    names = [os.fsencode(name) for name in ("صوت.opus", "声音 🎤.opus")] + [b"bad\xff\xfe.opus"]
    for name in names:
        (tmp_path / os.fsdecode(name)).write_bytes(clip.read_bytes())
    environment = {
        **os.environ, "LC_ALL": "C", "SPEAKERGUARD_CHECKPOINTS": str(tiny_model.parent),
        "SPEAKERGUARD_STORE": str(tmp_path / "profiles.db"),
    }  # fmt: skip
    environment.pop("PYTHONIOENCODING", None)
    command = [sys.executable, "-m", "speakerguard"]

    def call(*arguments: bytes) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*command, *arguments], capture_output=True, cwd=tmp_path, env=environment
        )

    enrolled = call(b"enroll", "أليس 🎤".encode(), *names)
    assert enrolled.returncode == 0, enrolled.stderr
    assert "أليس 🎤".encode() in enrolled.stdout
    shown = call(b"profiles", b"show", "أليس 🎤".encode()).stdout.decode()
    assert "صوت.opus" in shown
    assert "声音 🎤.opus" in shown
    assert r"bad\udcff\udcfe.opus" in shown
    (tmp_path / os.fsdecode(b"junk\xff.wav")).write_bytes(b"junk")
    refused = call(b"verify", "أليس 🎤".encode(), b"junk\xff.wav")
    assert refused.returncode == 3
    assert rb"junk\udcff.wav: cannot be decoded" in refused.stderr
    assert b"Traceback" not in refused.stderr
    broken = np.where(np.arange(48_000) == 30_000, np.nan, 0.1).astype(np.float32)
    soundfile.write(tmp_path / "broken.wav", broken, 48_000, subtype="FLOAT")
    refused = call(b"verify", "أليس 🎤".encode(), b"broken.wav")
    assert refused.returncode == 3
    assert refused.stderr.count(b"\n") == 1, refused.stderr  # the resampler speaks up if it leaks


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize(("more", "code"), [([], 4), (["--model", "nope"], 2)])
def test_what_is_wrong_shows_before_a_pipe_is_heard(
    run: Any, tmp_path: Path, more: list[str], code: int
) -> None:
    os.mkfifo(tmp_path / "never.wav")
    assert run("verify", "nobody", "never.wav", *more).code == code


def test_a_closed_pipe_is_silent_and_no_rejection(tmp_path: Path) -> None:
    environment = {**os.environ, "SPEAKERGUARD_STORE": str(tmp_path / "none.db")}
    reader, writer = os.pipe()
    os.close(reader)
    ran = subprocess.run(
        [sys.executable, "-m", "speakerguard", "profiles", "list", "--json"],
        stdout=writer, stderr=subprocess.PIPE, env=environment,
    )  # fmt: skip
    os.close(writer)
    assert ran.stderr == b""
    assert ran.returncode not in (0, 1, 2, 3, 4)


def test_mean_over_sources_and_missing_figures() -> None:
    random = np.random.default_rng(0)
    names = [f"{source}/{speaker}/{n}" for source in "ab" for speaker in "xy" for n in range(20)]
    labels = np.array(["target", "nontarget"] * 40)
    scores = random.normal(0, 1, 80) + (labels == "target")
    from speakerguard.evaluation.trials import ScoreTable

    results = evaluation.evaluate(ScoreTable(labels, scores, names, names), replicates=50)
    assert [result.name for result in results] == ["a", "b", "mean", "pooled"]
    a, b, mean, pooled = results
    assert mean.eer == pytest.approx((a.eer + b.eer) / 2)
    assert (mean.targets, pooled.targets) == (40, 40)
    assert pooled.eer_low <= pooled.eer <= pooled.eer_high
    rows = json.loads(evaluation.as_json(results, seconds=None))["results"]
    assert rows[2]["threshold"] is None
    assert rows[3]["cllr"] is None
    assert evaluation.as_table(results).count("–") >= 8
    one_class = ScoreTable(labels[:1], scores[:1], names[:1], names[:1])
    with pytest.raises(UsageError):
        evaluation.evaluate(one_class)
