"""One guard from several of one training: the weighted mean of their weights.

    python tools/average.py runs/guard-lessons=2 runs/guard-earlier=1 --out runs/guard-mean

Networks that were trained on from common weights lie in one valley of the loss, where their mean
often errs less than each (Wortsman et al., Model soups, ICML 2022, arXiv 2203.05482). Try the mean
on ``dev`` by ``speakerguard evaluate --model ./runs/guard-mean`` before shipping it.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from speakerguard.cli.ending import ending
from speakerguard.errors import UsageError
from speakerguard.network import checkpoint
from speakerguard.network.model import SpeakerEncoder


def main() -> None:
    """Average what the command line names, and save it in half precision, as training does."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="+", metavar="FOLDER=WEIGHT")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    with ending("average"):
        encoder = average([part(text) for text in options.parts])
        options.out.mkdir(parents=True, exist_ok=True)
        print(checkpoint.save(encoder, options.out / checkpoint.MODEL_FILE, half=True))


def part(text: str) -> tuple[SpeakerEncoder, float]:
    """A guard and its share, from ``FOLDER=WEIGHT``.

    Raises:
        UsageError: no positive, finite weight.
        CheckpointError: no such guard.
    """
    folder, _, weight = text.rpartition("=")
    try:
        share = float(weight)
    except ValueError:
        share = 0.0
    if not (folder and 0 < share < math.inf):
        raise UsageError(f"{text}: give FOLDER=WEIGHT, the weight a number above 0.")
    return checkpoint.load(checkpoint.resolve(Path(folder)))[0], share


def average(parts: list[tuple[SpeakerEncoder, float]]) -> SpeakerEncoder:
    """The first network, given the mean weights of all; counters stay as they are.

    Raises:
        UsageError: networks of different configurations.
    """
    encoder = parts[0][0]
    if any(other.config != encoder.config for other, _ in parts):
        raise UsageError("these networks differ in their configuration; they have no mean.")
    total = sum(share for _, share in parts)
    states = [(other.state_dict(), share / total) for other, share in parts]
    mean = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    for name, tensor in mean.items():
        if tensor.is_floating_point():
            tensor.zero_()
            for state, share in states:
                tensor += state[name] * share
    encoder.load_state_dict(mean)
    return encoder


if __name__ == "__main__":
    main()
