"""``python -m speakerguard``."""

from speakerguard.cli.app import main

main()
