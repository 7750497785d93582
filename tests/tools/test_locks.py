"""The locks hold what pyproject.toml asks for, each file of it by its hash."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from support.tooling import load_tool

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ("requirements.lock", "requirements-torch.lock")


def pins(lock: str) -> dict[str, list[str]]:
    """Versions by name; several where Pythons differ."""
    found: dict[str, list[str]] = {}
    for block in load_tool("install").read(ROOT / lock):
        name, version = re.match(r"([\w.-]+)==([^\s;]+)", block).groups()  # type: ignore[union-attr]
        found.setdefault(re.sub("[-_.]+", "-", name).lower(), []).append(version)
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_every_line_has_hashes(lock: str) -> None:
    blocks = load_tool("install").read(ROOT / lock)
    assert len(blocks) > 10
    for block in blocks:
        first, *rest = block.rstrip("\n").split("\n")
        assert rest, first
        assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line) for line in rest)
        assert all(line.endswith(" \\") for line in (first, *rest[:-1]))


def test_what_is_asked_for_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    locked = pins(LOCKS[0]) | pins(LOCKS[1])
    extras = project["optional-dependencies"]
    for text in [
        *project["dependencies"],
        *(t for e in extras if e != "microphone" for t in extras[e]),
    ]:
        wanted = Requirement(text)
        name = re.sub("[-_.]+", "-", wanted.name).lower()
        if name != "speakerguard":
            assert all(version in wanted.specifier for version in locked[name]), text


def test_torch_and_cuda_are_in_a_lock_of_their_own() -> None:
    both = pins(LOCKS[0]).keys() & pins(LOCKS[1]).keys()
    assert not both
    assert "torch" in pins(LOCKS[1])
    assert not [name for name in pins(LOCKS[0]) if name.startswith(("nvidia", "cuda", "torch"))]
    assert f"torch=={pins(LOCKS[1])['torch'][0]}" == load_tool("install").TORCH


def test_a_build_that_is_known_has_its_hash_in_the_lock() -> None:
    text = (ROOT / LOCKS[1]).read_text("utf-8")
    builds = re.findall("^# build (.*)$", text, re.M)
    assert builds
    assert all(re.fullmatch(r"torch-[\d.]+\+cpu-cp3\d+-.*\.whl", build) for build in builds)
    block = load_tool("lock").add_hashes("torch==1 \\\n    --hash=sha256:a\n", {"x": "b", "y": "a"})
    assert block == "torch==1 \\\n    --hash=sha256:a \\\n    --hash=sha256:b\n"
