"""A whole report on real speech with a small untrained network: repeats, resumes, and survives."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from advgan.report.command import report as command
from advgan.report.compare import compare, load_report, worse
from advgan.report.page import page
from advgan.report.schema import SCHEMA_FILE, Report, schema_text
from speakerguard.errors import UsageError
from speakerguard.evaluation.spoof_metrics import a_dcf, sasv_eer
from speakerguard.evaluation.trials import read_trials
from speakerguard.sound.audio import read

Clips = dict[str, list[Path]]
SUITE = """
pairs: 4
seconds: 1.5
worst: 2
replicates: 50
attacks:
  - again-vc: {weights: nowhere}
  - random-noise: {epsilon: 0.002}
  - fgsm: {epsilon: [0.001, 0.004]}
  - pgd: {epsilon: 0.004, steps: 2, against: [none, quantise]}
  - nes: {queries: 6, samples: 2}
  - splice: {seconds: [0.5, 1.0]}
defences:
  - quantise
  - score-variation: {codec: mulaw}
  - countermeasure: {detector: discriminator}
"""


@pytest.fixture(scope="module")
def data(speech: Clips, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four speakers' recordings as WAV, a suite, and pairs of which one has a damaged file."""
    root = tmp_path_factory.mktemp("data")
    lines = []
    speakers = list(speech)
    for speaker in speakers:
        (root / speaker).mkdir()
        for number, clip in enumerate(speech[speaker][:3]):
            soundfile.write(root / speaker / f"{number}.wav", read(clip)[:48_000], 16_000)
    for index, speaker in enumerate(speakers):
        attacker = speakers[(index + 1) % 4]
        lines.append(f"{attacker}/0.wav\t{speaker}/1.wav\t{speaker}/2.wav")
    (root / "broken").mkdir()
    (root / "broken" / "0.wav").write_bytes((root / speakers[0] / "0.wav").read_bytes()[:999])
    lines[3] = f"broken/0.wav\t{speakers[3]}/1.wav\t{speakers[3]}/2.wav"
    (root / "pairs.tsv").write_text("\n".join(lines) + "\n")
    (root / "suite.yaml").write_text(SUITE)
    return root


def options(data: Path, model: Path, out: Path, workers: int = 1) -> list[str]:
    given = {"suite": data / "suite.yaml", "pairs": data / "pairs.tsv", "model": model,
             "out": out, "workers": workers, "fail-on": "never"}  # fmt: skip
    return [word for key, value in given.items() for word in (f"--{key}", str(value))]


def invoke(*words: str) -> Any:
    import typer

    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, list(words))


@pytest.fixture(scope="module")
def done(data: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report")
    ran = invoke(*options(data, tiny_model, out))
    assert ran.exit_code == 0, ran.output
    return out


@pytest.fixture(scope="module")
def made(done: Path) -> Report:
    return load_report(done / "report.json")


def rows_of(out: Path) -> Path:
    """The file of a run's cases."""
    (found,) = out.glob("cases-*.jsonl")
    return found


def timeless(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "report.json").read_text())
    del content["timing"]
    return content


def test_every_case_is_there_and_counted(made: Report) -> None:
    assert len(made.attacks) == 12
    assert len(made.cases) == 3 * 12
    assert {case.outcome for case in made.cases} == {"judged", "not-run"}
    outcomes = {case.outcome for case in made.cases if made.attacks[case.attack].name == "again-vc"}
    assert outcomes == {"not-run"}
    missing = {p.where: p for p in made.problems if p.kind == "not-run"}
    attack = missing.pop("again-vc[weights=nowhere]")
    assert "no generator weights 'nowhere'" in attack.message
    assert attack.cases == 3
    for problem in missing.values():  # where the discriminator is not shipped
        assert problem.where == "defence countermeasure[detector=discriminator]"
        assert "cannot be loaded; train it" in problem.message


def test_a_damaged_file_costs_one_row(made: Report) -> None:
    (bad,) = [problem for problem in made.problems if problem.kind == "bad-file"]
    assert bad.where == "pair 3, line 4"
    assert "broken/0.wav" in bad.message
    assert [pair.usable for pair in made.pairs] == [True, True, True, False]


