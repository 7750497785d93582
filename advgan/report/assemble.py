"""Puts a report together: figures, worst cases with sound and pictures, and where all came from."""

from __future__ import annotations

import base64
import contextlib
import io
import platform
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import soundfile

from advgan.judging.judge import DISCRIMINATOR
from advgan.networks import checkpoint
from advgan.networks.checkpoint import VOCODER
from advgan.report import analysis
from advgan.report.bench import Bench, CaseResult, peer_present
from advgan.report.plan import Origin, Plan
from advgan.report.policy import Policy, verdict
from advgan.report.schema import (
    AttackSummary,
    Problem,
    Report,
    RunProvenance,
    Threat,
    Timing,
    Worst,
)
from advgan.report.tally import Tally
from advgan.victim.pcm import to_pcm
from speakerguard.errors import CheckpointError, SpeakerguardError
from speakerguard.evaluation.trials import read_trials
from speakerguard.files import file_hash
from speakerguard.sound.audio import SAMPLE_RATE, Waveform
from speakerguard.sound.corpus import find_utterances, speaker_of
from speakerguard.verification.verifier import Verifier

PACKAGES = ("numpy", "onnxruntime", "scipy", "soundfile", "torch")
LIMITS = (
    "An attack that fails here may succeed with more budget, another seed, or better weights: "
    "these figures bound the guard's strength from above, never from below.",
    "Attackers with gradients know everything of the guard. That is the worst case, not the usual.",
    "Replay is simulated. A real loudspeaker and room may be easier or harder on the guard.",
    "Gradients pass through what speech detection keeps; they do not steer what it keeps.",
    "SNR, log-spectral distance and STOI compare with the attacker's own speech. They say how "
    "much was changed, not whether a person would notice.",
    "Where the data does not state a speaker's sex, the pitch of the voice stands in.",
    "Use it on guards you are responsible for and on voices whose owners agreed. The audio in "
    "here imitates real people: keep the page where their recordings may be kept.",
)


@dataclass(frozen=True)
class Run:
    """What a command knows of a run that is finished; ``media`` is whether voices are kept.

    ``code`` is :func:`advgan.report.programs.code_of` all that made it, ``weights`` are
    :func:`attacker_weights`, both as it began.
    """

    plan: Plan
    origin: Origin
    rows: Sequence[CaseResult]
    policy: Policy
    policy_name: str
    policy_sha256: str
    code: str
    weights: dict[str, str]
    command: str
    started: str
    workers: int
    media: bool = True


def assemble(run: Run) -> Report:
    """The whole report of a finished run."""
    plan = run.plan
    checks = [row for row in run.rows if row.attack < 0]
    rows = [row for row in run.rows if row.attack >= 0]
    bench = Bench(plan)
    calibration = bench.verifier.calibration
    point = calibration.point(plan.point)
    tally = Tally(plan, rows, point.threshold)
    others = {p.name: p.threshold for p in calibration.points.values() if p.name != point.name}
    peers, absent = _peer_thresholds(plan, point.name)
    attacks = analysis.attack_summaries(tally, others, peers)
    defences = analysis.defence_summaries(tally, attacks)
    idle = [
        Problem(kind="not-run", where=f"defence {d.title}", message=d.reason, cases=len(rows))
        for d in defences
        if not d.run
    ]
    scores = analysis.populations(tally)
    edges, histograms = analysis.histograms(scores)
    pairs = analysis.pair_infos(plan, checks)
    return Report(
        verdict=verdict(
            run.policy,
            run.policy_name,
            run.policy_sha256,
            point.name,
            attacks,
            defences,
            analysis.unusable(checks),
        ),
        threat=_threat(bench, attacks),
        attacks=attacks,
        defences=defences,
        edges=edges,
        histograms=histograms,
        det=analysis.det_lines(scores),
        curves=analysis.curves(attacks),
        groups=analysis.groups(tally, pairs),
        worst=_worst(bench, tally, run.command, run.media),
        pairs=pairs,
        cases=analysis.case_list(tally),
        problems=[*analysis.problems(plan, checks, rows), *idle, *absent],
        limits=list(LIMITS),
        provenance=_provenance(run, bench),
        timing=Timing(
            started=run.started,
            seconds=round(sum(row.took for row in run.rows), 1),
            workers=run.workers,
            case_seconds=_seconds(plan, rows),
        ),
    )


