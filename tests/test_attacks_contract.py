"""Attacks are found by entry point, and told apart by their parameters."""

from typing import ClassVar

import numpy as np
import pytest

from advgan.attacks import contract
from advgan.attacks.contract import Attack, Family, Knowledge, build, discover
from advgan.attacks.guard import Guard
from advgan.report.defences import GROUP, defence
from speakerguard.audio import Waveform
from speakerguard.errors import ConfigError, UsageError


class Shout(Attack):
    """What a third party writes: a class."""

    name: ClassVar[str] = "shout"
    family: ClassVar[Family] = "physical"
    knowledge: ClassVar[Knowledge] = Knowledge.NOTHING
    gain: float = 2.0

    def run(self, source: Waveform, target: Waveform, guard: Guard) -> Waveform:
        return np.clip(self.gain * source, -1, 1)


class Entry:
    """Stands for the line in a third party's pyproject.toml."""

    name, value = "shout", "their_package:Shout"

    def load(self) -> type[Attack]:
        return Shout


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contract, "entry_points", lambda group: [Entry()])
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
    discover.cache_clear()


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

    monkeypatch.setattr(contract, "entry_points", lambda group: [Broken()])
    discover.cache_clear()
    with pytest.raises(UsageError, match=r"their_package:Shout.*cannot be loaded: no module"):
        build("shout", {})
    discover.cache_clear()
