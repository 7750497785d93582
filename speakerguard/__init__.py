"""speakerguard: verifies speakers by voice, and measures how well that holds up."""

import os
from typing import TYPE_CHECKING, Any

# ONNX Runtime would keep an identity of the device in the home folder and report to its maker.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from speakerguard.verification.verifier import Verifier

__all__ = ["Verifier", "__version__"]


def __getattr__(name: str) -> Any:
    """``Verifier`` and ``__version__``, when first asked for: what they import takes time."""
    if name == "__version__":
        from importlib.metadata import version

        return version("speakerguard")
    if name != "Verifier":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from speakerguard.verification.verifier import Verifier

    return Verifier
