"""Fit the weights of the fused model; write ``members.json``.

    python tools/fuse.py [--members campplus guard-int8 resemblyzer] [--out checkpoints/fused]

Each member scores the trials as it decides, against its strangers; see
:func:`speakerguard.evaluation.fusion.fusion_weights` for what is made of that. ``dev`` counts in
every condition of ``tools/results.py``, ``dev_phones`` at full length and by its first 2 s.
"""

from __future__ import annotations

import argparse
import json
from hashlib import sha256
from pathlib import Path

from pages import ROOT, SPEECH

from results import CONDITIONS, NORMALISED, PHONES, load, scored
from speakerguard.cli.ending import ending
from speakerguard.evaluation.fusion import fusion_weights
from speakerguard.evaluation.trials import read_trials
from speakerguard.files import replace_file
from speakerguard.network.checkpoint import MEMBERS_FILE

MEMBERS = ("campplus", "guard-int8", "resemblyzer")
ON_PHONES = ("full", "first 2 s")
DIGITS = 2


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--members", nargs="+", default=MEMBERS)
    parser.add_argument("--root", type=Path, default=SPEECH)
    parser.add_argument("--out", type=Path, default=ROOT / "checkpoints" / "fused")
    options = parser.parse_args()
    verifiers = [load(name + NORMALISED) for name in options.members]
    lists = [
        (options.root, tuple(CONDITIONS)),
        (options.root.parent / PHONES, ON_PHONES),
    ]
    conditions, sources = [], []
    for root, names in lists:
        trials = read_trials(root / "trials.txt")
        digest = sha256((root / "trials.txt").read_bytes()).hexdigest()
        sources.append({"trials": f"{root.name}/trials.txt", "sha256": digest, "in": names})
        for name in names:
            print(f"scoring {root.name}, {name}", flush=True)
            conditions.append([scored(verifier, trials, root, name) for verifier in verifiers])
    weights = [round(float(weight), DIGITS) for weight in fusion_weights(conditions)]
    made = {
        "by": "tools/fuse.py",
        "of": {v.model: v.scoring.fingerprint for v in verifiers},
        "on": sources,
    }
    members = {
        name: weight for name, weight in zip(options.members, weights, strict=True) if weight
    }
    text = json.dumps({"members": members, "made": made}, indent=2)
    replace_file(options.out / MEMBERS_FILE, text + "\n")
    print(members)


if __name__ == "__main__":
    with ending("fuse"):
        main()
