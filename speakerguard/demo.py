"""``make demo``: enrol a few voices, make true and false claims, show and save what happened.

Speech comes from the first of: the folder ``SPEAKERGUARD_DATA``, the shared corpus's dev split,
a LibriSpeech part under ``data/``, voices made offline by a synthesiser. Speakers are taken in
turn from each source of the data; of each, the longest recordings. Scores play no part in the choice.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import soundfile

from speakerguard.data import find_utterances
from speakerguard.errors import SpeakerguardError, UsageError
from speakerguard.plots import plot_claims
from speakerguard.trials import source_of, speaker_of
from speakerguard.verifier import Verifier

SPEAKERS = 8
ENROL = 3  # recordings a speaker; the next one is the probe
OUT = Path("out/demo")


@dataclass(frozen=True)
class Claim:
    """One probe against one profile, and what came of it."""

    claimed: str
    speaker: str
    probe: str
    true: bool
    accepted: bool
    score: float
    llr: float
    threshold: float

    @property
    def right(self) -> bool:
        """Whether the decision is what it should be."""
        return self.accepted == self.true


def find_data() -> tuple[Path, str]:
    """The folder to take speech from, and a sentence about it."""
    if named := os.environ.get("SPEAKERGUARD_DATA"):
        return Path(named), "the folder that SPEAKERGUARD_DATA names"
    shared = Path("../shared/corpus/dev")
    if shared.is_dir():
        return shared, "real speech from ../shared/corpus/dev"
    for part in sorted(Path("data/LibriSpeech").glob("*-*")):
        if part.is_dir():
            return part, f"real speech from {part}"
    from speakerguard.demo_voices import synthesise

    folder = OUT / "voices"
    synthesise(folder, speakers=SPEAKERS, utterances=ENROL + 1)
    return folder, "synthetic voices, made just now: no real speech was found, so expect less of it"


def choose(root: Path) -> dict[str, list[Path]]:
    """Speakers and their longest recordings, longest first; sources of the data take turns."""
    recordings: dict[str, list[Path]] = defaultdict(list)
    for path in find_utterances(root):
        recordings[speaker_of(path.as_posix())].append(path)
    sources: dict[str, list[str]] = defaultdict(list)
    for speaker, paths in sorted(recordings.items()):
        if len(paths) > ENROL:
            sources[source_of(paths[0].as_posix())].append(speaker)
    chosen: list[str] = []
    while len(chosen) < SPEAKERS and any(sources.values()):
        for waiting in sources.values():
            chosen += waiting[:2]  # two of a kind, to make each other's false claims hard
            del waiting[:2]
    if len(chosen) < 2:
        raise UsageError(
            f"{root}: the demo needs two speakers with {ENROL + 1} recordings each, in folders "
            "named after them."
        )
    chosen = chosen[: SPEAKERS // 2 * 2]
    longest = {s: sorted(recordings[s], key=lambda p: -_seconds(root / p)) for s in chosen}
    return {speaker: paths[: ENROL + 1] for speaker, paths in longest.items()}


def _seconds(path: Path) -> float:
    return float(soundfile.info(path).duration)


def run(verifier: Verifier, root: Path, chosen: dict[str, list[Path]]) -> list[Claim]:
    """Enrol everyone, then let everyone's probe make one true and one false claim."""
    for speaker, paths in chosen.items():
        enrolment = verifier.enroll(speaker, [root / p for p in paths[:ENROL]], replace=True)
        net = sum(enrolment.profile.net_seconds)
        print(f"  enrolled {speaker:45} {net:5.1f} s of speech, {ENROL} recordings")
        for warning in enrolment.warnings:
            print(f"           warning {warning.code}: {warning.message}")
    print("\n  claimed voice                  who really spoke               score    decision")
    claims = []
    speakers = list(chosen)
    for index, speaker in enumerate(speakers):
        probe = root / chosen[speaker][ENROL]
        partner = speakers[index ^ 1] if index ^ 1 < len(speakers) else speakers[0]
        for claimed in (speaker, partner):
            answer = verifier.verify(claimed, probe)
            claim = Claim(
                claimed, speaker, chosen[speaker][ENROL].as_posix(), claimed == speaker,
                answer.accepted, answer.score, answer.llr, answer.threshold,
            )  # fmt: skip
            claims.append(claim)
            decision = "ACCEPT" if claim.accepted else "reject"
            print(
                f"  {_short(claimed):30} {_short(speaker):30} {claim.score:+.3f}   {decision}"
                + ("" if claim.right else "   <- wrong")
            )
    return claims


def _short(name: str) -> str:
    return name if len(name) <= 30 else "…" + name[-29:]


def identify(verifier: Verifier, root: Path, chosen: dict[str, list[Path]]) -> None:
    """Ask for a name: once for a voice that is enrolled, once for one that no longer is."""
    speaker = next(iter(chosen))
    probe = root / chosen[speaker][ENROL]
    for state in ("enrolled", "removed"):
        if state == "removed":
            verifier.store.remove(speaker)
        answer = verifier.identify(probe)
        said = answer.speaker or f"nobody ({answer.reason})"
        print(f"  {_short(speaker)}, {state}: {said}")


def save(claims: Sequence[Claim], about: dict[str, object]) -> None:
    """Write claims.json and claims.png."""
    rows = [asdict(claim) for claim in claims]
    text = json.dumps({**about, "claims": rows}, indent=2, ensure_ascii=False)
    (OUT / "claims.json").write_text(text + "\n", encoding="utf-8")
    scores = [(c.claimed, c.speaker, c.score) for c in claims]
    plot_claims(scores, claims[0].threshold, OUT / "claims.png")


def main() -> None:
    """Run the demo from end to end."""
    started = time.monotonic()
    OUT.mkdir(parents=True, exist_ok=True)
    root, said = find_data()
    print(f"speakerguard demo on {said}\n")
    chosen = choose(root)
    store = OUT / "profiles.db"
    for stale in OUT.glob("profiles.db*"):
        stale.unlink()
    verifier = Verifier(store=str(store))
    claims = run(verifier, root, chosen)
    threshold = claims[0].threshold
    point = verifier.calibration.point()
    print(f"\n  threshold {threshold:+.3f} ({point.name}), model {verifier.fingerprint}")
    print("\n  whose voice is it?")
    identify(verifier, root, chosen)
    true = [claim for claim in claims if claim.true]
    false = [claim for claim in claims if not claim.true]
    print(
        f"\n{sum(c.accepted for c in true)} of {len(true)} true claims accepted, "
        f"{sum(not c.accepted for c in false)} of {len(false)} false claims rejected, "
        f"in {time.monotonic() - started:.0f} s"
    )
    about = {"data": said, "model": verifier.fingerprint, "operating_point": point.name}
    save(claims, {**about, "threshold": threshold})
    print(f"saved: {OUT / 'claims.json'}, {OUT / 'claims.png'}, profiles in {store}")
    print('\nnow yours: make enroll SPEAKER=alice AUDIO="a1.wav a2.wav"')
    print("           make verify SPEAKER=alice AUDIO=probe.wav")


if __name__ == "__main__":
    try:
        main()
    except SpeakerguardError as error:
        print(f"speakerguard: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
