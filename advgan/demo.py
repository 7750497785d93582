"""The end of ``make demo``: one conversion, and the guard's answer to it.

One of the demo's speakers is converted to the voice of another, who is enrolled from other
recordings than the one that was converted to. Without a shipped generator nothing is converted.
"""

from __future__ import annotations

from advgan.command import one_thread
from advgan.conversion.converter import default_generator
from advgan.conversion.fitting import STEPS
from advgan.conversion.session import Session, Settings
from advgan.infer import OUT, describe
from speakerguard.cli.ending import ending
from speakerguard.errors import CheckpointError, printable
from speakerguard.evaluation.demo_set import choose, find_data


def main() -> None:
    """Convert and ask."""
    try:
        default_generator()
    except CheckpointError as error:
        print(f"\nno attack in this demo: {printable(error)}")
        return
    root, _ = find_data()
    (_, spoken), (_, wanted) = list(choose(root).items())[:2]
    print("\nan attack: one speaker's words in another's voice\n")
    converted = Session(Settings(steps=STEPS)).attack(
        root / spoken[-1], root / wanted[-1], OUT / "demo", enrol=[root / wanted[0]]
    )
    print(describe(converted))


if __name__ == "__main__":
    with ending("advgan.demo", "nothing of it is kept"):
        one_thread()
        main()
