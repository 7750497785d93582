"""The command line, run within the test's own process."""

import sys
from pathlib import Path
from typing import Any

import pytest

from speakerguard.cli import app as cli
from speakerguard.cli import ending


class Ran:
    """What a command answered."""

    def __init__(self, code: Any, out: str, error: str) -> None:
        self.code, self.out, self.error = code, out, error


@pytest.fixture
def run(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Any:  # fmt: skip
    """Runs the command line in this process, in an empty folder, with the tiny model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPEAKERGUARD_CHECKPOINTS", str(tiny_model.parent))
    monkeypatch.setenv("SPEAKERGUARD_STORE", str(tmp_path / "profiles.db"))
    monkeypatch.setattr(ending.signal, "signal", lambda *_: None)

    def call(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["speakerguard", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit:
            cli.main()
        return Ran(exit.value.code, *capsys.readouterr())

    return call
