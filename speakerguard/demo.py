"""``make demo``: enrol a few voices, make true and false claims, show and save what happened.

On whose speech is :mod:`speakerguard.evaluation.demo_set`'s to choose.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from speakerguard.cli.ending import ending
from speakerguard.evaluation.demo_set import ENROL, OUT, Chosen, choose, find_data
from speakerguard.evaluation.plots import plot_claims
from speakerguard.files import replace_file
from speakerguard.verification.verifier import Verifier


@dataclass(frozen=True)
class Claim:
    """One probe against one profile, and what came of it."""

    claimed: str
    speaker: str
    probe: str
    true: bool
    accepted: bool
    score: float
    cosine: float
    llr: float
    threshold: float

    @property
    def right(self) -> bool:
        """Whether the decision is what it should be."""
        return self.accepted == self.true


def enrol(verifier: Verifier, root: Path, chosen: Chosen) -> list[dict[str, Any]]:
    """Enrol everyone."""
    enrolled = []
    width = max(map(len, chosen))
    for speaker, paths in chosen.items():
        enrolment = verifier.enroll(speaker, [root / path for path in paths[:ENROL]], replace=True)
        net = sum(enrolment.profile.net_seconds)
        print(f"  enrolled {speaker:{width}}  {net:5.1f} s of speech, {ENROL} recordings")
        for warning in enrolment.warnings:
            print(f"    warning {warning.code}: {warning.message}")
        warnings = [asdict(warning) for warning in enrolment.warnings]
        enrolled.append({"speaker": speaker, "net_seconds": net, "warnings": warnings})
    return enrolled


def make_claims(verifier: Verifier, root: Path, chosen: Chosen) -> list[Claim]:
    """Let everyone's probe make one true and one false claim."""
    claims = []
    short = _short(chosen)
    width = max(17, *map(len, short.values()))
    print(f"\n  {'claimed voice':{width}}  {'who really spoke':{width}}   score  cosine  decision")
    speakers = list(chosen)
    for index, speaker in enumerate(speakers):
        probe = chosen[speaker][ENROL]
        partner = speakers[index ^ 1] if index ^ 1 < len(speakers) else speakers[0]
        for claimed in (speaker, partner):
            answer = verifier.verify(claimed, root / probe)
            claim = Claim(
                claimed, speaker, probe.as_posix(), claimed == speaker,
                answer.accepted, answer.score, answer.cosine, answer.llr, answer.threshold,
            )  # fmt: skip
            claims.append(claim)
            print(
                f"  {short[claimed]:{width}}  {short[speaker]:{width}}  {claim.score:+.3f}  "
                f"{claim.cosine:+.3f}  "
                f"{'ACCEPT' if claim.accepted else 'reject'}{'' if claim.right else '   <- wrong'}"
            )
    return claims


def _short(names: Iterable[str]) -> dict[str, str]:
    """Each name without the folders above the speaker's, where that leaves them distinct."""
    short = {name: name.rpartition("/")[2] for name in names}
    return short if len(set(short.values())) == len(short) else {name: name for name in short}


def identify(verifier: Verifier, root: Path, chosen: Chosen) -> list[dict[str, Any]]:
    """Ask for a name: once for a voice that is enrolled, once for one that no longer is."""
    answers = []
    speaker = next(iter(chosen))
    probe = chosen[speaker][ENROL]
    for state in ("enrolled", "removed"):
        if state == "removed":
            verifier.store.remove(speaker)
        answer = verifier.identify(root / probe)
        print(f"  {speaker}, {state}: {answer.speaker or 'nobody'}")
        if answer.reason:
            print(f"    {answer.reason}")
        answers.append({"state": state, "probe": probe.as_posix(), **asdict(answer)})
    return answers


def main() -> None:
    """Run the demo from end to end."""
    started = time.monotonic()
    OUT.mkdir(parents=True, exist_ok=True)
    root, said = find_data()
    print(f"speakerguard demo on {said}\n")
    chosen = choose(root)
    for stale in OUT.glob("profiles.db*"):
        stale.unlink()
    verifier = Verifier(store=str(OUT / "profiles.db"))
    point = verifier.calibration.point()
    enrolled = enrol(verifier, root, chosen)
    claims = make_claims(verifier, root, chosen)
    unit = verifier.scoring.unit
    print(f"\n  scores in {unit}; threshold {point.threshold:+.3f} ({point.name})")
    print(f"  model {verifier.fingerprint}")
    print("\n  whose voice is it?")
    answers = identify(verifier, root, chosen)
    true = [claim.accepted for claim in claims if claim.true]
    false = [not claim.accepted for claim in claims if not claim.true]
    seconds = time.monotonic() - started
    print(
        f"\n{sum(true)} of {len(true)} true claims accepted, "
        f"{sum(false)} of {len(false)} false claims rejected, in {seconds:.0f} s"
    )
    record = {
        "data": said, "model": verifier.fingerprint, "operating_point": point.name,
        "threshold": point.threshold, "unit": unit,
        "seconds": seconds, "recordings_enrolled": ENROL,
        "true_claims": len(true), "true_claims_accepted": sum(true),
        "false_claims": len(false), "false_claims_rejected": sum(false),
        "enrolled": enrolled, "claims": [asdict(claim) for claim in claims], "identified": answers,
    }  # fmt: skip
    replace_file(OUT / "claims.json", json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    scores = [(claim.claimed, claim.speaker, claim.score) for claim in claims]
    plot_claims(scores, point.threshold, OUT / "claims.png", unit)
    print(f"saved: {OUT / 'claims.json'}, {OUT / 'claims.png'}, profiles in {verifier.store.path}")
    print('\nnow yours: make enroll SPEAKER=alice AUDIO="a1.wav a2.wav"')
    print("           make verify SPEAKER=alice AUDIO=probe.wav")


if __name__ == "__main__":
    with ending("speakerguard.demo", "nothing of it is kept"):
        main()
