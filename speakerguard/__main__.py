"""``python -m speakerguard``."""

from speakerguard.cli import main

main()
