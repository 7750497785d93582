"""tools/promote.py: in order, once each, and not past what got worse."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from support.tooling import load_tool

from speakerguard.errors import UsageError

promote = load_tool("promote")


def rates(folder: Path, pooled: float) -> None:
    rows = [{"name": "vctk", "eer": 0.5}, {"name": "pooled", "eer": pooled}]
    (folder / "checkpoints" / "m").mkdir(parents=True, exist_ok=True)
    path = folder / "checkpoints" / "m" / promote.FIGURES
    path.write_text(json.dumps({"conditions": {"full": rows}}))


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was run, of three steps of which the second measures."""
    done: list[str] = []
    monkeypatch.setattr(promote, "ROOT", tmp_path)
    monkeypatch.setattr(promote.checkpoint, "fingerprint", lambda _: "abc")
    rates(tmp_path, 0.02)

    def measure() -> None:
        done.append("second")
        rates(tmp_path, 0.021 + 0.01 * len(done))

    steps = [
        promote.Step("first", lambda: done.append("first")),
        promote.Step("second", measure, ("m",)),
        promote.Step("third", lambda: done.append("third")),
    ]
    monkeypatch.setattr(promote, "steps", lambda _: steps)
    return done


def call(monkeypatch: pytest.MonkeyPatch, *arguments: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["promote.py", *arguments])
    promote.main()


def test_it_stops_where_figures_got_worse_and_goes_on_if_told(
    ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=r"m got worse: full, pooled 2\.00 to 4\.10 %"):
        call(monkeypatch)
    assert ran == ["first", "second"]
    call(monkeypatch, "--accept")
    assert ran == ["first", "second", "second", "third"]  # the first was done before
    call(monkeypatch)
    assert ran == ["first", "second", "second", "third"]


def test_some_steps_may_be_chosen(ran: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    call(monkeypatch, "--from", "third")
    call(monkeypatch, "--until", "first")
    assert ran == ["third", "first"]
    with pytest.raises(UsageError, match="no step 'fourth'; --list shows them"):
        call(monkeypatch, "--from", "fourth")


def test_a_command_that_fails_stops_it() -> None:
    with pytest.raises(UsageError, match="the step 'bad' failed"):
        promote.run(promote.Step("bad", (sys.executable, "-c", "raise SystemExit(3)")))


def test_every_program_of_the_steps_is_there() -> None:
    import importlib.util

    for step in promote.steps(Path("run")):
        if not callable(step.command):
            program = step.command[2] if step.command[1] == "-m" else step.command[1]
            known = importlib.util.find_spec(program) if step.command[1] == "-m" else None
            assert known or Path(program).is_file(), step.name
