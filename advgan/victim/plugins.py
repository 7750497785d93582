"""Attacks and defences of any package, found by name and built from a suite's parameters."""

from __future__ import annotations

import difflib
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from pydantic import ValidationError

from speakerguard.errors import ConfigError, SpeakerguardError, UsageError
from speakerguard.settings import explain

GROUP = "speakerguard.attacks"


class NotRunError(SpeakerguardError):
    """An attack or defence cannot run here; the message says why and what would let it."""


@cache
def discover(group: str = GROUP) -> dict[str, Any]:
    """Entry points of a group, by name, sorted.

    Raises:
        UsageError: two packages offer different things of one name.
    """
    found: dict[str, Any] = {}
    for entry in sorted(entry_points(group=group), key=lambda e: e.name):
        if found.setdefault(entry.name, entry).value != entry.value:
            raise UsageError(
                f"two packages call something {entry.name!r} in {group}: "
                f"{found[entry.name].value} and {entry.value}. Rename one, or remove its package."
            )
    return found


def build(name: str, parameters: dict[str, Any], group: str = GROUP) -> Any:
    """The attack (or, of another group, the defence) of this name, with these parameters.

    Raises:
        UsageError: nothing of this name is installed, or it cannot be loaded.
        ConfigError: a parameter is unknown or impossible.

    >>> build("pgd", {"epsilon": 0.002}).title
    'pgd[epsilon=0.002]'
    """
    known = discover(group)
    kind = group.rpartition(".")[2].removesuffix("s")
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"unknown {kind} {name!r}.{hint} Installed: {', '.join(known)}.")
    try:
        program = known[name].load()
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"the {kind} {name!r} ({known[name].value}) cannot be loaded: {error}. Reinstall or "
            "remove the package that offers it."
        ) from None
    try:
        return program(**parameters)
    except ValidationError as error:
        raise ConfigError(explain(f"{kind} {name!r}", program, error, "parameter")) from None
