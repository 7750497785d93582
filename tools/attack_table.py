"""What the attacker achieves: acceptance by the guard and its peers, beside quality.

    python tools/attack_table.py [--limit 60] [--readme] [--out runs/attack-table]

Every row converts (or leaves alone) each pair of a list, saves it as 16-bit WAV, reads it back and
scores it against a profile of the pair's enrolment, another recording than the one that was
converted to. Thresholds are the models' own and frozen. Goes on after a kill; prints a Markdown
table and writes it with ``table.json`` to the folder, and with ``--readme`` to the pages.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pages import SPEECH, renew

from advgan.command import at_least
from advgan.conversion.converter import (
    ADVERSARIAL,
    PERTURBER,
    PLAIN,
    Converter,
    Copier,
    PerturbingConverter,
)
from advgan.conversion.fitting import STEPS
from advgan.conversion.recording import Utterance, load_utterance
from advgan.judging.judge import DISCRIMINATOR, Detector, Judge
from advgan.judging.quality import quality
from advgan.judging.words import Transcript, compare, transcribe
from advgan.manifest import append, read_journal
from advgan.networks import checkpoint
from advgan.pairs import Pair, read_pairs
from advgan.victim.pcm import save_wav
from speakerguard.cli.ending import ending
from speakerguard.embedders.contract import Embedding
from speakerguard.errors import AudioError, CheckpointError, OtherGuardError, UsageError
from speakerguard.evaluation.bootstrap import share_interval
from speakerguard.files import file_hash, replace_file
from speakerguard.progress import TimeLeft
from speakerguard.sound.audio import SAMPLE_RATE, read
from speakerguard.sound.corpus import speaker_of, spread
from speakerguard.verification.countermeasure import is_real

Make = Callable[[Utterance, Utterance], tuple[np.ndarray, int]]
GENUINE, FITTED, PERTURBED = "genuine", "fitted", "perturbed"
EPSILON = 0.001  # after fitting: 33 steps of 16 bits, about 42 dB under the speech
ATTACKS = (PLAIN, ADVERSARIAL, PERTURBER)


@dataclass(frozen=True)
class TableRow:
    """One line of the table: a title, how a pair becomes what is presented, and by what weights."""

    key: str
    title: str
    make: Make
    weights: str = ""


def rows(options: argparse.Namespace) -> list[TableRow]:
    """The controls, then every attack whose weights are there."""
    named = named_models(options.load)
    copier = Copier(options.vocoder)
    vocoder = copier.vocoder.name
    found = [
        TableRow(
            "zero-effort", "zero-effort: unconverted source", lambda s, _: (s.waveform, SAMPLE_RATE)
        ),
        TableRow("copy", f"vocoder-only copy of the source ({vocoder})", _made_by(copier), vocoder),
    ]
    fitted = f"plain AGAIN-VC, its voice fitted in {options.steps} steps"
    for key, title, model, steps, epsilon in (
        (PLAIN, "plain AGAIN-VC", PLAIN, 0, None),
        (ADVERSARIAL, "adversarially trained", ADVERSARIAL, 0, None),
        (FITTED, fitted, PLAIN, options.steps, None),
        (PERTURBED, f"the same, then perturbed by {EPSILON:g}", PLAIN, options.steps, EPSILON),
    ):
        if model in named or checkpoint.shipped(model):
            with _left_out(key, model in named):
                converter = Converter(
                    named.get(model, model), options.vocoder, options.judges[0], steps, epsilon
                )
                how = (f" {fitted}" if steps else "") + (f" {title}" if epsilon else "")
                weights = f"{converter.fingerprint} {vocoder}{how}"
                found.append(TableRow(key, title, _made_by(converter), weights))
        elif not steps:
            print(f"no weights for {key!r}: row left out (see --load)", file=sys.stderr)
    if PERTURBER in named or checkpoint.shipped(PERTURBER):
        with _left_out(PERTURBER, PERTURBER in named):
            perturbing = PerturbingConverter(named.get(PERTURBER), options.judges[0])
            title = f"perturbation, eps {perturbing.epsilon:g}"
            found.append(TableRow(PERTURBER, title, _made_by(perturbing), perturbing.fingerprint))
    found.append(TableRow(GENUINE, "genuine target", lambda _, t: (t.waveform, SAMPLE_RATE)))
    return found


@contextlib.contextmanager
def _left_out(key: str, asked: bool) -> Iterator[None]:
    """Go on without shipped weights that were made against another guard; not if asked for."""
    try:
        yield
    except OtherGuardError as error:
        if asked:
            raise
        print(f"row {key!r} left out: {error}", file=sys.stderr)


def named_models(given: Sequence[str]) -> dict[str, str]:
    """``ROW=MODEL`` as a dictionary.

    Raises:
        UsageError: no such row.
    """
    pairs = [text.partition("=") for text in given]
    for text, (key, _, model) in zip(given, pairs, strict=True):
        if key not in ATTACKS or not model:
            raise UsageError(f"--load {text}: give ROW=MODEL, where ROW is {' or '.join(ATTACKS)}.")
    return {key: model for key, _, model in pairs}


def _made_by(converter: Converter | PerturbingConverter | Copier) -> Make:
    return lambda source, target: (converter.convert(source, target), converter.rate)


def measure(
    row: TableRow, pairs: Sequence[Pair], options: argparse.Namespace, judges: Sequence[Judge],
    detector: Detector | None,
) -> list[dict[str, Any]]:  # fmt: skip
    """One record a pair: scores by every judge, quality, time; those already there are kept.

    Where other judges are asked than before, what was converted is judged anew, not made anew.
    """
    verifiers = [judge.verifier for judge in judges]
    prints = [row.weights, *(v.scoring.fingerprint for v in verifiers)]
    told = detector.fingerprint if detector else ""
    asked = "+".join([*prints, told, str(options.root), *(["words"] if options.words else [])])
    made = "+".join([*prints[:2], str(options.root)])
    folder = options.out / row.key
    folder.mkdir(parents=True, exist_ok=True)
    before = read_journal(folder)
    done = {i: r for i, r in before.items() if r["asked"] == asked}
    names = ["|".join(pair.files) for pair in pairs]
    missing = [name for name in names if name not in done]
    left, records = TimeLeft(), []
    for index, (name, pair) in enumerate(zip(names, pairs, strict=True)):
        if name not in done:
            path, old = folder / f"{index:04d}.wav", before.get(name, {})
            source = load_utterance(options.root / pair.source)
            if old.get("made") == made and path.is_file() and file_hash(path) == old["sha256"]:
                seconds = old["conversion_seconds"]
            else:
                target = load_utterance(options.root / pair.target, speech_only=True)
                seconds = _convert(row, source, target, path)
            done[name] = {
                "id": name, "asked": asked, "made": made, "sha256": file_hash(path),
                "conversion_seconds": seconds,
                **_measure(row, pair, source, path, options, judges, detector),
            }  # fmt: skip
            append(folder, done[name])
        records.append({**done[name], "source": pair.source, "target": pair.target})
        if (index + 1) % 10 == 0:
            judged = sum(name in done for name in missing)
            rest = left(judged, len(missing))
            print(f"  {row.key} {index + 1}/{len(pairs)}, {rest}", flush=True)
    return records


def _convert(row: TableRow, source: Utterance, target: Utterance, path: Path) -> float:
    """Make what is presented, and save it; returns the seconds that the making took."""
    started = time.perf_counter()
    waveform, rate = row.make(source, target)
    seconds = time.perf_counter() - started
    save_wav(path, waveform, rate)
    return seconds


def _measure(
    row: TableRow, pair: Pair, source: Utterance, path: Path, options: argparse.Namespace,
    judges: Sequence[Judge], detector: Detector | None,
) -> dict[str, Any]:  # fmt: skip
    root: Path = options.root
    scores = {}
    for judge in judges:
        scores[judge.name] = judge.opinion(
            profile(judge, tuple(root / name for name in pair.enrol)), path
        ).score
    return {
        "scores": scores,
        "quality": quality(read(path), source.waveform),
        "words": _words(root / pair.source, path, row) if options.words else None,
        "llr": _detected(detector, path),
    }


def _detected(detector: Detector | None, path: Path) -> float | None:
    """None where there is no detector, or no speech to judge."""
    with contextlib.suppress(AudioError):
        return detector.llr(path) if detector else None
    return None


def _words(source: Path, path: Path, row: TableRow) -> dict[str, Any] | None:
    """What a recogniser hears in the saved file beside the source; None where that says nothing."""
    if row.key == GENUINE or not (said := said_in(source)) or not said.understood:
        return None
    found = compare(said, transcribe(read(path)))
    return dataclasses.asdict(found) if found else None


@functools.cache
def said_in(source: Path) -> Transcript | None:
    """A source's transcript, made once for all rows."""
    return transcribe(read(source))