def _threat(bench: Bench, attacks: Sequence[AttackSummary]) -> Threat:
    """What the attackers were given, and where the threshold came from."""
    plan, calibration = bench.plan, bench.verifier.calibration
    point, origin = calibration.point(plan.point), calibration.provenance
    return Threat(
        model=bench.verifier.model,
        fingerprint=bench.verifier.fingerprint,
        point=point.name,
        threshold=point.threshold,
        threshold_from=(
            f"{origin.trials}: {origin.targets} target and {origin.nontargets} non-target "
            f"trials of {origin.speakers} speakers, {origin.created}; no attack was seen"
        ),
        points={p.name: p.threshold for p in calibration.points.values()},
        unit=bench.verifier.scoring.unit,
        knowledge=_knowledge(attacks),
        epsilon=sorted({a.budget["epsilon"] for a in attacks if "epsilon" in a.budget}),
        queries=sorted({int(a.budget["queries"]) for a in attacks if "queries" in a.budget}),
        target_seconds=plan.suite.seconds,
        seen="one recording of the target that is not enrolled",
        overlap=_overlap(plan, origin.trials),
    )


def _provenance(run: Run, bench: Bench) -> RunProvenance:
    """What made the report."""
    plan = run.plan
    return RunProvenance(
        version=version("speakerguard"),
        code=run.code,
        weights=run.weights,
        suite=plan.suite_name,
        suite_sha256=run.origin.suite_sha256,
        data=run.origin.data,
        data_sha256=plan.data_hash(),
        pairs_used=len(plan.pairs),
        pairs_listed=run.origin.listed,
        seed=plan.seed,
        machine={
            "system": platform.platform(),
            "processor": platform.machine(),
            "python": platform.python_version(),
            "engine": type(bench.verifier.embedder).__name__,
        },
        packages={name: version(name) for name in PACKAGES},
    )


def attacker_weights(plan: Plan) -> dict[str, str]:
    """Networks that attacks and defences of a plan may use: SHA-256, 16 hex digits, by name."""
    names = {VOCODER, DISCRIMINATOR}
    names |= {entry.weights for entry in plan.suite.entries if entry.weights}
    found = {}
    for name in sorted(names):
        with contextlib.suppress(CheckpointError):
            found[name] = file_hash(checkpoint.resolve("generator", name))[:16]
    return found


def _peer_thresholds(plan: Plan, point: str) -> tuple[dict[str, float], list[Problem]]:
    """Thresholds of the peers that judged, and why others could not."""
    found, absent = {}, []
    for name in plan.suite.peers:
        if name == plan.model:
            continue
        reason = ""
        if not peer_present(name):
            reason = "its weights are not in the cache; `speakerguard embed --model` fetches them"
        else:
            try:
                found[name] = Verifier(name).calibration.point(point).threshold
            except SpeakerguardError as error:
                reason = str(error)
        if reason:
            absent.append(Problem(kind="not-run", where=f"transfer to {name}", message=reason,
                                  cases=len(plan.pairs)))  # fmt: skip
    return found, absent


