"""The demo runs from end to end, twice, on whatever speech there is, and saves what it shows."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.clips import Clips, link_clips

from speakerguard import demo
from speakerguard.evaluation import demo_set


@pytest.fixture
def data(speech: Clips, tmp_path: Path) -> Path:
    """The four speakers' clips, in two sources."""
    return link_clips(speech, tmp_path / "data")


def run(folder: Path, model: Path, data: Path | None) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "SPEAKERGUARD_DATA"}
    environment["SPEAKERGUARD_CHECKPOINTS"] = str(model.parent)
    if data:
        environment["SPEAKERGUARD_DATA"] = str(data)
    ran = subprocess.run(
        [sys.executable, "-m", "speakerguard.demo"],
        capture_output=True, text=True, cwd=folder, env=environment,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def numbers(value: Any) -> list[float]:
    """All numbers in what JSON holds."""
    if isinstance(value, dict):
        return numbers(list(value.values()))
    if isinstance(value, list):
        return [number for part in value for number in numbers(part)]
    return [value] if isinstance(value, int | float) else []


def assert_saved(out: str, folder: Path) -> None:
    """Every number that was shown is in claims.json, rounded or within a text there."""
    text = (folder / "out" / "demo" / "claims.json").read_text(encoding="utf-8")
    record = json.loads(text)
    saved = numbers(record)
    shown, _, _ = out.partition("\nnow yours")
    for word in re.findall(r"(?<![\w.-])[-+]?\d+(?:\.\d+)?(?![\w-])", shown):
        places = len(word.partition(".")[2])
        rounded = any(f"{abs(number):.{places}f}" == word.lstrip("+-") for number in saved)
        assert rounded or word in text, word
    for name in ("true", "false"):
        claims = [claim for claim in record["claims"] if claim["true"] is (name == "true")]
        assert len(claims) == record[f"{name}_claims"]
    for claim in record["claims"]:
        assert claim["accepted"] is (claim["score"] >= claim["threshold"])
    assert out.count("ACCEPT") == sum(claim["accepted"] for claim in record["claims"])
    assert out.count("<- wrong") == sum(c["accepted"] != c["true"] for c in record["claims"])
    assert (folder / "out" / "demo" / "claims.png").read_bytes().startswith(b"\x89PNG")


def test_the_demo_runs_twice_and_saves_what_it_shows(tiny_model: Path, data: Path) -> None:
    folder = data.parent
    outs = [run(folder, tiny_model, data) for _ in range(2)]
    for out in outs:
        assert str(data) in out
        assert len(re.findall(r"^  enrolled ", out, re.M)) == 4
    lines = [[line for line in out.splitlines() if " s" not in line] for out in outs]
    assert lines[0] == lines[1]
    assert_saved(outs[1], folder)


def test_without_data_the_voices_are_synthetic(tiny_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader")
    inner = tmp_path / "repository"
    inner.mkdir()
    out = run(inner, tiny_model, None)
    assert "synthetic voices" in out
    assert len(re.findall(r"^  enrolled ", out, re.M)) == demo_set.SPEAKERS
    assert_saved(out, inner)


def test_names_are_short_where_that_leaves_them_distinct() -> None:
    assert demo._short(["a/p1", "b/p2"]) == {"a/p1": "p1", "b/p2": "p2"}
    assert demo._short(["a/p1", "b/p1"]) == {"a/p1": "a/p1", "b/p1": "b/p1"}