@functools.cache
def profile(judge: Judge, enrolled: tuple[Path, ...]) -> Embedding:
    """A profile, made once for all rows."""
    return judge.profile(enrolled)


def _shares(
    prefix: str, accepted: Sequence[bool], sources: Sequence[str], targets: Sequence[str]
) -> dict[str, float]:
    interval = share_interval(accepted, targets, sources)
    return {
        f"{prefix}accepted": float(np.mean(accepted)),
        f"{prefix}low": interval.low,
        f"{prefix}high": interval.high,
    }


def summarise(
    row: TableRow, records: Sequence[Mapping[str, Any]], judges: Sequence[Judge]
) -> dict[str, Any]:
    """The figures of one line."""
    genuine = row.key == GENUINE
    targets = [speaker_of(r["target"]) for r in records]
    sources = targets if genuine else [speaker_of(r["source"]) for r in records]
    line: dict[str, Any] = {"row": row.title, "key": row.key, "pairs": len(records)}
    real = [r["llr"] is not None and is_real(r["llr"]) for r in records]
    for judge in judges:
        scores = [r["scores"][judge.name] for r in records]
        passed = [s is not None and judge.point.accepts(s) for s in scores]
        both = [voice and speech for voice, speech in zip(passed, real, strict=True)]
        judged = [s for s in scores if s is not None]
        line[judge.name] = {
            **_shares("", passed, sources, targets),
            **_shares("guarded_", both, sources, targets),
            "threshold": judge.point.threshold, "no_speech": len(scores) - len(judged),
            "mean_score": float(np.mean(judged)) if judged else None,
        }  # fmt: skip
    for figure in ("dnsmos", "stoi_to_source", "pitch_correlation"):
        found = [v for r in records if (v := r["quality"][figure]) is not None]
        line[figure] = float(np.mean(found)) if found and not (
            genuine and figure != "dnsmos"
        ) else None  # fmt: skip
    spoken = [r["words"] for r in records if r["words"]]
    line["words"], line["understood"] = sum(w["count"] for w in spoken), len(spoken)
    line["word_errors"] = sum(w["errors"] for w in spoken) / line["words"] if spoken else None
    found = [r["llr"] for r in records if r["llr"] is not None]
    line["called_made"] = float(np.mean([not is_real(llr) for llr in found])) if found else None
    seconds = sum(r["conversion_seconds"] for r in records)
    length = sum(r["quality"]["seconds"] for r in records)
    converted = row.key not in {GENUINE, "zero-effort"}
    line["real_time"] = length / max(seconds, 1e-9) if converted else None
    return line


