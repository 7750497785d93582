"""The command line takes commands from any package, and reports stand side by side."""

import copy
import csv
import io
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from xml.etree import ElementTree

import pytest
import typer
from typer.testing import CliRunner

from advgan.report.compare import compare
from advgan.report.exports import asvspoof5_scores, junit, sasv, trials
from advgan.report.leaderboard import table
from advgan.report.page import page
from advgan.report.pictures import draw_curves, draw_matrix
from advgan.report.schema import (
    AttackSummary,
    Cell,
    Curve,
    CurvePoint,
    DefenceSummary,
    LimitCheck,
    Rate,
    Report,
    RunProvenance,
    Threat,
    Timing,
    Verdict,
    Worst,
)
from speakerguard.cli import app as cli
from speakerguard.errors import UsageError


def rate(value: float) -> Rate:
    return Rate(value=value, low=value / 2, high=(1 + value) / 2, count=1, cases=4)


def made(model: str, alone: float, behind: float) -> Report:
    """A report of one attack and one defence."""
    cells = {"none": Cell(accepted=rate(alone)), "opus": Cell(accepted=rate(behind), adaptive=True)}
    defences = [
        DefenceSummary(title=title, about="", run=True, detects=False, eer=0.05,
                       genuine_rejected=rate(0.2), strangers_accepted=rate(0.01),
                       worst_attack="pgd", worst_accepted=cells[title].accepted)
        for title in ("none", "opus")
    ]  # fmt: skip
    attack = AttackSummary(
        index=0, name="pgd", title="pgd", family="gradient", label="spoof", knowledge="weights",
        about="", against="none", budget={}, cases=4, outcomes={}, cells=cells, points={},
        quality={}, peers={},
    )  # fmt: skip
    points = [CurvePoint(at=at, accepted=rate(alone), quality={}) for at in (0.1, 0.2)]
    return Report(
        verdict=Verdict(passed=True, policy="p", policy_sha256="", point="eer", defence="none",
                        judge="estimate", sentence="", checks=[]),
        threat=Threat(model=model, fingerprint=model, point="eer", threshold=0.5, knowledge={},
                      threshold_from="", points={}, epsilon=[], queries=[], target_seconds=1,
                      seen="", overlap=""),
        attacks=[attack], defences=defences, edges=[0.0, 1.0], histograms=[], det=[], groups=[],
        curves=[Curve(name="pgd", axis="epsilon", points=points)], worst=[], pairs=[], cases=[],
        problems=[], limits=[],
        provenance=RunProvenance(version="", code="", suite="", suite_sha256="s", data="",
                              data_sha256="d", pairs_used=4, pairs_listed=4, seed=0, machine={},
                              packages={}),
        timing=Timing(started="", seconds=0, workers=1, case_seconds={}),
    )  # fmt: skip


def test_guards_are_ranked_by_what_their_best_defence_lets_in() -> None:
    text = table([made("weak", 0.9, 0.8), made("strong", 1.0, 0.25), made("middling", 0.5, 0.6)])
    rows = [line.split(" | ") for line in text.splitlines()[2:]]
    assert [row[0].strip("| ") for row in rows] == ["strong", "middling", "weak"]
    assert "100 [50–100] pgd" in text
    assert rows[0][-2] == "25 (opus, rejecting 20)"
    assert rows[1][-2] == "50 (none, rejecting 20)"
    assert "cannot be compared" not in text
    assert "different versions" not in text


def test_nothing_in_a_report_reaches_the_terminal_or_the_table_s_columns() -> None:
    report = made("a\x1b[2J|b\nc", 0.5, 0.25)
    report.threat.point = "eer\x1b]0;title\x07"
    report.attacks[0].title = report.defences[1].title = "\x9b31m|\r"
    text = table([report, made("honest", 0.5, 0.5)])
    assert not set(text) & set("\x1b\x9b\x07\r")
    rows = text.splitlines()
    assert r"| a\x1b[2J\|b\nc |" in text
    assert len({row.replace(r"\|", "").count("|") for row in rows[:4]}) == 1


