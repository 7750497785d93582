"""Dataclasses from JSON: what fits comes back, what does not is named."""

from dataclasses import dataclass
from typing import Any

import pytest

from speakerguard.strict import build


@dataclass(frozen=True)
class Inner:
    share: float
    count: int


@dataclass(frozen=True)
class Outer:
    name: str
    parts: dict[str, Inner]


def test_what_fits_comes_back() -> None:
    data = {"name": "ü", "parts": {"a": {"share": 1, "count": 2}, "b": {"share": 0.5, "count": 0}}}
    made = build(Outer, data)
    assert made == Outer("ü", {"a": Inner(1.0, 2), "b": Inner(0.5, 0)})
    assert type(made.parts["a"].share) is float


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ([], "the file: is not an object"),
        ({"name": "x"}, "parts: is missing"),
        ({"name": "x", "parts": {}, "part": {}}, "part: is an unknown key"),
        ({"name": 1, "parts": {}}, "name: is not text"),
        ({"name": "x", "parts": {"a": None}}, "parts.a: is not an object"),
        ({"name": "x", "parts": {"a": {"share": "1", "count": 1}}}, "parts.a.share: is not a numb"),
        ({"name": "x", "parts": {"a": {"share": True, "count": 1}}}, "share: is not a number"),
        ({"name": "x", "parts": {"a": {"share": 1e999, "count": 1}}}, "share: is not a finite"),
        ({"name": "x", "parts": {"a": {"share": 10**400, "count": 1}}}, "share: is not a number"),
        ({"name": "x", "parts": {"a": {"share": 1.0, "count": 1.0}}}, "count: is not a whole"),
        ({"name": "x", "parts": {"a": {"share": 1.0, "count": True}}}, "count: is not a whole"),
    ],
)
def test_what_does_not_fit_is_named(data: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        build(Outer, data)