def describe(lines: Sequence[Mapping[str, Any]], judges: Sequence[Judge]) -> str:
    """The Markdown table; what the countermeasure leaves is told of the verifier under attack."""
    heads = [f"accepted by {judge.name} at {judge.point.name}, % [95 %]" for judge in judges]
    detected = any(line["called_made"] is not None for line in lines)
    heads[1:1] = [f"by {judges[0].name} with the countermeasure"] if detected else []
    figures = {"dnsmos": "DNSMOS", "stoi_to_source": "STOI", "pitch_correlation": "F0 corr.",
               "word_errors": "word errors, %", "called_made": "called made, %",
               "real_time": "× real time"}  # fmt: skip
    text = ["| | " + " | ".join([*heads, *figures.values()]) + " |",
            "|---" * (1 + len(heads) + len(figures)) + "|"]  # fmt: skip
    for line in lines:
        cells = []
        for judge in judges:
            j = line[judge.name]
            mute = f"; {j['no_speech']} without speech" if j["no_speech"] else ""
            cells.append(_interval(j, "") + mute)
        cells[1:1] = [_interval(line[judges[0].name], "guarded_")] if detected else []
        for name in figures:
            value = line[name]
            scale = 100 if name in {"called_made", "word_errors"} else 1
            cells.append("" if value is None else f"{scale * value:.{0 if scale > 1 else 2}f}")
        text.append("| " + " | ".join([line["row"], *cells]) + " |")
    return "\n".join(text)


