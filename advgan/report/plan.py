"""What a report runs: attacks and defences on pairs of voices, all fixed before it starts."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from advgan.attacks.contract import Attack
from advgan.pairs import Pair
from advgan.report.programs import code_of
from advgan.victim.defences import Defence, defence
from advgan.victim.plugins import build
from speakerguard.errors import UsageError
from speakerguard.files import file_hash
from speakerguard.settings import load_as
from speakerguard.sound.corpus import speaker_of

Named = str | dict[str, dict[str, Any]]


class Entry(BaseModel):
    """One attack of a suite.

    Attributes:
        attack: its name.
        against: title of the defence it adapts to, or ``none``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    attack: str
    against: str = "none"
    parameters: dict[str, Any] = Field(default_factory=dict)

    @cached_property
    def built(self) -> Attack:
        """The attack itself."""
        attack: Attack = build(self.attack, self.parameters)
        return attack

    @property
    def weights(self) -> str:
        """The network it attacks with, of its own; empty for none."""
        return str(getattr(self.built, "weights", ""))

    @property
    def title(self) -> str:
        """What tells it from the suite's other attacks."""
        return self.built.title + (f" through {self.against}" if self.against != "none" else "")


class Suite(BaseModel):
    """A file such as ``suites/smoke.yaml``: controls, attacks and defences.

    Attributes:
        pairs: most pairs used; of a longer list, so many evenly spread.
        seconds: most speech used of each source and target.
        worst: worst cases shown with audio and pictures.
        replicates: of the bootstrap behind each interval.
        peers: models that judge every attack without having been its aim.
        flagged: share of honest users a detecting defence may flag; sets its limit.
        controls, attacks: names, or one-key maps from a name to parameters. The parameter
            ``against`` names the defences an attack adapts to. Parameters that are lists make
            one attack for each value.
        defences: likewise.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    pairs: int = Field(default=8, ge=1)
    seconds: float = Field(default=4.0, ge=1, le=60)
    worst: int = Field(default=6, ge=0, le=50)
    replicates: int = Field(default=500, ge=0)
    peers: tuple[str, ...] = ()
    flagged: float = Field(default=0.02, gt=0, lt=1)
    controls: tuple[Named, ...] = ("genuine", "zero-effort", "unconverted")
    attacks: tuple[Named, ...] = ()
    defences: tuple[Named, ...] = ()

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """All attacks, controls first."""
        entries = [entry for named in (*self.controls, *self.attacks) for entry in _expand(named)]
        titles = [entry.title for entry in entries]
        if twice := {title for title in titles if titles.count(title) > 1}:
            raise UsageError(f"the suite names {sorted(twice)[0]!r} twice. Remove one.")
        known = {built.title: built for built in self.built_defences}
        for entry in entries:
            if entry.against not in ("none", *known):
                raise UsageError(
                    f"{entry.built.title} is to adapt to {entry.against!r}, which is no defence of "
                    f"the suite: {', '.join(['none', *sorted(known)])}."
                )
            if (
                entry.against != "none"
                and known[entry.against].detects
                and (not entry.built.uses_gradient)
            ):
                raise UsageError(
                    f"{entry.built.title} cannot adapt to {entry.against!r}: what that flags is "
                    "known only after the run. Name a defence that does not detect."
                )
        return tuple(entries)

    @cached_property
    def built_defences(self) -> tuple[Defence, ...]:
        """The defences themselves."""
        return tuple(defence(named) for named in self.defences)

    @model_validator(mode="after")
    def _has_genuine(self) -> Self:
        named = {name if isinstance(name, str) else next(iter(name), "") for name in self.controls}
        if not {"genuine", "zero-effort"} <= named:
            raise ValueError("controls must hold genuine and zero-effort: without them no rate "
                             "means anything")  # fmt: skip
        return self


def _expand(named: Named) -> list[Entry]:
    """The entries that one item of a suite stands for."""
    if isinstance(named, str):
        return [Entry(attack=named)]
    if len(named) != 1:
        raise UsageError(f"{named}: a suite names one attack an item.")
    ((name, given),) = named.items()
    parameters = dict(given or {})
    against = parameters.pop("against", "none")
    against = against if isinstance(against, list) else [against]
    choices: list[dict[str, Any]] = [{}]
    for key, value in parameters.items():
        values = value if isinstance(value, list) else [value]
        choices = [choice | {key: one} for choice in choices for one in values]
    return [
        Entry(attack=name, against=title, parameters=choice)
        for title in against
        for choice in choices
    ]


def load_suite(name: str) -> tuple[Suite, str]:
    """A shipped suite by name, or one in a file; and the SHA-256 of its text.

    Raises:
        ConfigError: a key or value is wrong.
        UsageError: no such suite; an attack or defence in it is unknown.
    """
    shipped = Path(str(files("advgan.report") / "suites"))
    path = Path(name)
    if not path.suffix:
        path = shipped / f"{name}.yaml"
        if not path.is_file():
            known = ", ".join(sorted(p.stem for p in shipped.glob("*.yaml")))
            raise UsageError(f"no suite {name!r}; there are {known}, or give a YAML file.")
    suite = load_as(path, Suite)
    _ = suite.entries
    return suite, file_hash(path)


@dataclass(frozen=True)
class Origin:
    """Where a plan comes from: SHA-256 of its suite, what its data are called, pairs listed."""

    suite_sha256: str
    data: str
    listed: int


@dataclass(frozen=True)
class Plan:
    """Everything a report depends on; the same plan gives the same report.

    Attributes:
        model: name or folder, as for ``--model``; point: operating point, None for the default.
        root: the folder of the pairs' recordings, train: of speech to train on.
    """

    suite_name: str
    suite: Suite
    model: str
    point: str | None
    root: Path
    pairs: tuple[Pair, ...]
    seed: int
    train: Path | None

    def bystanders(self, index: int) -> Iterator[str]:
        """Recordings by neither source nor target of a pair, the sources of other pairs."""
        pair = self.pairs[index]
        own = {speaker_of(pair.source), speaker_of(pair.target)}
        for step in range(1, len(self.pairs)):
            other = self.pairs[(index + step) % len(self.pairs)].source
            if speaker_of(other) not in own:
                yield other

    def digest(self, fingerprint: str, code: str, weights: Mapping[str, str]) -> str:
        """Changes with anything that could change a result of every attack: 16 hex digits.

        Args:
            fingerprint: of guard and peers, and what they decide by; code: of the program that
                judges.
            weights: of the networks in use, by name.
        """
        content = hashlib.sha256()
        own = {entry.weights for entry in self.suite.entries}
        shared = sorted((name, of) for name, of in weights.items() if name not in own)
        judging = self.suite.model_dump_json(include={"seconds", "peers", "defences"})
        for part in (judging, self.point, self.seed, fingerprint, code, shared):
            content.update(f"{part}\n".encode())
        for built in self.suite.built_defences:
            for program in built.programs:
                content.update(code_of([program.__module__]).encode())
        for pair in self.pairs:
            content.update(repr(asdict(pair)).encode())
        content.update(self.data_hash().encode())
        if self.train is not None and self.train.is_dir():
            for path in sorted(p for p in self.train.rglob("*") if p.is_file()):
                name = path.relative_to(self.train).as_posix()
                content.update(os.fsencode(f"{name} {path.stat().st_size}\n"))
        return content.hexdigest()[:16]

    def keys(self, weights: Mapping[str, str]) -> list[str]:
        """For each attack what changes with its parameters, program or weights: 16 hex digits."""
        keys = []
        for entry in self.suite.entries:
            content = hashlib.sha256(entry.model_dump_json().encode())
            content.update(weights.get(entry.weights, "").encode())
            content.update(code_of([type(entry.built).__module__]).encode())
            keys.append(content.hexdigest()[:16])
        return keys

    def modules(self) -> set[str]:
        """Where its attacks and defences are written."""
        defences = (p for built in self.suite.built_defences for p in built.programs)
        attacks = (type(entry.built) for entry in self.suite.entries)
        return {program.__module__ for program in (*attacks, *defences)}

    def data_hash(self) -> str:
        """SHA-256 over all recordings of the pairs, in order."""
        content = hashlib.sha256()
        for name in sorted({name for pair in self.pairs for name in pair.files}):
            content.update(os.fsencode(name))
            content.update(hashlib.sha256((self.root / name).read_bytes()).digest())
        return content.hexdigest()
