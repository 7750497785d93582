"""Commands about lists of recordings and trials; :mod:`speakerguard.cli.app` registers them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from speakerguard.cli.options import (
    DEFAULT_MODEL,
    Engine,
    Model,
    Progress,
    Root,
    ScoreNorm,
    Seconds,
    Trials,
    finite,
    make_verifier,
)
from speakerguard.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    from speakerguard.evaluation.trials import ScoreTable, Trial
    from speakerguard.verification.verifier import Verifier


def embed(
    files: list[Path],
    out: Annotated[Path, typer.Option(help="The .npz file to write; keys are the paths given.")],
    model: Model = DEFAULT_MODEL,
    engine: Engine = None,
) -> None:
    """Embed FILES into an .npz: one float32 vector a key."""
    from zipfile import ZipFile

    from numpy.lib.format import write_array

    from speakerguard.evaluation.evaluate import embed_files
    from speakerguard.files import whole_file
    from speakerguard.sound.audio import printable

    if out.suffix != ".npz":
        raise UsageError(f"{out}: the output must end in .npz.")
    named = {printable(file): file for file in files}
    with Progress("embedding", len(named)) as progress:
        embeddings = embed_files(make_verifier(model, engine=engine), named.items(), None, progress)
    # numpy.savez could not store a key called "file"
    with whole_file(out) as part, ZipFile(part, "w") as archive:
        for key, embedding in embeddings.items():
            with archive.open(f"{key}.npy", "w") as member:
                write_array(member, embedding)
    print(f"{len(embeddings)} embeddings in {out}")


def score(
    trials: Trials,
    root: Root,
    out: Annotated[Path, typer.Option(help="Score file: label, score, enrol, test a line.")],
    seconds: Seconds = None,
    score_norm: ScoreNorm = None,
    model: Model = DEFAULT_MODEL,
    engine: Engine = None,
) -> None:
    """Score a trial list; each file is embedded once."""
    from speakerguard.evaluation.trials import read_trials, write_scores
    from speakerguard.files import refuse_folder

    refuse_folder(out)
    listed = read_trials(trials)
    verifier = make_verifier(model, None, engine, score_norm)
    table = _score(verifier, listed, root, seconds)
    write_scores(out, listed, table.scores)
    print(f"{len(table.scores)} scores in {out}")


def evaluate(
    scores: Annotated[Path | None, typer.Argument(help="Score file made by `score`.")] = None,
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
    score_norm: ScoreNorm = None,
    model: Model = DEFAULT_MODEL,
    engine: Engine = None,
) -> None:
    """Error rates of a score file or a trial list, by source, with plots where --out is given."""
    from speakerguard.evaluation import evaluate as evaluation
    from speakerguard.evaluation.metrics import det_curve
    from speakerguard.evaluation.plots import plot_det, plot_scores
    from speakerguard.evaluation.trials import read_scores, read_trials
    from speakerguard.files import replace_file

    if scores is not None:
        other = None if model == DEFAULT_MODEL else model
        asked = {"--trials": trials, "--seconds": seconds, "--babble": babble, "--model": other,
                 "--engine": engine, "--score-norm": score_norm}  # fmt: skip
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
        table = _score(verifier, read_trials(trials), root, seconds, babble)
        about = {
            "model": verifier.model,
            "fingerprint": verifier.fingerprint,
            "trials": trials.name,
            "babble_db": babble,
            "unit": unit,
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
    score_norm: ScoreNorm = None,
    model: Model = DEFAULT_MODEL,
    engine: Engine = None,
) -> None:
    """Learn thresholds and likelihood ratios from a trial list; kept beside the model."""
    from speakerguard.evaluation.trials import read_trials
    from speakerguard.verification import calibration

    verifier = make_verifier(model, None, engine, score_norm)
    table = _score(verifier, read_trials(trials), root)
    file = calibration.calibrate(
        table, verifier.scoring.fingerprint, trials.name, weights=calibration.source_weights(table)
    )
    path = verifier.scoring.calibration_path
    path.parent.mkdir(parents=True, exist_ok=True)
    before = _thresholds(verifier)
    file.save(path)
    print(f"{path}, for scores in {verifier.scoring.unit}:")
    for point in file.points.values():
        was = f"  was {before[point.name]:+.4f}" if point.name in before else ""
        print(
            f"  {point.name:8} threshold {point.threshold:+.4f}  "
            f"P_fa {100 * point.p_fa:.2f} %  P_miss {100 * point.p_miss:.2f} %{was}"
        )
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
    model: Model = DEFAULT_MODEL,
    engine: Engine = None,
) -> None:
    """Make the cohort of strangers that scores are set against; kept beside the model."""
    from speakerguard.sound.corpus import find_utterances, require_speakers
    from speakerguard.verification.cohort import COHORT_FILE, gather

    verifier = make_verifier(model, None, engine)
    files = {path.as_posix(): speech / path for path in find_utterances(speech)}
    require_speakers(speech, files)
    with Progress("embedding", len(files)) as progress:
        members, left_out = gather(verifier, files, most, progress)
    members.save(verifier.embedder.folder / COHORT_FILE)
    print(
        f"{len(members.embeddings)} speakers in {verifier.embedder.folder / COHORT_FILE}; scores "
        "are now set against them, so run `speakerguard calibrate` next"
    )
    if left_out:
        print(f"{len(left_out)} recordings left out; the first: {left_out[0]}", file=sys.stderr)


def _score(
    verifier: Verifier,
    trials: list[Trial],
    root: Path,
    seconds: float | None = None,
    babble: float | None = None,
) -> ScoreTable:
    from speakerguard.evaluation.evaluate import score_trials

    tests = {trial.test for trial in trials}
    files = tests | {trial.enrol for trial in trials}
    with Progress("embedding", len(files) + len(tests) * (babble is not None)) as progress:
        return score_trials(verifier, trials, root, seconds, progress, babble)
