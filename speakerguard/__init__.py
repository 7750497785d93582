"""speakerguard: verifies speakers by voice, and measures how well that holds up."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from speakerguard.verifier import Verifier

__all__ = ["Verifier", "__version__"]


def __getattr__(name: str) -> Any:
    """``Verifier`` and ``__version__``, when first asked for: what they import takes time."""
    if name == "__version__":
        from importlib.metadata import version

        return version("speakerguard")
    if name != "Verifier":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from speakerguard.verifier import Verifier

    return Verifier
