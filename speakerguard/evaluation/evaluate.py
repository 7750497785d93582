"""From a trial list to scores, and from scores to the figures a reviewer asks for."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from speakerguard.errors import AudioError, SpeakerguardError, TrialError, UsageError
from speakerguard.evaluation.babble import Babble
from speakerguard.evaluation.bootstrap import Interval, speaker_bootstrap
from speakerguard.evaluation.metrics import det_curve
from speakerguard.evaluation.trials import Models, ScoreTable, Trial, check_files
from speakerguard.sound.audio import Reading
from speakerguard.sound.corpus import source_of, speaker_of
from speakerguard.sound.speech import Speech, load_speech
from speakerguard.verification.profile import centroid

if TYPE_CHECKING:
    from speakerguard.embedders.contract import Embedding
    from speakerguard.verification.verifier import Verifier

CHUNK = 64  # recordings read before they are embedded together


@dataclass
class LeftOut:
    """What an evaluation does without: recordings that cannot be used and why, and their trials."""

    recordings: dict[str, SpeakerguardError] = field(default_factory=dict)
    trials: list[Trial] = field(default_factory=list)


def embed_files(
    verifier: Verifier,
    files: Collection[tuple[str, Path | Reading]],
    seconds: float | None = None,
    progress: Callable[[int], None] | None = None,
    load: Callable[[str], Speech] | None = None,
    left_out: LeftOut | None = None,
) -> dict[str, Embedding]:
    """Embedding of each named file, each read once; ``seconds`` keeps only the first speech.

    Args:
        progress: called with the number of files done.
        load: gives a file's speech by its name, such as with babble behind it.
        left_out: takes the recordings that cannot be used; without it they are an error.

    Raises:
        AudioError: recordings cannot be used, and must not be left out or are all there are; the
            message names each.
        UsageError: likewise, and some cannot even be read.
    """
    embeddings: dict[str, Embedding] = {}
    waiting: list[tuple[str, Speech]] = []
    refused: dict[str, SpeakerguardError] = {}

    def flush() -> None:
        done = verifier.embed_speech([speech for _, speech in waiting])
        embeddings.update(zip((name for name, _ in waiting), done, strict=True))
        waiting.clear()
        if progress:
            progress(len(embeddings) + len(refused))

    for name, path in files:
        try:
            speech = load(name) if load else load_speech(path)
            if seconds is not None:
                speech = speech.first(seconds)
            verifier.check_length(speech)
        except (AudioError, UsageError) as error:
            refused[name] = error
        else:
            waiting.append((name, speech))
        if refused and left_out is None:
            waiting.clear()  # nothing comes of it, but the others that are bad are worth knowing
        if len(waiting) >= CHUNK:
            flush()
    if refused and (left_out is None or len(refused) == len(files)):
        raise _unusable(list(refused.values()), len(files))
    if left_out is not None:
        left_out.recordings |= refused
    if waiting:
        flush()
    return embeddings


def _unusable(errors: Sequence[SpeakerguardError], count: int) -> SpeakerguardError:
    """One error for all recordings that cannot be used."""
    kind = next((UsageError for error in errors if isinstance(error, UsageError)), AudioError)
    if count == 1:
        return errors[0]
    advice = "Leave them out, or let --unusable skip do so"
    if len(errors) == count:
        advice = "That is all of them"
    reasons = "\n  ".join(map(str, errors))
    return kind(f"{len(errors)} of {count} recordings cannot be used. {advice}:\n  {reasons}")


def score_trials(
    verifier: Verifier,
    trials: Sequence[Trial],
    root: Path,
    seconds: float | None = None,
    progress: Callable[[int], None] | None = None,
    babble: float | None = None,
    models: Models | None = None,
    left_out: LeftOut | None = None,
    told: Callable[[Path], Path | Reading] | None = None,
) -> ScoreTable:
    """The verifier's score of every trial, such as the cosine; each file is embedded once.

    Args:
        seconds: keep only the first speech of every file.
        progress: called with the number of files done.
        babble: dB by which each *test* recording stands above four other talkers; enrolment
            stays as it was recorded.
        models: the recordings of enrolled models, whose mean embedding counts, as in a profile.
        left_out: takes recordings that cannot be used, and the trials whose test or whole
            enrolment they are; without it they are an error.
        told: makes of each file a recording that is read as it should be.

    Raises:
        TrialError: a file is missing, and must not be left out; the message names the trial's
            line. Or no trial is left.
        AudioError, UsageError: as :func:`embed_files`.
    """
    models = models or {}
    found = check_files(trials, root, models, None if left_out is None else left_out.recordings)
    files = {name: told(path) if told else path for name, path in found.items()}
    embeddings = embed_files(verifier, files.items(), seconds, progress, None, left_out)
    probes = embeddings
    if babble is not None:
        usable = {name: files[name] for name in embeddings}
        tests = {trial.test: files[trial.test] for trial in trials if trial.test in embeddings}
        more = progress and (lambda done: progress(len(files) + done))
        behind = Babble(usable, babble)
        probes = embed_files(verifier, tests.items(), seconds, more, behind, left_out)
    voices = {}
    for enrol in {trial.enrol for trial in trials}:
        rows = [embeddings[n] for n in models.get(enrol, (enrol,)) if n in embeddings]
        if rows:
            voices[enrol] = centroid(np.stack(rows)) if len(rows) > 1 else rows[0]
    kept = [trial for trial in trials if trial.enrol in voices and trial.test in probes]
    if not kept:
        raise TrialError("no trial is left whose recordings can both be used. Check the list.")
    if left_out is not None and len(kept) < len(trials):
        left_out.trials += [t for t in trials if t.enrol not in voices or t.test not in probes]
    return ScoreTable(
        labels=np.array([trial.label for trial in kept]),
        scores=verifier.compare(
            np.stack([voices[trial.enrol] for trial in kept]),
            np.stack([probes[trial.test] for trial in kept]),
        ),
        enrol=[trial.enrol for trial in kept],
        test=[trial.test for trial in kept],
    )


@dataclass(frozen=True)
class Result:
    """Figures of one set of trials. Rates are in [0, 1]; NaN where they cannot be had.

    Attributes:
        name: the source of the trials, ``pooled``, or ``mean`` over sources.
        eer, eer_low, eer_high: equal error rate and its 95 % interval over speakers.
        threshold: where the two rates meet.
        min_dcf_01, min_dcf_05: normalised, at a target prior of 0.01 and 0.05.
        cllr, min_cllr: of calibrated scores, in bits; ``act_dcf_01``, ``act_dcf_05`` likewise.
    """

    name: str
    speakers: int
    targets: int
    nontargets: int
    eer: float
    eer_low: float
    eer_high: float
    threshold: float
    min_dcf_01: float
    min_dcf_05: float
    act_dcf_01: float
    act_dcf_05: float
    cllr: float
    min_cllr: float


NO_INTERVAL = Interval(float("nan"), float("nan"))


def evaluate(
    table: ScoreTable,
    llr: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]] | None = None,
    replicates: int = 1000,
) -> list[Result]:
    """One result a source that has both kinds of trial, then their mean, then all pooled.

    Args:
        llr: turns scores into log-likelihood ratios, for actDCF and Cllr.
        replicates: of the speaker bootstrap; 0 leaves intervals out.
    """
    sources = np.array([source_of(name) for name in table.enrol])
    results = []
    for source in sorted(set(sources) - {""}):
        inside = sources == source
        if len(set(table.labels[inside]) & {"target", "nontarget"}) == 2:
            results.append(_result(str(source), table, inside, llr, replicates))
    pooled = _result("pooled", table, np.ones(len(sources), dtype=bool), llr, replicates)
    if len(results) > 1:
        results.append(_mean(results))
    return [*results, pooled]


def _result(
    name: str,
    table: ScoreTable,
    inside: npt.NDArray[np.bool_],
    llr: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]] | None,
    replicates: int,
) -> Result:
    scores, labels = table.scores[inside], table.labels[inside]
    enrol = [speaker_of(n) for n, keep in zip(table.enrol, inside, strict=True) if keep]
    test = [speaker_of(n) for n, keep in zip(table.test, inside, strict=True) if keep]
    target, nontarget = labels == "target", labels == "nontarget"
    curve = det_curve(scores[target], scores[nontarget])
    rate = curve.eer()
    interval = NO_INTERVAL
    if replicates:
        judged = target | nontarget
        sides = [
            [name for name, keep in zip(side, judged, strict=True) if keep]
            for side in (enrol, test)
        ]
        interval = _interval(scores[judged], target[judged], sides[0], sides[1], replicates)
    calibrated = llr and det_curve(llr(scores[target]), llr(scores[nontarget]))
    nan = float("nan")
    return Result(
        name=name,
        speakers=len({*enrol, *test}),
        targets=int(target.sum()),
        nontargets=int(nontarget.sum()),
        eer=rate.rate,
        eer_low=interval.low,
        eer_high=interval.high,
        threshold=rate.threshold,
        min_dcf_01=curve.min_dcf(0.01).value,
        min_dcf_05=curve.min_dcf(0.05).value,
        act_dcf_01=calibrated.act_dcf(0.01) if calibrated else nan,
        act_dcf_05=calibrated.act_dcf(0.05) if calibrated else nan,
        cllr=calibrated.cllr() if calibrated else nan,
        min_cllr=curve.min_cllr(),
    )


def _interval(
    scores: npt.NDArray[np.float64],
    target: npt.NDArray[np.bool_],
    enrol: list[str],
    test: list[str],
    replicates: int,
) -> Interval:
    try:
        return speaker_bootstrap(scores, target, enrol, test, replicates=replicates)
    except UsageError:  # too few speakers to resample
        return NO_INTERVAL


def _mean(results: Sequence[Result]) -> Result:
    """Mean over sources: counts are summed, intervals and thresholds have no mean."""
    rows = [asdict(result) for result in results]
    mean = {key: float(np.mean([row[key] for row in rows])) for key in rows[0] if key != "name"}
    counts = {key: sum(row[key] for row in rows) for key in ("speakers", "targets", "nontargets")}
    nan = float("nan")
    return Result(
        **{**mean, **counts, "eer_low": nan, "eer_high": nan, "threshold": nan}, name="mean"
    )


def as_json(results: Sequence[Result], **provenance: Any) -> str:
    """The results as JSON, rates in [0, 1], null where a figure does not exist."""
    rows = [
        {key: None if value != value else value for key, value in asdict(result).items()}
        for result in results
    ]
    return json.dumps({**provenance, "results": rows}, indent=2, ensure_ascii=False) + "\n"


def as_table(results: Sequence[Result]) -> str:
    """The results as a Markdown table, rates in per cent."""
    lines = [
        "| trials | speakers | target / non-target | EER % [95 %] | minDCF .01 | minDCF .05 "
        "| actDCF .05 | Cllr | minCllr |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        interval = (
            "" if r.eer_low != r.eer_low else f" [{100 * r.eer_low:.1f}–{100 * r.eer_high:.1f}]"
        )
        figures = (r.min_dcf_01, r.min_dcf_05, r.act_dcf_05, r.cllr, r.min_cllr)
        cells = " | ".join("–" if f != f else f"{f:.3f}" for f in figures)
        lines.append(
            f"| {r.name} | {r.speakers} | {r.targets} / {r.nontargets} "
            f"| {100 * r.eer:.2f}{interval} | {cells} |"
        )
    return "\n".join(lines)
