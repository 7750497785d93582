"""The commands."""

from typing import NoReturn


def main() -> NoReturn:
    """Entry point of ``speakerguard``."""
    from speakerguard.cli.app import main as run

    run()
