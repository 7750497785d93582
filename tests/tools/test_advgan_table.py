"""tools/attack_table.py: intervals, what counts as accepted, and a table that goes on."""

import itertools
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from support.tooling import load_tool

from advgan.judging import quality
from advgan.judging.words import Transcript
from advgan.networks import checkpoint
from advgan.networks.generator import Generator, GeneratorConfig
from speakerguard.errors import CheckpointError, OtherGuardError, UsageError
from speakerguard.verification.calibration import OperatingPoint

table = load_tool("attack_table")


def test_a_table_on_real_speech(
    speech: dict[str, list[Path]], tiny_model: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """A generator that gives the target back must be accepted as the target is, and be timed."""
    monkeypatch.setattr(table, "said_in", lambda _: Transcript(("please", "call", "stella"), -1.0))
    monkeypatch.setattr(table, "transcribe", lambda _: Transcript(("please", "call"), -1.0))
    monkeypatch.setattr(quality, "dnsmos", lambda _: {"overall": 3.0, "p808": 3.0})
    encode = Generator.encode
    monkeypatch.setattr(
        Generator, "voice", lambda it, target, *told: encode(it, target)._replace(content=target)
    )
    monkeypatch.setattr(
        Generator, "convert", lambda _, source, voice: voice.content + 0 * voice.voice[0].mean.sum()
    )
    checkpoint.save(
        "generator", Generator(GeneratorConfig(width=4, blocks=1)), tmp_path / "g.safetensors"
    )
    names = list(speech)
    root = speech[names[0]][0].parents[1]
    pairs = [[speech[a][0], speech[b][1], speech[b][2]] for a, b in itertools.pairwise(names)]
    lines = ["\t".join(str(file.relative_to(root)) for file in pair) for pair in pairs[:2]]
    (tmp_path / "pairs.tsv").write_text("\n".join(lines))
    command = ["attack_table", "--root", str(root), "--pairs", str(tmp_path / "pairs.tsv"),
               "--judges", str(tiny_model), "--load", f"again-vc={tmp_path / 'g.safetensors'}",
               "--vocoder", "griffin-lim", "--steps=1", "--out", str(tmp_path / "out")]  # fmt: skip
    monkeypatch.setenv("SPEAKERGUARD_CHECKPOINTS", str(tmp_path))
    monkeypatch.setattr(sys, "argv", command)
    threads = torch.get_num_threads()
    table.main()
    torch.set_num_threads(threads)
    rows = {
        row["key"]: row for row in json.loads((tmp_path / "out/table.json").read_text())["rows"]
    }
    attacks = ["again-vc", "fitted", "perturbed"]
    assert list(rows) == ["zero-effort", "copy", *attacks, "genuine"]
    scores = {key: row["guard"]["mean_score"] for key, row in rows.items()}
    assert scores["again-vc"] == pytest.approx(scores["genuine"], abs=0.05)
    assert scores["copy"] == pytest.approx(scores["zero-effort"], abs=0.1)
    assert rows["copy"]["stoi_to_source"] > 0.8
    assert rows["zero-effort"]["stoi_to_source"] > 0.99
    assert rows["copy"]["real_time"] > 0
    assert rows["copy"]["word_errors"] == pytest.approx(1 / 3)
    assert (rows["copy"]["understood"], rows["copy"]["words"]) == (2, 6)
    assert rows["genuine"]["word_errors"] is None
    printed = capsys.readouterr().out
    assert "| plain AGAIN-VC |" in printed
    assert "| word errors, % |" in printed
    made = sorted((tmp_path / "out").rglob("*.wav"))
    before = [path.stat().st_mtime_ns for path in made]
    table.main()  # everything is there already
    monkeypatch.setattr(sys, "argv", [*command, "--no-words"])
    table.main()  # judged anew, not made anew
    torch.set_num_threads(threads)
    assert [path.stat().st_mtime_ns for path in made] == before
    again = json.loads((tmp_path / "out/table.json").read_text())["rows"]
    assert all(row["word_errors"] is None for row in again)
    assert [row["guard"] for row in again] == [row["guard"] for row in rows.values()]


def test_the_countermeasure_leaves_what_both_accept() -> None:
    """Accepted by voice, real by ear: only the first of four recordings is both."""
    row = table.TableRow("again-vc", "plain", lambda s, _: (s.waveform, 16_000))
    quality = {"dnsmos": 3.0, "stoi_to_source": 1.0, "pitch_correlation": None, "seconds": 1.0}
    records = [
        {"source": f"s{i}/a", "target": f"t{i}/a", "scores": {"guard": score}, "llr": llr,
         "quality": quality, "words": None, "conversion_seconds": 1.0}
        for i, (score, llr) in enumerate([(0.6, 1.0), (0.6, -1.0), (0.2, 1.0), (0.6, None)])
    ]  # fmt: skip
    point = OperatingPoint("fa-1%", 0.5, 0.01, 0.1)
    guard = SimpleNamespace(name="guard", point=point)
    line = table.summarise(row, records, [guard])
    assert line["guard"]["accepted"] == 0.75
    assert line["guard"]["guarded_accepted"] == 0.25
    assert "| by guard with the countermeasure |" in table.describe([line], [guard])
    silent = table.summarise(row, [{**r, "llr": None} for r in records], [guard])
    assert "countermeasure" not in table.describe([silent], [guard])


def test_shipped_weights_of_another_guard_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    """Unless they were asked for by name; damaged ones end it."""
    with table._left_out("adversarial", asked=False):
        raise OtherGuardError("trained against another")
    assert "row 'adversarial' left out: trained against another" in capsys.readouterr().err
    with pytest.raises(OtherGuardError), table._left_out("adversarial", asked=True):
        raise OtherGuardError("trained against another")
    with pytest.raises(CheckpointError), table._left_out("adversarial", asked=False):
        raise CheckpointError("not a whole file")


def test_models_are_named_by_row() -> None:
    named = table.named_models(["again-vc=runs/x", "perturber=a=b"])
    assert named == {"again-vc": "runs/x", "perturber": "a=b"}
    for wrong in ("runs/x", "again-vc=", "nobody=runs/x"):
        with pytest.raises(UsageError, match=r"give ROW=MODEL, where ROW is again-vc or"):
            table.named_models([wrong])
