"""Commands about lists of recordings and trials; :mod:`speakerguard.cli.app` registers them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from speakerguard.cli.options import (
    DEFAULT_MODEL,
    Channel,
    Channels,
    Engine,
    EnrolmentMap,
    Model,
    Progress,
    Rate,
    Raw,
    Root,
    ScoreNorm,
    Seconds,
    Trials,
    Unusable,
    WhenUnusable,
    as_told,
    finite,
    make_verifier,
    tell_left_out,
)
from speakerguard.errors import AudioError, CheckpointError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from speakerguard.evaluation.evaluate import LeftOut
    from speakerguard.evaluation.trials import Models, ScoreTable, Trial
    from speakerguard.verification.verifier import Verifier


def embed(
    files: list[Path],
    out: Annotated[Path, typer.Option(help="The .npz file to write; keys are the paths given.")],
    unusable: Unusable = WhenUnusable.FAIL,
    model: Model = DEFAULT_MODEL,
    engine: Engine = None,
    channel: Channel = None,
    raw: Raw = None,
    rate: Rate = None,
    channels: Channels = None,
) -> None:
    """Embed FILES into an .npz: one float32 vector a key."""
    from zipfile import ZipFile

    from numpy.lib.format import write_array

    from speakerguard.evaluation.evaluate import embed_files
    from speakerguard.files import whole_file
    from speakerguard.sound.audio import printable

    if out.suffix != ".npz":
        raise UsageError(f"{out}: the output must end in .npz.")
    told, left_out = as_told(channel, raw, rate, channels), _left_out(unusable)
    named = {printable(file): told(file) for file in files}
    with Progress("embedding", len(named)) as progress:
        embeddings = embed_files(
            make_verifier(model, engine=engine), named.items(), None, progress, None, left_out
        )
    # numpy.savez could not store a key called "file"
    with whole_file(out) as part, ZipFile(part, "w") as archive:
        for key, embedding in embeddings.items():
            with archive.open(f"{key}.npy", "w") as member:
                write_array(member, embedding)
    print(f"{len(embeddings)} embeddings in {out}")
    _tell(left_out, len(named))


def score(
    trials: Trials,
    root: Root,
    out: Annotated[Path, typer.Option(help="Score file: label, score, enrol, test a line.")],
    seconds: Seconds = None,
    enrolment_map: EnrolmentMap = None,
    unusable: Unusable = WhenUnusable.FAIL,
    score_norm: ScoreNorm = None,
    model: Model = DEFAULT_MODEL,
    engine: Engine = None,
    channel: Channel = None,
    raw: Raw = None,
    rate: Rate = None,
    channels: Channels = None,
) -> None:
    """Score a trial list; each file is embedded once."""
    from speakerguard.evaluation.trials import read_trials, write_scores
    from speakerguard.files import refuse_folder

    refuse_folder(out)
    listed, models, left_out = read_trials(trials), _models(enrolment_map), _left_out(unusable)
    verifier = make_verifier(model, None, engine, score_norm)
    told = as_told(channel, raw, rate, channels)
    table = _score(verifier, listed, root, seconds, None, models, left_out, told)
    without = {trial.line for trial in left_out.trials} if left_out else ()
    write_scores(out, [trial for trial in listed if trial.line not in without], table.scores)
    print(f"{len(table.scores)} scores in {out}")
    _tell(left_out, len(_recordings(listed, models)))


def evaluate(
    scores: Annotated[
        Path | None, typer.Argument(help="Score file, of `score` or WeSpeaker's.")
    ] = None,
    trials: Annotated[Path | None, typer.Option(help="Trial list, instead of scores.")] = None,
    root: Annotated[Path, typer.Option(help="Folder of the list's paths.")] = Path(),
    out: Annotated[Path | None, typer.Option(help="Folder for JSON and plots.")] = None,
    seconds: Seconds = None,
    babble: Annotated[
        float | None,
        typer.Option(
            min=-60,
            max=120,
            callback=finite,
            help="Put four other talkers so many dB below each probe.",
        ),
    ] = None,
    bootstrap: Annotated[int, typer.Option(min=0, help="Replicates for intervals.")] = 1000,
    enrolment_map: EnrolmentMap = None,
    unusable: Unusable = WhenUnusable.FAIL,
    score_norm: ScoreNorm = None,
    model: Model = DEFAULT_MODEL,
    engine: Engine = None,
    channel: Channel = None,
    raw: Raw = None,
    rate: Rate = None,
    channels: Channels = None,
) -> None:
    """Error rates of a score file or a trial list, by source, with plots where --out is given."""
    from speakerguard.evaluation import evaluate as evaluation
    from speakerguard.evaluation.metrics import det_curve
    from speakerguard.evaluation.plots import plot_det, plot_scores
    from speakerguard.evaluation.trials import read_scores, read_trials
    from speakerguard.files import replace_file
    from speakerguard.network import checkpoint

    if scores is not None:
        other = None if model == checkpoint.default() else model
        asked = {"--trials": trials, "--seconds": seconds, "--babble": babble, "--model": other,
                 "--engine": engine, "--score-norm": score_norm,
                 "--enrolment-map": enrolment_map}  # fmt: skip
        if idle := [option for option, value in asked.items() if value is not None]:
            raise UsageError(f"{', '.join(idle)}: {scores} holds scores already. Leave one out.")
        table, llr, unit = read_scores(scores), None, "as in the file"
        about: dict[str, Any] = {"scores": scores.name}
    elif trials is None:
        raise UsageError("evaluate needs a score file, or --trials with --root.")
    else:
        verifier = make_verifier(model, None, engine, score_norm)
        unit = verifier.scoring.unit
        llr = verifier.calibration.calibration.llr if verifier.scoring.calibrated else None
        listed, models, left_out = read_trials(trials), _models(enrolment_map), _left_out(unusable)
        told = as_told(channel, raw, rate, channels)
        table = _score(verifier, listed, root, seconds, babble, models, left_out, told)
        _tell(left_out, len(_recordings(listed, models)))
        about = {
            "model": verifier.model,
            "fingerprint": verifier.fingerprint,
            "trials": trials.name,
            "babble_db": babble,
            "unit": unit,
            "left_out": _counted(left_out),
        }
    results = evaluation.evaluate(table, llr, bootstrap)
    print(evaluation.as_table(results))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        replace_file(out / "results.json", evaluation.as_json(results, **about, seconds=seconds))
        replace_file(out / "scores.txt", table.text())
        plot_det({"pooled": det_curve(table.targets, table.nontargets)}, out / "det.png")
        marks = {"EER": results[-1].threshold}
        plot_scores(table.targets, table.nontargets, out / "scores.png", marks, unit)
        print(f"\nresults.json, scores.txt, det.png and scores.png are in {out}", file=sys.stderr)


def calibrate(
    trials: Trials,
    root: Root,
    point: Annotated[
        list[str] | None,
        typer.Option(
            "--point",
            help="A further operating point: fa-X% accepts X% of strangers at most, fr-X% rejects "
            "X% of owners at most. Can be repeated.",
        ),
    ] = None,
    enrolment_map: EnrolmentMap = None,
    unusable: Unusable = WhenUnusable.FAIL,
    score_norm: ScoreNorm = None,
    model: Model = DEFAULT_MODEL,
    engine: Engine = None,
    channel: Channel = None,
    raw: Raw = None,
    rate: Rate = None,
    channels: Channels = None,
) -> None:
    """Learn thresholds and likelihood ratios from a trial list; kept beside the model."""
    from speakerguard.evaluation import calibrate as calibration
    from speakerguard.evaluation.trials import read_trials

    own = [calibration.own_point(name)[0] for name in point or ()]  # refused before hours of work
    verifier = make_verifier(model, None, engine, score_norm)
    listed, models, left_out = read_trials(trials), _models(enrolment_map), _left_out(unusable)
    told = as_told(channel, raw, rate, channels)
    table = _score(verifier, listed, root, None, None, models, left_out, told)
    _tell(left_out, len(_recordings(listed, models)))
    file = calibration.calibrate(
        table,
        verifier.scoring.fingerprint,
        trials.name,
        weights=calibration.source_weights(table),
        own=own,
    )
    path = verifier.scoring.calibration_path
    path.parent.mkdir(parents=True, exist_ok=True)
    before = _thresholds(verifier)
    file.save(path)
    print(f"{path}, for scores in {verifier.scoring.unit}:")
    for name, found in file.points.items():
        was = f"  was {before[name]:+.4f}" if name in before else ""
        print(
            f"  {name:8} threshold {found.threshold:+.4f}  "
            f"P_fa {100 * found.p_fa:.2f} %  P_miss {100 * found.p_miss:.2f} %{was}"
        )
    if gone := [name for name in before if name not in file.points]:
        again = " ".join(f"--point {name}" for name in gone)
        print(f"warning: {', '.join(gone)} left out; to keep: {again}", file=sys.stderr)
    for name in calibration.unsure(file):
        print(
            f"warning: {len(table.nontargets)} trials of different speakers say little about "
            f"{name}: its true rate may be several times as high. Use a longer list.",
            file=sys.stderr,
        )


def _thresholds(verifier: Verifier) -> dict[str, float]:
    """Those in use so far, by operating point; none where there are none of these weights."""
    try:
        points = verifier.calibration.points.values()
    except CheckpointError:
        return {}
    return {point.name: point.threshold for point in points}


def cohort(
    speech: Annotated[
        Path, typer.Option(help="Folder of speakers who are neither enrolled nor judged.")
    ],
    most: Annotated[int, typer.Option(min=1, help="Recordings of each speaker, at most.")] = 10,
    unusable: Unusable = WhenUnusable.SKIP,
    model: Model = DEFAULT_MODEL,
    engine: Engine = None,
) -> None:
    """Make the cohort of strangers that scores are set against; kept beside the model."""
    from speakerguard.evaluation.calibrate import gather
    from speakerguard.sound.corpus import find_utterances, require_speakers
    from speakerguard.verification.cohort import COHORT_FILE

    verifier = make_verifier(model, None, engine)
    files = {path.as_posix(): speech / path for path in find_utterances(speech)}
    require_speakers(speech, files)
    with Progress("embedding", len(files)) as progress:
        members, left_out = gather(verifier, files, most, progress)
    if left_out and unusable is WhenUnusable.FAIL:
        listed = "\n  ".join(left_out)
        raise AudioError(f"{len(left_out)} of {len(files)} recordings cannot be used:\n  {listed}")
    members.save(verifier.embedder.folder / COHORT_FILE)
    print(
        f"{len(members.embeddings)} speakers in {verifier.embedder.folder / COHORT_FILE}; scores "
        "are now set against them, so run `speakerguard calibrate` next"
    )
    tell_left_out(left_out, len(files))


def _models(enrolment_map: Path | None) -> Models:
    from speakerguard.evaluation.lists import read_enrolment_map

    return read_enrolment_map(enrolment_map) if enrolment_map else {}


def _left_out(unusable: WhenUnusable) -> LeftOut | None:
    """What takes unusable recordings, where the command shall go on without them."""
    from speakerguard.evaluation.evaluate import LeftOut

    return LeftOut() if unusable is WhenUnusable.SKIP else None


def _tell(left_out: LeftOut | None, count: int) -> None:
    """Say on standard error which of ``count`` recordings, and which trials, were left out."""
    if left_out is None:
        return
    tell_left_out(left_out.recordings.values(), count)
    if left_out.trials:
        lines = _ranges([trial.line for trial in left_out.trials])
        print(f"{len(left_out.trials)} trials left out, on lines {lines}", file=sys.stderr)


def _counted(left_out: LeftOut | None) -> dict[str, int]:
    missing = (left_out.recordings, left_out.trials) if left_out else ((), ())
    return dict(zip(("recordings", "trials"), map(len, missing), strict=True))


def _ranges(numbers: list[int]) -> str:
    """Ascending numbers in few words: 3, 7 to 12."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in spans)


def _recordings(trials: list[Trial], models: Models) -> set[str]:
    """Names of all recordings that the trials are about."""
    enrolled = {name for trial in trials for name in models.get(trial.enrol, (trial.enrol,))}
    return enrolled | {trial.test for trial in trials}


def _score(
    verifier: Verifier,
    trials: list[Trial],
    root: Path,
    seconds: float | None,
    babble: float | None,
    models: Models,
    left_out: LeftOut | None,
    told: Callable[[Any], Any],
) -> ScoreTable:
    from speakerguard.evaluation.evaluate import score_trials

    count = len(_recordings(trials, models))
    if babble is not None:
        count += len({trial.test for trial in trials})
    with Progress("embedding", count) as progress:
        return score_trials(
            verifier, trials, root, seconds, progress, babble, models, left_out, told
        )