def test_a_report_without_the_verifier_alone_is_refused() -> None:
    report = made("a", 0.5, 0.25)
    report.defences = report.defences[1:]
    with pytest.raises(UsageError, match="the report of a does not have the verifier alone"):
        table([report])


def test_what_a_suite_calls_itself_makes_whole_xml() -> None:
    report = made("a", 0.5, 0.25)
    report.provenance.suite = "s\x1b"
    check = {"what": "x\x00\x1b", "attack": None, "limit": 0.1, "value": None, "passed": True}
    report.verdict.checks = [LimitCheck.model_validate(check | {"note": "\x08"})]
    suite = ElementTree.fromstring(junit(report))
    assert suite.get("name") == r"speakerguard report s\x1b"
    assert suite[0].get("name") == r"x\x00\x1b"


@pytest.mark.parametrize(
    "words", [["report", "--policy", "\x1b[2J.yaml"], ["leaderboard", "\x1b[2J"], ["\x1b[2J"]]
)
def test_a_message_quotes_what_was_given_without_its_escape_codes(words: list[str]) -> None:
    line = [sys.executable, "-m", "speakerguard", *words]
    ran = subprocess.run(line, capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert r"\x1b[2J" in ran.stderr
    assert "\x1b" not in ran.stderr


def test_reports_that_met_other_attackers_say_so() -> None:
    older, newer = made("older", 0.5, 0.5), made("newer", 0.5, 0.5)
    older.provenance.weights = {"adversarial": "1234"}
    assert "made by different versions of this program or of its networks" in table([older, newer])
    notes = compare(older, newer, "older.json").notes
    assert "the attacker differs: adversarial 1234 then, without networks now" in notes


def test_reports_on_other_claims_are_not_compared() -> None:
    strict = made("strict", 0.5, 0.5)
    strict.threat.point = "fa-0.1%"
    assert "operating point or seed (eer, seed 0; fa-0.1%, seed 0)" in table(
        [strict, made("lax", 0.5, 0.5)]
    )


def test_a_report_that_judged_nothing_has_no_rank() -> None:
    empty = made("silent", 0.5, 0.5)
    for defence in empty.defences:
        defence.run = False
    with pytest.raises(UsageError, match="the report of silent judged nothing"):
        table([made("a", 0.5, 0.5), empty])


def test_what_was_not_measured_is_no_zero() -> None:
    report = made("guard", 0.5, 0.25)
    report.attacks[0].cells = {}
    report.defences[1].worst_accepted = Rate(value=None, low=None, high=None, count=0, cases=0)
    (row,) = table([report]).splitlines()[2:]
    assert row.split(" | ")[3:7] == ["not run"] * 4
    assert row.split(" | ")[-2].startswith("50 (none,")


def test_the_asvspoof_scores_are_of_one_detector() -> None:
    report = made("guard", 0.9, 0.1).model_dump()
    report["defences"][1] |= {"title": "detector", "detects": True}
    pair = {"source": "a", "target": "b", "enrol": [], "line": 0, "source_speaker": "a",
            "target_speaker": "b", "voice": "low voice", "usable": True}  # fmt: skip
    case = {"pair": 0, "attack": 0, "outcome": "judged", "accepted": True, "queries": 0, "crc": 0,
            "scores": {"none": 0.5}, "quality": {}, "peers": {}}  # fmt: skip
    cases = [
        case | {"id": "0.0", "suspicion": {"another": 0.1, "detector": 0.7}},
        case | {"id": "0.1", "suspicion": {"another": 0.2}},
    ]
    lines = asvspoof5_scores(Report.model_validate(report | {"pairs": [pair], "cases": cases}))
    assert [line.split("\t")[2] for line in lines.splitlines()[1:]] == ["-0.7", "-"]


def test_exports_say_what_became_of_each_case() -> None:
    report = made("guard", 0.9, 0.1).model_dump()
    limit = report["threat"]["threshold"]
    report["defences"][1] |= {"title": "detector", "detects": True, "limits": {"b": 0.0}}
    report["attacks"][0]["cells"]["detector"] = report["attacks"][0]["cells"]["opus"]
    pair = {"source": "a", "target": "b", "enrol": [], "line": 0, "source_speaker": "a",
            "target_speaker": "b", "voice": "low voice", "usable": True}  # fmt: skip
    case = {"pair": 0, "attack": 0, "outcome": "judged", "accepted": True, "queries": 0, "crc": 0,
            "scores": {"none": limit, "detector": limit}, "quality": {}, "peers": {},
            "voice": "a"}  # fmt: skip
    cases = [
        case | {"id": "0.0", "suspicion": {"detector": 0.7}},
        case | {"id": "0.1", "suspicion": {"detector": 0.0}},
        case | {"id": "0.2", "outcome": "refused", "scores": {}, "suspicion": {}},
        case | {"id": "1.0", "pair": 1, "suspicion": {"detector": -9.0}},  # no limit for them
    ]
    full = Report.model_validate(
        report | {"pairs": [pair, pair | {"target_speaker": "c"}], "cases": cases}
    )
    rows = list(csv.DictReader(io.StringIO(trials(full))))
    assert [row["accepted detector"] for row in rows] == ["False", "True", "False", ""]
    assert [row["suspicion detector"] for row in rows] == ["0.7", "0.0", "", "-9.0"]
    assert [row["voice"] for row in rows] == ["a"] * 4
    scores = [float(line.split()[2]) for line in sasv(full).splitlines()]
    assert scores == [limit, limit, limit - 1, limit]


def test_reports_on_other_data_are_not_compared() -> None:
    other = copy.deepcopy(made("b", 0.5, 0.5))
    other.provenance.data_sha256 = "elsewhere"
    assert "cannot be compared" in table([made("a", 0.5, 0.5), other])


def test_two_pictures_are_drawn(tmp_path: Path) -> None:
    report = made("guard", 0.9, 0.1)
    for draw in (draw_matrix, draw_curves):
        assert draw(report, tmp_path / "picture.png")
        assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert not draw_curves(report.model_copy(update={"curves": []}), tmp_path / "none.png")
    with pytest.raises(UsageError, match="cannot be written"):
        draw_matrix(report, tmp_path / "picture.png" / "in.png")


def test_a_page_without_sound_is_whole() -> None:
    worst = Worst(case="0.0", score=0.9, margin=0.4, replayed=0.9, command="x", audio={},
                  pictures={})  # fmt: skip
    pair = {"source": "a", "target": "b", "enrol": [], "line": 0, "source_speaker": "a",
            "target_speaker": "b", "voice": "low voice", "usable": True}  # fmt: skip
    report = made("guard", 0.9, 0.1).model_dump() | {"worst": [worst.model_dump()], "pairs": [pair]}
    html = page(Report.model_validate(report))
    assert "<audio" not in html
    assert "run again: the same" in html


class Entry:
    """A command of another package."""

    def __init__(self, name: str, broken: bool) -> None:
        self.name, self.value, self.broken = name, "theirs:command", broken

    def load(self) -> object:
        if self.broken:
            raise ImportError("no module named theirs")

        def command(word: str) -> None:
            print(f"heard {word}")

        return command


def test_any_package_adds_a_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    app = typer.Typer()
    app.command("stays")(lambda: None)
    entries = [Entry("shout", broken=False), Entry("broken", broken=True)]
    monkeypatch.setattr(cli, "app", app)
    monkeypatch.setattr(metadata, "entry_points", lambda group: entries)
    cli._plug_in()
    assert "no command 'broken' (ImportError" in capsys.readouterr().err
    ran = CliRunner().invoke(app, ["shout", "loudly"])
    assert ran.output == "heard loudly\n"
