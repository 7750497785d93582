"""Who lacks a package is told which extra brings it, and is told right."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from speakerguard import extras
from speakerguard.errors import UsageError

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))[
    "project"
]
IMPORTED_AS = {"pyyaml": "yaml", "espeakng-loader": "espeakng_loader"}


def brought(extra: str) -> set[str]:
    """Names that an extra's requirements are imported by, as pyproject.toml has them."""
    names: set[str] = set()
    for requirement in PROJECT["optional-dependencies"][extra]:
        if nested := re.match(r"speakerguard\[(.*)\]", requirement):
            names |= set().union(*map(brought, nested[1].split(",")))
        else:
            name = re.split(r"[^\w-]", requirement)[0].lower()
            names.add(IMPORTED_AS.get(name, name))
    return names


@pytest.mark.parametrize("extra", [*extras.PACKAGES])
def test_an_extra_brings_what_is_said_of_it(extra: str) -> None:
    assert set(extras.packages_of(extra)) == brought(extra)


def test_every_extra_is_known_and_part_of_all() -> None:
    listed = set(PROJECT["optional-dependencies"])
    assert listed == {*extras.PACKAGES, "all", "dev", "docs"}
    assert brought("all") >= set().union(*(brought(e) for e in listed - {"all", "microphone"}))
    assert not brought("evaluate") & {"torch", "tensorflow"}


@pytest.mark.parametrize(
    ("package", "command", "extra"),
    [
        ("torch", "report", "attack"),
        ("torch.nn", "advgan-train", "train"),
        ("torch", "", "attack"),
        ("torch", "export", "export"),
        ("scipy.special", "calibrate", "evaluate"),
        ("yaml", "verify", "evaluate"),
        ("pydantic", "train", "train"),
        ("espeakng_loader", "report", "attack"),
        ("sounddevice", "verify", "microphone"),
    ],
)
def test_a_missing_package_names_its_extra(package: str, command: str, extra: str) -> None:
    top = package.partition(".")[0]
    with (
        pytest.raises(UsageError, match=rf"package {top}, .*pip install 'speakerguard\[{extra}\]'"),
        extras.named(command),
    ):
        raise ModuleNotFoundError(name=package)


def test_the_lack_of_a_module_of_our_own_is_a_bug() -> None:
    with pytest.raises(ModuleNotFoundError), extras.named("report"):
        raise ModuleNotFoundError(name="speakerguard.gone")


WITHOUT = """
import sys
class Without:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "scipy", "pydantic", "matplotlib", "yaml"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Without())
sys.argv = sys.argv[1:]
"""
PROGRAMS = {
    "speakerguard": "from speakerguard.cli.app import main",
    **{
        f"advgan-{n}": f"from advgan.programs import {n} as main"
        for n in ("infer", "train", "generate")
    },
}


@pytest.mark.parametrize(
    ("line", "extra"),
    [
        ("speakerguard report --suite smoke", "attack"),
        ("speakerguard leaderboard report.json", "evaluate"),
        ("speakerguard verify --model campplus --engine torch alice a.wav", "attack"),
        ("speakerguard verify --model other.yaml alice a.wav", "evaluate"),
        ("speakerguard verify --engine torch alice a.wav", "attack"),
        ("speakerguard verify --countermeasure discriminator alice a.wav", "attack"),
        ("speakerguard train --config guard.yaml", "train"),
        ("speakerguard voices --corpus a --out b", "train"),
        ("speakerguard export --to onnx", "export"),
        ("speakerguard convert a.h5 b", "tensorflow"),
        ("advgan-infer -s a.wav -t b.wav", "attack"),
        ("advgan-train vc --config a.yaml", "train"),
        ("advgan-generate --corpus a -o b", "attack"),
    ],
)
def test_commands_without_their_packages_end_in_one_line(
    line: str, extra: str, tmp_path: Path
) -> None:
    program = line.split()[0]
    run = f"{WITHOUT}\n{PROGRAMS[program]}\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", run, *line.split()], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert f"pip install 'speakerguard[{extra}]'" in done.stderr
