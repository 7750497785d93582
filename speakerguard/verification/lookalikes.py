"""Names that are different and look the same, or nearly: ALICE, Аlice with a Cyrillic А, ａlice.

A short table in the spirit of Unicode Technical Standard 39: Cyrillic and Greek letters that look
like Latin ones, and two digits.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

_TABLE = str.maketrans(
    # Cyrillic, Greek, what is left; as casefold leaves them, by their capitals where those look so
    "авекмнорстухіјѕԁԛԝһӏг" + "αβεζηικμνορτυχϲϳ" + "ıɑɡ01",
    "abekmhopctyxijsdqwhlr" + "abezhikmnoptyxcj" + "iagol",
)


def skeleton(name: str) -> str:
    """What is left of a name without what the eye may miss.

    >>> skeleton("ALICE") == skeleton("\u0430lice") == skeleton("\uff41lice") == "alice"
    True
    """
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    shown = (sign for sign in plain if unicodedata.category(sign) != "Cf")
    return " ".join("".join(shown).translate(_TABLE).split())


def look_alike(name: str, others: Iterable[str]) -> list[str]:
    """Those of ``others`` that are not ``name``, but look like it."""
    seen = skeleton(name)
    return [other for other in others if other != name and skeleton(other) == seen]
