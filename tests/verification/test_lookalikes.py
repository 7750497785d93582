"""Names that look the same, and names that do not."""

import pytest

from speakerguard.verification.lookalikes import look_alike


@pytest.mark.parametrize(
    "other",
    [
        *("ALICE", "Alice", "\u0430lice", "\u0391LICE", "\uff41\uff4c\uff49\uff43\uff45"),
        *("a1ice", "\u03b1l\u0456\u0441\u0435", "al\u0131ce"),
    ],
)
def test_what_the_eye_takes_for_another_is_found(other: str) -> None:
    assert look_alike(other, ["bob", "alice"]) == ["alice"]
    assert look_alike("alice", [other]) == [other]


@pytest.mark.parametrize(
    "other", ["alice", "alicia", "al ice", "alise", "Элис", "أليس", "小明", "malice"]
)
def test_what_is_different_or_the_same_is_not(other: str) -> None:
    assert look_alike(other, ["alice"]) == []


def test_spaces_and_joiners_are_not_seen() -> None:
    assert look_alike("Ann  Lee", ["Ann\u3000Lee"]) == ["Ann\u3000Lee"]
