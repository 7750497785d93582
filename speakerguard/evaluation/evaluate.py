"""From a trial list to scores, and from scores to the figures a reviewer asks for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from speakerguard.errors import AudioError, UsageError
from speakerguard.evaluation.babble import Babble
from speakerguard.evaluation.bootstrap import Interval, speaker_bootstrap
from speakerguard.evaluation.metrics import det_curve
from speakerguard.evaluation.trials import ScoreTable, Trial, check_files, source_of, speaker_of
from speakerguard.sound.audio import SAMPLE_RATE
from speakerguard.sound.speech import Speech, load_speech

if TYPE_CHECKING:
    from speakerguard.embedders.load import Embedding
    from speakerguard.verification.verifier import Verifier

CHUNK = 64  # recordings read before they are embedded together


def embed_files(
    verifier: Verifier,
    files: Iterable[tuple[str, Path]],
    seconds: float | None = None,
    progress: Callable[[int], None] | None = None,
    load: Callable[[str], Speech] | None = None,
) -> dict[str, Embedding]:
    """Embedding of each named file, each read once; ``seconds`` keeps only the first speech.

    Args:
        progress: called with the number of files done.
        load: gives a file's speech by its name, such as with babble behind it.

    Raises:
        AudioError: recordings cannot be used; the message names each.
    """
    embeddings: dict[str, Embedding] = {}
    waiting: list[tuple[str, Speech]] = []

    def flush() -> None:
        done = verifier.embed_speech([speech for _, speech in waiting])
        embeddings.update(zip((name for name, _ in waiting), done, strict=True))
        waiting.clear()
        if progress:
            progress(len(embeddings))

    refused: list[AudioError] = []
    for name, path in files:
        try:
            speech = load(name) if load else load_speech(path)
        except AudioError as error:
            refused.append(error)
        if refused:
            continue  # nothing comes of it now, but the others that are bad are worth knowing
        waiting.append((name, _first(speech, seconds)))
        if len(waiting) >= CHUNK:
            flush()
    if len(refused) == 1:
        raise refused[0]
    if refused:
        listed = "\n  ".join(map(str, refused))
        raise AudioError(f"{len(refused)} recordings cannot be used. Leave them out:\n  {listed}")
    if waiting:
        flush()
    return embeddings


def _first(speech: Speech, seconds: float | None) -> Speech:
    if seconds is None:
        return speech
    kept = speech.samples[: int(seconds * SAMPLE_RATE)]
    return replace(speech, samples=kept, net_seconds=min(speech.net_seconds, seconds))


def score_trials(
    verifier: Verifier,
    trials: Sequence[Trial],
    root: Path,
    seconds: float | None = None,
    progress: Callable[[int], None] | None = None,
    babble: float | None = None,
) -> ScoreTable:
    """The verifier's score of every trial, such as the cosine; each file is embedded once.

    Args:
        seconds: keep only the first speech of every file.
        progress: called with the number of files done.
        babble: dB by which each *test* recording stands above four other talkers; enrolment
            stays as it was recorded.

    Raises:
        TrialError: a file is missing; the message names the trial's line.
        AudioError: a file cannot be judged.
    """
    files = check_files(trials, root)
    embeddings = embed_files(verifier, files.items(), seconds, progress)
    probes = embeddings
    if babble is not None:
        tests = {trial.test: files[trial.test] for trial in trials}
        more = progress and (lambda done: progress(len(files) + done))
        probes = embed_files(verifier, tests.items(), seconds, more, Babble(files, babble))
    scores = verifier.compare(
        np.stack([embeddings[trial.enrol] for trial in trials]),
        np.stack([probes[trial.test] for trial in trials]),
    )
    return ScoreTable(
        labels=np.array([trial.label for trial in trials]),
        scores=scores,
        enrol=[trial.enrol for trial in trials],
        test=[trial.test for trial in trials],
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