def _interval(figures: Mapping[str, float], prefix: str) -> str:
    value, low, high = (100 * figures[prefix + name] for name in ("accepted", "low", "high"))
    return f"{value:.1f} [{low:.1f}–{high:.1f}]"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--root", type=Path, default=SPEECH)
    add("--pairs", type=Path, help="source, target, enrol…; default: vc_pairs.tsv of the root")
    add("--limit", type=at_least(1), help="so many pairs, evenly from the list; default: all")
    add("--judges", nargs="+", default=["guard", "campplus", "resemblyzer"])
    add("--point", default="fa-1%")
    add("--load", nargs="*", default=[], metavar="ROW=MODEL", help="such as again-vc=runs/x")
    add("--vocoder", help="griffin-lim, or a trained vocoder; default: the shipped one if any")
    add("--steps", type=at_least(1), default=STEPS, help="of fitting; default %(default)s")
    add("--no-words", dest="words", action="store_false", help="spare the speech recogniser's time")
    add("--readme", action="store_true", help="put the table into the pages, too")
    add("--out", type=Path, default=Path("runs/attack-table"))
    options = parser.parse_args()
    with ending("attack_table"):
        run(options)


def run(options: argparse.Namespace) -> None:
    """Measure every row, then print.

    Raises:
        SpeakerguardError: of a kind that says what to do.
    """
    torch.set_num_threads(1)
    pairs = read_pairs(options.pairs or options.root / "vc_pairs.tsv", options.root)
    pairs = spread(pairs, options.limit) if options.limit else pairs
    judges = []
    for name in options.judges:
        try:
            judges.append(Judge(name, options.point))
        except CheckpointError as error:
            print(f"{name} cannot judge: {error}", file=sys.stderr)
    if not judges:
        raise UsageError("no judge is left.")
    detector = Detector() if checkpoint.shipped(DISCRIMINATOR) else None
    lines = []
    for row in rows(options):
        records = measure(row, pairs, options, judges, detector)
        lines.append(summarise(row, records, judges))
    table = describe(lines, judges)
    about = {judge.name: judge.verifier.fingerprint for judge in judges}
    replace_file(options.out / "table.json", json.dumps({**about, "rows": lines}, indent=2) + "\n")
    replace_file(options.out / "table.md", table + "\n")
    if options.readme:
        renew("attacks", f"{table}\n\nOn {len(pairs)} pairs.")
    print(f"\n{table}\n\nsaved: {options.out / 'table.json'}, {options.out / 'table.md'}")


if __name__ == "__main__":
    main()