def _knowledge(attacks: Sequence[AttackSummary]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for summary in attacks:
        if summary.family != "control" and summary.name not in found[summary.knowledge]:
            found[summary.knowledge].append(summary.name)
    return dict(found)


def _overlap(plan: Plan, trials: str) -> str:
    """How many of the report's speakers were in training or calibration, as far as can be seen."""
    mine = {speaker_of(name) for pair in plan.pairs for name in pair.files}
    parts = [f"{len(mine)} speakers here"]
    if plan.train is not None:
        trained = {speaker_of(path.as_posix()) for path in find_utterances(plan.train)}
        parts.append(f"{len(mine & trained)} of them in the training folder {plan.train.name}")
    else:
        parts.append("no training folder beside the data to compare with")
    path = plan.root / trials
    if path.is_file():
        listed = {speaker_of(n) for trial in read_trials(path) for n in (trial.enrol, trial.test)}
        parts.append(f"{len(mine & listed)} of them in {trials}, which set the threshold")
    else:
        parts.append(f"{trials}, which set the threshold, is not here to compare with")
    return "; ".join(parts)


def _worst(bench: Bench, tally: Tally, command: str, media: bool) -> list[Worst]:
    """The attacks that got furthest over the threshold, of each kind and pair in turn."""
    entries = tally.plan.suite.entries
    scored = {
        (row.pair, row.attack): score
        for row in tally.rows
        if entries[row.attack].built.family != "control" and (score := tally.score(row)) is not None
    }
    ranked = [CaseResult(*key) for key in sorted(scored, key=lambda key: (-scored[key], *key))]
    worst = []
    for row in _varied(ranked, tally.plan.suite.worst):
        again = CaseResult(row.pair, row.attack)
        audio = bench.audio(row.pair, row.attack, again)
        profile = bench.guard(row.pair, entries[row.attack]).profile
        clips = {}
        if media:
            clips = dict(zip(("source", "target"), bench.clips(row.pair), strict=True))
            clips["attack"] = audio
        score = scored[row.pair, row.attack]
        worst.append(
            Worst(
                case=row.case,
                score=round(score, 6),
                margin=round(score - tally.threshold, 6),
                replayed=round(bench.model.score(profile, audio), 6),
                command=f"{command} --case {row.case}",
                audio={name: flac(clip) for name, clip in clips.items()},
                pictures={name: spectrogram(clip) for name, clip in clips.items()},
            )
        )
    return sorted(worst, key=lambda found: (-found.score, found.case))


def _varied(ranked: Sequence[CaseResult], count: int) -> list[CaseResult]:
    """The first so many of ``ranked``, but each attack and each pair in its turn."""
    left, chosen = list(ranked), list[CaseResult]()
    attacks: dict[int, int] = defaultdict(int)
    pairs: dict[int, int] = defaultdict(int)
    while left and len(chosen) < count:
        row = min(left, key=lambda row: (attacks[row.attack], pairs[row.pair]))
        left.remove(row)
        chosen.append(row)
        attacks[row.attack] += 1
        pairs[row.pair] += 1
    return chosen


def flac(waveform: Waveform) -> str:
    """``waveform`` as a data URI that browsers play."""
    buffer = io.BytesIO()
    soundfile.write(buffer, to_pcm(waveform), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return "data:audio/flac;base64," + base64.b64encode(buffer.getvalue()).decode()


def spectrogram(waveform: Waveform) -> str:
    """A picture of ``waveform``, 0 to 8 kHz upwards, 70 dB deep, as a data URI."""
    from matplotlib.image import imsave

    frames = np.lib.stride_tricks.sliding_window_view(np.pad(waveform, (0, 512)), 512)[::192]
    power = np.square(np.abs(np.fft.rfft(frames * np.hanning(512), axis=1)))[:, 1:].T
    power = power.reshape(128, 2, -1).mean(axis=1)[::-1]
    level = 10 * np.log10(power + 1e-10)
    buffer = io.BytesIO()
    imsave(
        buffer, level, cmap="magma", vmin=level.max() - 70, vmax=level.max(), format="png",
        metadata={"Software": "speakerguard"},
    )  # fmt: skip
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _seconds(plan: Plan, rows: Sequence[CaseResult]) -> dict[str, float]:
    """Mean seconds of a case, by attack."""
    spent: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        spent[plan.suite.entries[row.attack].title].append(row.took)
    return {title: round(float(np.mean(values)), 3) for title, values in spent.items()}