def test_rates_are_those_of_the_cases(made: Report) -> None:
    threshold = made.threat.threshold
    for attack in made.attacks:
        mine = [case for case in made.cases if case.attack == attack.index]
        scores = [case.scores["none"] for case in mine if case.outcome == "judged"]
        if not scores:
            assert attack.cells == {}
            continue
        rate = attack.cells["none"].accepted
        assert rate.count == sum(score is not None and score >= threshold for score in scores)
        assert rate.value == pytest.approx(rate.count / rate.cases)
        assert None not in (rate.value, rate.low, rate.high)
        low, value, high = rate.low or 0.0, rate.value or 0.0, rate.high or 0.0
        assert 0 <= low <= value <= high <= 1
        if rate.count in (0, rate.cases):
            assert high - low > 0.5  # three speakers prove little


def test_metrics_are_those_of_the_scores(made: Report) -> None:
    def scores(*labels: str) -> list[float]:
        return [
            case.scores["none"] or 0.0 for case in made.cases
            if made.attacks[case.attack].label in labels and case.scores
        ]  # fmt: skip

    pgd = next(attack for attack in made.attacks if attack.name == "pgd")
    spoofs = [case.scores["none"] or 0.0 for case in made.cases if case.attack == pgd.index]
    cell = pgd.cells["none"]
    genuine, strangers = scores("target"), scores("nontarget")
    assert cell.a_dcf == pytest.approx(a_dcf(genuine, strangers, spoofs).value, abs=1e-9)
    assert cell.sasv_eer == pytest.approx(sasv_eer(genuine, strangers, spoofs).rate)


def test_an_adaptive_attack_is_marked_and_judged_behind_its_defence(made: Report) -> None:
    adaptive = next(attack for attack in made.attacks if attack.against == "quantise")
    assert set(adaptive.cells) == {"none", "quantise"}
    assert adaptive.cells["quantise"].adaptive
    assert not adaptive.cells["none"].adaptive


def test_queries_are_counted_and_curves_are_drawn(made: Report) -> None:
    nes = next(attack for attack in made.attacks if attack.name == "nes")
    assert 0 < nes.queries <= 6
    assert {(curve.name, curve.axis) for curve in made.curves} == {
        ("fgsm", "epsilon"), ("splice", "target_seconds"),
    }  # fmt: skip


def test_workers_change_nothing(done: Path, data: Path, tiny_model: Path, tmp_path: Path) -> None:
    ran = invoke(*options(data, tiny_model, tmp_path, workers=2))
    assert ran.exit_code == 0, ran.output
    assert timeless(tmp_path) == timeless(done)


