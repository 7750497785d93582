"""What a guard must withstand: limits in a YAML file, and whether a report keeps them."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from advgan.attacks.contract import discover
from speakerguard.config import load_as
from speakerguard.errors import ConfigError

Share = Annotated[float, Field(ge=0, le=1)]


class Families(BaseModel):
    """Largest share accepted of any one attack of a family; None for no limit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    conversion: Share | None = None
    gradient: Share | None = None
    query: Share | None = None
    physical: Share | None = None


class Policy(BaseModel):
    """Limits at one operating point, behind one defence.

    Attributes:
        point: operating point; None for the one the report was made at.
        defence: title of the defence in use; ``none`` for the verifier alone.
        judge: whether the ``estimate`` must keep a limit, or its interval's ``upper`` end.
        genuine_rejected: largest share of genuine claims rejected.
        strangers_accepted: largest share of zero-effort claims accepted.
        families: limits for every attack of a kind.
        attacks: limits for single attacks by name or title; they replace their family's.
        not_run: whether a named or limited attack that was not run fails the policy.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    point: str | None = None
    defence: str = "none"
    judge: Literal["estimate", "upper"] = "estimate"
    genuine_rejected: Share | None = None
    strangers_accepted: Share | None = None
    families: Families = Families()
    attacks: dict[str, Share] = Field(default_factory=dict)
    not_run: Literal["pass", "fail"] = "pass"

    def limit(self, name: str, title: str, family: str) -> float | None:
        """The limit for an attack, the most special one first."""
        for key in (title, name):
            if key in self.attacks:
                return self.attacks[key]
        found: float | None = getattr(self.families, family, None)
        return found


def load_policy(path: Path | None) -> Policy:
    """Read a policy; the shipped one for None.

    Raises:
        ConfigError: a key is unknown (the message names the nearest), a value impossible, or an
            attack of that name does not exist.
    """
    path = path or Path(__file__).with_name("policy.yaml")
    policy = load_as(path, Policy)
    known = discover()
    for title in policy.attacks:
        name = title.partition("[")[0]
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"{path}: attacks.{title}: no such attack{hint}")
    return policy
