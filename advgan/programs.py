"""The attacker's programs, as pip installs them: what they need is imported when they run."""

from __future__ import annotations

from speakerguard.cli.ending import ending


def generate() -> None:
    """``advgan-generate``; see :mod:`advgan.generate`."""
    with ending("advgan-generate"):
        from advgan.generate import main

        main()


def infer() -> None:
    """``advgan-infer``; see :mod:`advgan.infer`."""
    with ending("advgan-infer"):
        from advgan.infer import main

        main()


def train() -> None:
    """``advgan-train``; see :mod:`advgan.train`."""
    with ending("advgan-train"):
        from advgan.train import main

        main()