def test_a_killed_run_goes_on_and_ends_alike(
    done: Path, data: Path, tiny_model: Path, tmp_path: Path
) -> None:
    rows = rows_of(done)
    lines = rows.read_bytes().splitlines(keepends=True)
    half = b"".join(lines[: len(lines) // 2]) + lines[len(lines) // 2][:20]  # cut in mid-line
    (tmp_path / rows.name).write_bytes(half)
    ran = invoke(*options(data, tiny_model, tmp_path))
    assert ran.exit_code == 0, ran.output
    assert timeless(tmp_path) == timeless(done)
    assert (tmp_path / rows.name).read_bytes().startswith(b"".join(lines[:5]))


def test_what_failed_is_tried_again(
    done: Path, data: Path, tiny_model: Path, tmp_path: Path
) -> None:
    rows = rows_of(done)
    header, *lines = [json.loads(line) for line in rows.read_text().splitlines()]
    broken = [line | {"outcome": "failed", "scores": {}} for line in lines if line["attack"] == 2]
    kept = [line for line in lines if line["attack"] != 2]
    text = "\n".join(map(json.dumps, [header, *broken, *kept]))
    (tmp_path / rows.name).write_text(text + "\n")
    ran = invoke(*options(data, tiny_model, tmp_path))
    assert ran.exit_code == 0, ran.output
    assert timeless(tmp_path) == timeless(done)


def test_another_run_in_the_same_folder_is_left_alone(
    done: Path, data: Path, tiny_model: Path, tmp_path: Path
) -> None:
    before = rows_of(done)
    shutil.copy(before, tmp_path)
    ran = invoke(*options(data, tiny_model, tmp_path), "--seed", "1")
    assert ran.exit_code == 0, ran.output
    assert (tmp_path / before.name).read_bytes() == before.read_bytes()
    assert len(list(tmp_path.glob("cases-*.jsonl"))) == 2
    changed = timeless(tmp_path)
    assert changed["cases"] != timeless(done)["cases"]
    assert changed["provenance"]["seed"] == 1


def test_a_damaged_list_of_cases_is_refused(
    done: Path, data: Path, tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / rows_of(done).name).write_text("{}\n")
    ran = invoke(*options(data, tiny_model, tmp_path))
    assert isinstance(ran.exception, UsageError)
    assert "--fresh" in str(ran.exception)
    ran = invoke(*options(data, tiny_model, tmp_path), "--case", "0.1")
    assert ran.exit_code == 0


def test_a_worst_case_replays_to_the_same_score(
    made: Report, data: Path, tiny_model: Path, tmp_path: Path
) -> None:
    worst = made.worst[0]
    assert worst.replayed == worst.score
    assert worst.command.endswith(f"--case {worst.case}")
    ran = invoke(*options(data, tiny_model, tmp_path), "--case", worst.case)
    assert ran.exit_code == 0, ran.output
    assert f"score {worst.score:+.6f}" in ran.output
    folder = tmp_path / f"case-{worst.case}"
    assert {path.name for path in folder.iterdir()} == {"source.wav", "target.wav", "attack.wav"}
    assert np.abs(soundfile.read(folder / "attack.wav")[0]).max() > 0
    ran = invoke(*options(data, tiny_model, tmp_path), "--case", "9.99")
    assert "no case '9.99'" in str(ran.exception)


def test_a_file_is_no_folder_for_a_report(data: Path, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ran = invoke(*options(data, tiny_model, tmp_path / "file"))
    assert isinstance(ran.exception, UsageError)
    assert "file: no folder can be made there (File exists)" in str(ran.exception)


def test_a_full_disk_loses_nothing_finished(
    done: Path, data: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync, count = os.fsync, 0

    def full(file: int) -> None:
        nonlocal count
        count += 1
        if count > 9:
            raise OSError(28, "No space left on device")
        sync(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        ran = invoke(*options(data, tiny_model, tmp_path))
    assert isinstance(ran.exception, UsageError)
    assert "No space left on device" in str(ran.exception)
    assert "it goes on" in str(ran.exception)
    assert len(rows_of(tmp_path).read_text().splitlines()) == 1 + 10
    ran = invoke(*options(data, tiny_model, tmp_path))
    assert ran.exit_code == 0
    assert timeless(tmp_path) == timeless(done)


def test_an_attack_more_is_all_that_is_run(
    done: Path, data: Path, tiny_model: Path, tmp_path: Path
) -> None:
    suite = tmp_path / "suite.yaml"
    suite.write_text(SUITE.replace("  - fgsm", "  - noise: {snr: 10}\n  - fgsm"))
    words = ["--suite", str(suite)]
    grown, fresh = tmp_path / "grown", tmp_path / "fresh"
    shutil.copytree(done, grown)
    before = rows_of(grown).read_text().splitlines()
    assert invoke(*options(data, tiny_model, grown), *words).exit_code == 0
    after = rows_of(grown).read_text().splitlines()
    assert after[: len(before)] == before
    # For each pair that can be used: the noise, and what could not be run, tried again.
    assert len(after) == len(before) + 2 * 3
    assert invoke(*options(data, tiny_model, fresh), *words).exit_code == 0
    assert timeless(grown) == timeless(fresh)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_keeps_what_is_finished(data: Path, tiny_model: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "speakerguard", "report", *options(data, tiny_model, tmp_path)]
    ran = subprocess.Popen(
        words,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # a shell that runs the tests in the background has it ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        lines = [line for path in tmp_path.glob("cases-*") for line in path.read_text().split("\n")]
        if len(lines) > 7:
            break
        time.sleep(0.05)
    os.killpg(ran.pid, signal.SIGINT)
    _, said = ran.communicate(timeout=60)
    assert ran.returncode == 130, said
    assert re.search(r"interrupted; \d+ of 36 cases are kept", said), said
    assert all(json.loads(line) for line in rows_of(tmp_path).read_text().splitlines())


def test_the_schema_is_the_published_one() -> None:
    """Renew it with ``SCHEMA_FILE.write_text(schema_text())``."""
    assert SCHEMA_FILE.read_text(encoding="utf-8") == schema_text()


def test_the_page_is_rendered_from_the_json_alone(done: Path, made: Report) -> None:
    html = (done / "report.html").read_text(encoding="utf-8")
    assert page(Report.model_validate_json((done / "report.json").read_bytes())) == html
    assert not re.search(r"(src|href)=\"(?!data:|#)", html)
    assert not re.search(r"https?://", html.replace("http://www.w3.org", ""))
    for case in made.cases:
        assert f"<td>{case.id}</td>" in html
    for worst in made.worst:
        assert worst.command in html.replace("&#x27;", "'")
    assert html.count("<audio") == 3 * len(made.worst)
    ids = re.findall(r' id="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', html)) <= set(ids)


def test_what_a_file_is_called_cannot_write_html(made: Report) -> None:
    name = "<script>alert(1)</script>"
    pairs = [made.pairs[0].model_copy(update={"target_speaker": name}), *made.pairs[1:]]
    html = page(made.model_copy(update={"pairs": pairs}))
    assert name not in html
    assert "&lt;script&gt;alert(1)" in html


def test_the_exports_can_be_read_back(done: Path, made: Report) -> None:
    scored = [case for case in made.cases if case.outcome in ("judged", "refused")]
    trials = read_trials(done / "scores-sasv.txt")
    assert [trial.test for trial in trials] == [case.id for case in scored]
    assert {trial.label for trial in trials} == {"target", "nontarget", "spoof"}
    key = read_trials(done / "key-asvspoof5.tsv")
    assert [(t.test, t.label) for t in key] == [(t.test, t.label) for t in trials]
    lines = (done / "scores-asvspoof5.tsv").read_text().splitlines()
    assert lines[0] == "spk\tfilename\tcm-score\tasv-score\tsasv-score"
    assert float(lines[1].split("\t")[3]) == scored[0].scores["none"]
    suite = ElementTree.parse(done / "junit.xml").getroot()
    assert len(suite.findall("testcase")) == len(made.verdict.checks)
    broken = sum(not check.passed for check in made.verdict.checks)
    assert len(suite.findall("testcase/failure")) == broken == int(suite.attrib["failures"])


def test_the_exit_code_follows_the_policy(
    done: Path, data: Path, tiny_model: Path, tmp_path: Path
) -> None:
    base = [word for word in options(data, tiny_model, done) if word not in ("--fail-on", "never")]
    hard, soft = tmp_path / "hard.yaml", tmp_path / "soft.yaml"
    hard.write_text("attacks: {again-vc: 0.5}\nnot_run: fail\n")
    soft.write_text("genuine_rejected: 1\nfamilies: {gradient: 1.0, conversion: 0.0}\n")
    ran = invoke(*base, "--policy", str(hard))
    assert ran.exit_code == 1
    assert ran.output.startswith("FAIL  1 of 1 limits are broken")
    ran = invoke(*base, "--policy", str(soft))
    assert ran.exit_code == 0, ran.output
    assert ran.output.startswith("PASS")
    ran = invoke(*base, "--policy", str(soft), "--fail-on", "error")
    assert ran.exit_code == 1  # one pair has a damaged file
    soft.write_text("genuine_rejected: 1\ndefence: opsu\n")
    assert "defence 'opsu', which is none" in str(invoke(*base, "--policy", str(soft)).exception)
    ran = invoke(*base, "--fail-on", "sometimes")
    assert "choose one of policy, worse, error, never" in str(ran.exception)


def test_what_changed_is_told_apart_from_chance(made: Report) -> None:
    same = compare(made, made, "earlier")
    assert same.changes == []
    assert same.notes == []
    better = made.model_copy(deep=True)
    pgd = next(attack for attack in better.attacks if attack.name == "pgd")
    rate = pgd.cells["none"].accepted
    was = rate.model_copy(update={"value": 0.1, "low": 0.05, "high": 0.2})
    now = rate.model_copy(update={"value": 0.9, "low": 0.8, "high": 0.95})
    pgd.cells["none"].accepted = was
    worsened = better.model_copy(deep=True)
    next(a for a in worsened.attacks if a.index == pgd.index).cells["none"].accepted = now
    found = compare(better, worsened, "earlier")
    assert [(change.before, change.now, change.clear) for change in found.changes] == [
        (0.1, 0.9, True)
    ]
    assert worse(found) == found.changes
    assert worse(compare(worsened, better, "earlier")) == []
    without = better.model_copy(deep=True)
    without.attacks.remove(next(a for a in without.attacks if a.index == pgd.index))
    gone = worse(compare(better, without, "earlier"))
    assert (pgd.title, None) in [(change.what, change.now) for change in gone]


def test_a_foreign_report_cannot_be_compared_with(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text("{}")
    with pytest.raises(UsageError, match=r"not a speakerguard-report-1 file \(verdict"):
        load_report(path)
