"""Attacks are found by entry point, and told apart by their parameters."""

import importlib
import re
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from advgan.attacks.contract import Attack, Budget, Family
from advgan.pairs import Pair
from advgan.report.bench import Bench
from advgan.report.plan import Plan, Suite
from advgan.victim import plugins
from advgan.victim.claim import Guard, Knowledge
from advgan.victim.defences import GROUP, defence
from advgan.victim.pcm import to_pcm
from advgan.victim.plugins import build, discover
from speakerguard.errors import ConfigError, UsageError
from speakerguard.sound.audio import Waveform


class Shout(Attack):
    """What a third party writes: a class."""

    name: ClassVar[str] = "shout"
    family: ClassVar[Family] = "physical"
    knowledge: ClassVar[Knowledge] = Knowledge.NOTHING
    gain: float = 2.0

    def run(self, source: Waveform, target: Waveform, guard: Guard) -> Waveform:
        return np.clip(self.gain * source, -1, 1)


class Rogue(Attack):
    """What a third party writes who takes no care."""

    name: ClassVar[str] = "rogue"
    family: ClassVar[Family] = "physical"
    knowledge: ClassVar[Knowledge] = Knowledge.DECISIONS
    does: str

    @property
    def budget(self) -> Budget:
        return Budget(epsilon=0.001, queries=2)

    def run(self, source: Waveform, target: Waveform, guard: Guard) -> Waveform:
        made = source + np.float32(0.001 if self.does == "right" else 0.002)
        if self.does == "writes":
            source[:], target[:], guard.profile[:] = 0, 0, 0
            made = source
        elif self.does == "scores":
            guard.score(source)
        elif self.does == "gradients":
            guard.similarity(torch.from_numpy(source)[None])
        elif self.does == "asks":
            made = source if [guard.accepts(source) for _ in range(3)] else made
        return np.full_like(made, np.nan) if self.does == "nan" else (
            to_pcm(source) if self.does == "integers" else made  # type: ignore[return-value]
        )  # fmt: skip


class Entry:
    """Stands for the line in a third party's pyproject.toml."""

    def __init__(self, attack: type[Attack] = Shout, package: str = "their_package") -> None:
        self.attack, self.name, self.value = attack, attack.name, f"{package}:{attack.__name__}"

    def load(self) -> type[Attack]:
        return self.attack


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    shipped = list(entry_points(group=plugins.GROUP))
    listed = [*shipped, Entry(), Entry(), Entry(Rogue)]  # one is installed twice
    monkeypatch.setattr(plugins, "entry_points", lambda group: listed)
    discover.cache_clear()
    yield
    discover.cache_clear()


@pytest.fixture
def bench(theirs: None, tiny_model: Path, speech: dict[str, list[Path]]) -> Bench:
    own, other = list(speech.values())[:2]
    root = own[0].parents[1]
    files = [path.relative_to(root).as_posix() for path in (other[0], own[0], own[1])]
    deeds = ("right", "writes", "nan", "integers", "too much", "scores", "gradients", "asks")
    suite = Suite(attacks=({"rogue": {"does": list(deeds)}}, "replay"), seconds=3)
    pair = Pair(files[0], files[1], (files[2],))
    return Bench(Plan("x", suite, str(tiny_model), None, root, (pair,), 0, None))


@pytest.mark.parametrize(
    ("does", "outcome", "message"),
    [
        ("right", "judged", ""),
        ("nan", "failed", "gave float32 of shape .* or values that are not finite"),
        ("integers", "failed", r"rogue\[does=integers\] gave int16"),
        ("too much", "failed", r"changed a sample by 0.002\d*, but its budget is 0.001"),
        ("scores", "failed", "asks for scores of the guard, but says that it knows decisions"),
        ("gradients", "failed", "asks for weights of the guard, but says"),
        ("asks", "failed", "put 3 questions, but its budget is 2"),
    ],
)
def test_an_attack_keeps_to_what_it_says_of_itself(
    bench: Bench, does: str, outcome: str, message: str
) -> None:
    titles = [entry.title for entry in bench.plan.suite.entries]
    row = bench.case(0, titles.index(f"rogue[does={does}]"))
    assert row.outcome == outcome
    assert re.search(message, row.message)


def test_an_attack_that_writes_into_its_input_harms_no_other(bench: Bench) -> None:
    titles = [entry.title for entry in bench.plan.suite.entries]
    replay = titles.index("replay")
    before = bench.case(0, replay)
    bench.case(0, titles.index("rogue[does=writes]"))
    after = bench.case(0, replay)
    assert (after.crc, after.scores) == (before.crc, before.scores)


def test_two_things_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = [Entry(), Entry(package="another")]
    monkeypatch.setattr(plugins, "entry_points", lambda group: listed)
    discover.cache_clear()
    with pytest.raises(UsageError, match="two packages call something 'shout'"):
        build("shout", {})
    discover.cache_clear()


def test_every_shipped_attack_and_defence_can_be_made() -> None:
    discover.cache_clear()
    needed: dict[str, object] = {"epsilon": 0.002}
    for name in discover():
        given: dict[str, object] = needed if name in {"fgsm", "pgd", "margin", "universal"} else {}
        attack = build(name, given)
        assert attack.name == name
        assert attack.__doc__
    for name in discover(GROUP):
        given = {"parts": ["opus", "median"]} if name == "combined" else {}
        assert defence({name: given}).name == name


@pytest.mark.usefixtures("theirs")
def test_a_third_party_adds_an_attack_with_a_class_and_a_line() -> None:
    attack = build("shout", {"gain": 3.0})
    assert attack.title == "shout[gain=3]"


def test_an_unknown_attack_names_the_nearest() -> None:
    discover.cache_clear()
    with pytest.raises(UsageError, match=r"unknown attack 'pdg'\. Did you mean 'pgd'\?"):
        build("pdg", {})
    with pytest.raises(UsageError, match=r"unknown defence 'opsu'.*'opus'"):
        defence("opsu")


def test_a_wrong_parameter_is_named() -> None:
    with pytest.raises(ConfigError, match="attack 'pgd': unknown parameter 'epsilom'; did you"):
        build("pgd", {"epsilom": 0.002})
    with pytest.raises(ConfigError, match="give epsilon or snr, one of them"):
        build("pgd", {"epsilon": 0.002, "snr": 30})
    with pytest.raises(ConfigError, match="bits"):
        defence({"quantise": {"bits": 40}})


def test_a_package_that_cannot_be_loaded_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Entry):
        def load(self) -> type[Attack]:
            raise ImportError("no module named theirs")

    monkeypatch.setattr(plugins, "entry_points", lambda group: [Broken()])
    discover.cache_clear()
    with pytest.raises(UsageError, match=r"their_package:Shout.*cannot be loaded: no module"):
        build("shout", {})
    discover.cache_clear()


def test_who_writes_an_attack_finds_all_of_it_in_one_place() -> None:
    door = importlib.import_module("advgan.attacks.contract")
    assert {"Attack", "Knowledge", "NotRunError", "build", "discover"} <= set(door.__all__)
    assert (door.NotRunError, door.Knowledge) == (plugins.NotRunError, Knowledge)
    assert all(hasattr(door, name) for name in door.__all__)
