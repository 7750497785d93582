"""``advgan-generate``: an adversarial set over a corpus, for training and testing detectors.

    advgan-generate --corpus LibriSpeech/dev-clean -o out/adversarial

Sources and targets are drawn by seed: each source is a recording, each target another speaker's
voice, judged against a further recording of that speaker where there is one. The same command
goes on after a kill. ``manifest.tsv`` and ``manifest.json`` list everything, failures too.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from advgan.command import Parser, at_least, one_thread, work
from advgan.conversion.session import Session, Settings, load_session
from advgan.infer import add_settings, settings_of
from advgan.manifest import append, read_journal, write_manifest
from advgan.pairs import Pair, read_pairs
from speakerguard.cli.ending import ending
from speakerguard.errors import AudioError, UsageError
from speakerguard.files import file_hash, replace_file
from speakerguard.progress import TimeLeft
from speakerguard.sound.audio import printable
from speakerguard.sound.corpus import find_utterances, require_speakers, speaker_of

SETTINGS = "settings.txt"
NUMBER = 200  # pairs drawn unasked
Job = tuple[Settings, Path, Path, str, Pair]  # with corpus, folder to write to, and name


def choose(corpus: Path, count: int, seed: int) -> list[Pair]:
    """``count`` pairs drawn by ``seed``; every speaker is a target about equally often.

    No source meets the same target twice, and more pairs begin with those of fewer.

    Raises:
        UsageError: no such folder, recordings of fewer than two speakers, or too few of them.
    """
    voices: dict[str, list[str]] = defaultdict(list)
    files = [path.as_posix() for path in find_utterances(corpus)]
    require_speakers(corpus, files)
    for name in files:
        voices[speaker_of(name)].append(name)
    if len(voices) < 2:
        raise UsageError(
            f"{corpus}: recordings of {len(voices)} speaker; at least two are needed, in folders "
            "named after them."
        )
    most = len(files) ** 2 - sum(len(own) ** 2 for own in voices.values())
    if count > most:
        raise UsageError(f"{corpus}: --number {count}, but there are only {most} pairs.")
    rng, names = np.random.default_rng(seed), sorted(voices)
    met: dict[str, set[tuple[str, str]]] = {name: set() for name in names}
    pairs: list[Pair] = []
    order: list[str] = []
    while len(pairs) < count:
        order = order or [names[i] for i in rng.permutation(len(names))]
        target = order.pop()
        own = voices[target]
        if len(met[target]) == len(own) * (len(files) - len(own)):
            continue
        while True:
            source = names[(names.index(target) + int(rng.integers(1, len(names)))) % len(names)]
            first, second = (own[i] for i in _two(len(own), rng))
            said = voices[source][int(rng.integers(len(voices[source])))]
            if (said, first) not in met[target]:
                break
        met[target].add((said, first))
        pairs.append(Pair(said, first, (second,)))
    return pairs


def _two(count: int, rng: np.random.Generator) -> tuple[int, int]:
    if count == 1:
        return 0, 0
    first, second = rng.choice(count, 2, replace=False)
    return int(first), int(second)


def convert(job: Job) -> dict[str, Any]:
    """One conversion, or why there is none: a row of the manifest."""
    settings, corpus, out, name, pair = job
    row: dict[str, Any] = {"id": name, **_said(pair)}
    try:
        converted = load_session(settings).attack(
            corpus / pair.source,
            corpus / pair.target,
            out / name,
            enrol=[corpus / recording for recording in pair.enrol],
            picture=False,
        )
    except AudioError as error:
        return row | {"error": str(error)}
    return row | {
        "output": f"{name}.wav",
        "sha256": converted.sha256,
        "before": converted.before.score,
        "after": converted.after.score,
        "accepted": converted.after.accepted,
        "detector_llr": converted.detector_llr,
        "dnsmos": converted.quality["dnsmos"],
        "word_error_rate": converted.quality["word_error_rate"],
        "seconds": converted.quality["seconds"],
        "mode": converted.mode,
        "generator": converted.fingerprint,
        "vocoder": converted.vocoder,
    }


def _said(pair: Pair) -> dict[str, str]:
    return {"source": pair.source, "target": pair.target, "enrol": "|".join(pair.enrol)}


def run(options: argparse.Namespace) -> int:
    """All that is still to do; returns how many failed, over all runs.

    Raises:
        UsageError: another run's folder, a full disk, a worker that was killed. What is finished
            stays and is listed.
    """
    settings: Settings = settings_of(options)
    out: Path = options.output
    pairs = _pairs(options, settings)
    session = load_session(settings)  # what is wrong with the settings shows at once
    out.mkdir(parents=True, exist_ok=True)
    _keep_settings(out, session, options.corpus)
    rows = _done(out, pairs)
    todo = [(settings, options.corpus, out, n, pair) for n, pair in pairs.items() if n not in rows]
    print(f"{len(pairs)} conversions, {len(pairs) - len(todo)} of them done before", flush=True)
    try:
        _convert_all(todo, rows, out, options.njobs)
    finally:
        ordered = [rows[name] for name in sorted(rows)]  # of a longer run before as well
        write_manifest(out, ordered, vars(settings) | {"corpus": str(options.corpus)})
    failed = sum(bool(row.get("error")) for row in ordered)
    listed = printable(out / "manifest.tsv")
    print(f"{len(ordered) - failed} converted, {failed} failed; listed in {listed}")
    return failed


def _pairs(options: argparse.Namespace, settings: Settings) -> dict[str, Pair]:
    """Whom to convert to whom, by the name of the result."""
    if options.pairs:
        pairs = read_pairs(options.pairs, options.corpus)[: options.number]
    else:
        pairs = choose(options.corpus, options.number or NUMBER, settings.seed)
    return {f"{index:06d}": pair for index, pair in enumerate(pairs)}


def _done(out: Path, pairs: Mapping[str, Pair]) -> dict[str, dict[str, Any]]:
    """What is finished already, by name.

    Raises:
        UsageError: it is of other pairs.
    """
    rows = {name: row for name, row in read_journal(out).items() if _whole(out, row)}
    for name, pair in pairs.items():
        if name in rows and not _said(pair).items() <= rows[name].items():
            raise UsageError(
                f"{out} holds conversions of other pairs: the list or the corpus has changed. "
                "Choose another -o."
            )
    return rows


def _convert_all(
    todo: Sequence[Job], rows: dict[str, dict[str, Any]], out: Path, njobs: int
) -> None:
    """Convert, and add a row for each to ``rows`` and to the journal."""
    whole, left, last = len(rows) + len(todo), TimeLeft(), 0.0
    for done, (_, row) in enumerate(work(convert, todo, njobs), start=1):
        append(out, row)
        rows[row["id"]] = row
        if row.get("error"):
            print(printable(f"  failed {row['id']}: {row['error']}"), file=sys.stderr)
        now = time.monotonic()
        if now - last > 10 or done == len(todo):
            accepted = sum(bool(r.get("accepted")) for r in rows.values())
            shown = f"  {len(rows)}/{whole}  accepted {accepted}  {left(done, len(todo))}"
            print(shown, flush=True)
            last = now


def _whole(out: Path, row: dict[str, Any]) -> bool:
    """Whether a row of the journal needs no second try."""
    if row.get("error"):
        return True
    path = out / str(row.get("output"))
    return path.is_file() and file_hash(path) == row.get("sha256")


def _keep_settings(out: Path, session: Session, corpus: Path) -> None:
    """Refuse to mix conversions of different settings or weights in one folder."""
    text = repr(sorted({**vars(session.settings), "corpus": str(corpus)}.items()))
    text = f"{text}\n{session.weights}\n"
    path = out / SETTINGS
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise UsageError(
            f"{out} holds conversions made with other settings or weights. Choose another -o."
        )
    replace_file(path, text)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = Parser(
        prog="advgan-generate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--corpus", type=Path, required=True, help="folder of speakers, such as LibriSpeech's")
    add(
        "--pairs",
        type=Path,
        help="list of source, target, enrol… in place of drawn pairs",
    )
    add("-n", "--number", type=at_least(1), help=f"most pairs; default {NUMBER}, or all listed")
    add("--output", "-o", type=Path, required=True, help="folder to write to, or to go on in")
    add("--njobs", "-p", type=at_least(1), default=1, help="processes; default %(default)s")
    add(
        "--words",
        action="store_true",
        help="list the word error rate too; takes half as long again",
    )
    add_settings(parser, 0)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; failures of single recordings do not fail it, they are listed."""
    with ending("advgan-generate"):
        one_thread()
        run(parse(arguments))


if __name__ == "__main__":
    main()
