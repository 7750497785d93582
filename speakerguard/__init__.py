"""speakerguard: verifies speakers by voice, and measures how well that holds up."""

from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from speakerguard.verifier import Verifier

__all__ = ["Verifier", "__version__"]
__version__ = metadata.version("speakerguard")


def __getattr__(name: str) -> Any:
    """``Verifier``, when first asked for: it needs torch, which takes seconds to import."""
    if name != "Verifier":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from speakerguard.verifier import Verifier

    return Verifier
