"""Damaged and hostile input of every kind, one after another, in a process of its own.

    python tests/support/fuzzing.py KIND --seed 0 --first 0 --count 100 --model FOLDER

Input number ``n`` of a kind and seed is always the same. Every one must be answered or raise a
SpeakerguardError, within :data:`LONGEST` seconds and :data:`MEMORY` bytes, and nothing may be
printed on standard output. The process ends at the first that is not so, and says which; a crash of
a native library or a limit of the system ends it as well.
"""

from __future__ import annotations

import argparse
import copy
import faulthandler
import io
import json
import os
import re
import shutil
import sqlite3
import sys
import tempfile
import time
import traceback
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from speakerguard.errors import SpeakerguardError

LONGEST = 10.0  # seconds of processor for one input
HANGING = 120.0  # seconds in all, on a busy machine
MEMORY = 600 << 20  # bytes that all of them may take beyond what the libraries do

Rng = np.random.Generator
Try = Callable[[Rng], None]

WORDS = (
    *("", " ", "\t", "\r", "\0", "\x1b[2J", "\ufeff", "\ud800", "\u202e", "é", "/", ".", ".."),
    *("\\", "-", "#", "|", '"', "'", "0", "1", "-1", "2", "nan", "inf", "-inf", "1e400", "٣"),
    *("9" * 400, "a" * 5000, "target", "nontarget", "spoof", "null", "true", "~", "[", "{", "}"),
    *("&a [*a]", "*a", "!!python/name:os.system", "2001-13-45", "0x10", ":", "- ", "? ", "<<: 1"),
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 0.5, 2**31, 2**63, 2**70, -(2**70), 1e308, -1e308),
    *(float("nan"), float("inf"), "", "x", "\x1b[2J", "\0", "a" * 5000, [], {}, [[]], {"x": 1}),
)  # fmt: skip
NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63)


def pick(rng: Rng, choices: Any) -> Any:
    """One of ``choices``, whatever they are."""
    return choices[int(rng.integers(len(choices)))]


def damaged(rng: Rng, data: bytes, other: bytes = b"", headers: float = 0.7) -> bytes:
    """``data`` with a few faults, this share of them where headers are."""
    made = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        early = rng.random() < headers
        at = int(rng.integers(min(len(made), 160) + 1) if early else rng.integers(len(made) + 1))
        length = int(rng.integers(1, 65))
        match int(rng.integers(7)):
            case 0:
                made[at : at + 1] = rng.bytes(1)
            case 1:
                order = "little" if rng.random() < 0.5 else "big"
                size = pick(rng, (1, 2, 4, 8))
                number = pick(rng, NUMBERS) % (1 << 8 * size)
                made[at : at + size] = number.to_bytes(size, order)  # type: ignore[arg-type]
            case 2:
                del made[at:]
            case 3:
                del made[at : at + length]
            case 4:
                made[at:at] = made[at : at + length] * int(rng.integers(1, 4))
            case 5:
                made[at:at] = rng.bytes(length)
            case 6:
                made[at:] = other[at:] or rng.bytes(length)
    return bytes(made)


def garbled(rng: Rng, text: str) -> bytes:
    """``text`` with some words replaced, doubled, moved or left out."""
    words = re.split(r"(\W)", text)
    for _ in range(int(rng.integers(1, 7))):
        at, word = int(rng.integers(len(words))), pick(rng, WORDS)
        match int(rng.integers(4)):
            case 0:
                words[at] = word
            case 1:
                words.insert(at, word)
            case 2:
                words[at] = pick(rng, words)
            case 3:
                words[at : at + int(rng.integers(1, 9))] = []
                words = words or [""]
    made = "".join(words).encode("utf-8", "surrogatepass")
    return damaged(rng, made) if rng.random() < 0.2 else made


def changed(rng: Rng, tree: Any) -> Any:
    """A copy of plain data with one to three of its values replaced, doubled or left out."""
    tree = copy.deepcopy(tree)
    for _ in range(int(rng.integers(1, 4))):
        place, keys = tree, list[Any]()
        while isinstance(place, dict | list) and place:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = pick(rng, keys)
            inner = place[key]
            if not isinstance(inner, dict | list) or not inner or rng.random() < 0.25:
                break
            place = inner
        if not keys:
            continue
        value = nested(5000) if rng.random() < 0.02 else copy.copy(pick(rng, VALUES))
        match int(rng.integers(3)):
            case 0 | 1:
                place[key] = value
            case 2 if isinstance(place, dict):
                place.pop(key)
                place[pick(rng, WORDS)] = value
            case 2:
                place.pop(key)
    return tree


def nested(depth: int) -> Any:
    """A list in a list in a list."""
    made: list[Any] = []
    for _ in range(depth):
        made = [made]
    return made


def as_json(tree: Any) -> bytes:
    """JSON, where the data are not nested too deeply for it."""
    try:
        return json.dumps(tree).encode()
    except RecursionError:
        return b"[" * 5000


def first_of(*attempts: Callable[[], object]) -> None:
    """Try all of these, though one be refused."""
    for attempt in attempts:
        try:
            attempt()
        except SpeakerguardError:
            continue


def recordings(folder: Path, _: Path) -> Try:
    """Everything that libsndfile writes, damaged; and headers with nothing behind."""
    from speakerguard.sound import audio, speech
    from speakerguard.sound.pipe import read_pipe

    time_ = np.arange(24_000) / 16_000
    sound = 0.3 * np.sin(2 * np.pi * 150 * time_) * (np.sin(2 * np.pi * 3 * time_) > 0)
    bases = []
    kinds = soundfile.available_formats().keys() - {
        "SD2"
    }  # which leaves a file ._ where one stands,
    for kind in sorted(kinds):  # and libsndfile takes that for part of any MP3 in memory
        for subtype in soundfile.available_subtypes(kind):
            for channels in (1, 2):
                buffer = io.BytesIO()
                clip = np.repeat(sound[:, None], channels, axis=1)
                try:
                    with soundfile.SoundFile(
                        buffer, "w", 16_000, channels, subtype, format=kind
                    ) as out:
                        out.write(clip)
                except (RuntimeError, TypeError, ValueError):  # some take one channel, or a file
                    continue
                bases.append(buffer.getvalue())
    heads = [base[:12] for base in bases]
    path = folder / "recording"

    def one(rng: Rng) -> None:
        made = damaged(rng, pick(rng, bases), pick(rng, bases))
        if rng.random() < 0.1:
            made = pick(rng, heads)[: int(rng.integers(1, 13))] + rng.bytes(int(rng.integers(400)))
        path.write_bytes(made)

        def follow() -> None:
            _, blocks = read_pipe(io.BytesIO(made))
            for _ in blocks:
                pass

        first_of(
            lambda: audio.read(path), lambda: audio.read(made), follow,
            lambda: speech.load_speech(path) if rng.random() < 0.2 else None,
        )  # fmt: skip

    return one


def profiles(folder: Path, _: Path) -> Try:
    """Stores with rows that say anything, or bytes that are anything; and exported profiles."""
    from typer.testing import CliRunner

    from speakerguard.cli import app as cli
    from speakerguard.verification import store_reader
    from speakerguard.verification.profile import Profile
    from speakerguard.verification.store import ProfileStore

    base, path = folder / "base.db", folder / "profiles.db"
    with ProfileStore(base) as store:
        for name in ("anna", "Ben"):
            store.add(Profile(name, "c0ffee", np.eye(2, 192), (2.5, 3.0), ("a.wav", "b.wav")))
    whole = base.read_bytes()
    columns = [row[1] for row in sqlite3.connect(base).execute("PRAGMA table_info(profiles)")]
    exported = folder / "anna.safetensors"
    words = ["profiles", "export", "--store", str(base), "anna", "--out", str(exported)]
    if CliRunner().invoke(cli.app, words).exit_code:
        raise RuntimeError("no profile can be exported")

    def one(rng: Rng) -> None:
        if rng.random() < 0.3:
            (folder / "sent").write_bytes(damaged(rng, exported.read_bytes()))
            (folder / "new.db").unlink(missing_ok=True)
            words = ["profiles", "import", str(folder / "sent"), "--store", str(folder / "new.db")]
            ran = CliRunner().invoke(cli.app, words)
            if ran.exception and not isinstance(ran.exception, SystemExit):
                raise ran.exception
            return
        path.write_bytes(damaged(rng, whole) if rng.random() < 0.4 else whole)
        if path.read_bytes() == whole:
            value = pick(rng, (*VALUES, rng.bytes(8), "[1, 2]", "2001-13-45", *WORDS))
            value = value if isinstance(value, str | bytes | float | int) else json.dumps(value)
            try:
                with sqlite3.connect(path) as database:
                    change = f"UPDATE profiles SET {pick(rng, columns)} = ? WHERE name = 'anna'"
                    database.execute(change, (value,))
                database.close()
            except (sqlite3.Error, OverflowError, ValueError):  # cannot even be stored
                return
        with ProfileStore(path) as store:
            first_of(
                lambda: store_reader.read(path), lambda: store_reader.read(path, "anna"),
                store.names, store.all, lambda: store.get("anna"), lambda: store.remove("anna"),
            )  # fmt: skip

    return one


def lists(folder: Path, _: Path) -> Try:
    """Lists of trials, pairs and scores, and what ``advgan-generate`` wrote."""
    from advgan import manifest, pairs
    from speakerguard.evaluation import trials
    from speakerguard.training import hardening

    for name in ("a/1.wav", "a/2.wav", "b/1.wav"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    journal = json.dumps({"id": "000000", "output": "0.wav", "accepted": True, "sha256": "0"})
    bases = (
        "1 a/1.wav a/2.wav\n0 a/1.wav b/1.wav\n",
        "a/1.wav a/2.wav target\na/1.wav b/1.wav nontarget\n",
        "target 0.7 a/1.wav a/2.wav\nnontarget -0.1 a/1.wav b/1.wav\n",
        "a/1.wav a/2.wav 0.7 target\na/1.wav b/1.wav 0.1 spoof\n",
        "b/1.wav\ta/1.wav\ta/2.wav\n",
        "filename\tcm-score\tasv-score\nE_1\t0.5\t-\n",
        "\t".join(manifest.COLUMNS) + "\n0\tb/1.wav\ta/1.wav\ta/2.wav\ta/1.wav" + "\t1" * 12 + "\n",
        journal + "\n" + journal + "\n",
    )
    path = folder / "list.txt"

    def one(rng: Rng) -> None:
        made = garbled(rng, pick(rng, bases))
        if rng.random() < 0.1:
            made = "".join(pick(rng, WORDS) for _ in range(20)).encode("utf-8", "surrogatepass")
        for name in (path.name, manifest.TSV, manifest.JOURNAL):
            (folder / name).write_bytes(made)
        first_of(
            lambda: trials.check_files(trials.read_trials(path), folder),
            lambda: trials.read_scores(path),
            lambda: pairs.read_pairs(path, folder),
            lambda: manifest.read_journal(folder),
            lambda: manifest.read_manifest(folder),
            lambda: hardening.read_conversions(folder),
        )

    return one


def configurations(folder: Path, _: Path) -> Try:
    """Training configurations, suites, policies and descriptions of mels, as text and as data."""
    import yaml

    from advgan.conversion.described import check_config, check_dsp
    from advgan.networks.generator import GeneratorConfig
    from advgan.report import plan, policy
    from advgan.training import config as attacker
    from speakerguard.settings import load_as
    from speakerguard.training import config

    root = Path(__file__).parents[2]
    schemas = [config.TrainConfig, attacker.VcConfig, attacker.VocoderRunConfig,
               attacker.AdversarialConfig, attacker.DetectorConfig]  # fmt: skip
    files = [*root.glob("configs/*.yaml"), *(root / "advgan/report").rglob("*.yaml")]
    texts = [file.read_text(encoding="utf-8") for file in sorted(files)]
    path = folder / "file.yaml"

    def one(rng: Rng) -> None:
        text = pick(rng, texts)
        if rng.random() < 0.5:
            path.write_bytes(garbled(rng, text))
        else:
            try:
                path.write_text(yaml.safe_dump(changed(rng, yaml.safe_load(text))), "utf-8")
            except (RecursionError, UnicodeEncodeError):
                return
        schema = pick(rng, schemas)
        first_of(
            lambda: load_as(path, schema),
            pick(
                rng,
                [
                    lambda: plan.load_suite(str(path))[0].built_defences,
                    lambda: policy.load_policy(path),
                    lambda: check_config(path, GeneratorConfig()),
                    lambda: check_dsp(path),
                ],
            ),
        )

    return one


def reports(folder: Path, _: Path) -> Try:
    """Reports that another wrote, and the rows that a run goes on from."""
    sys.path.append(str(Path(__file__).parents[1] / "advgan" / "report"))
    from test_report_command import made as make

    from advgan.report import compare, leaderboard, runner

    base = make("guard", 0.5, 0.25)
    tree = base.model_dump()
    row = {"key": "0", "pair": 0, "attack": 0, "outcome": "judged", "scores": {"none": 0.5}}
    rows = [{"format": runner.FORMAT, "digest": "0"}, row, row]
    path = folder / "report.json"

    def one(rng: Rng) -> None:
        made = as_json(changed(rng, tree))
        path.write_bytes(damaged(rng, made) if rng.random() < 0.2 else made)
        lines = b"\n".join(map(as_json, changed(rng, rows))) + b"\n"
        kept = runner.rows_file(folder, "0")
        kept.write_bytes(damaged(rng, lines) if rng.random() < 0.2 else lines)
        first_of(
            lambda: leaderboard.table([compare.load_report(path), base]),
            lambda: compare.worse(compare.compare(compare.load_report(path), base, "earlier")),
            lambda: runner.read_rows(runner.journal_of(folder, "0"), ["0"]),
        )

    return one


def networks(folder: Path, model: Path) -> Try:
    """Every file of a guard: it is refused, or embeds as before; and the attacker's networks."""
    import torch

    from advgan.networks import checkpoint as attacker
    from advgan.networks.discriminator import Discriminator, DiscriminatorConfig
    from advgan.networks.generator import Generator, GeneratorConfig
    from speakerguard.network import checkpoint
    from speakerguard.verification.verifier import Verifier

    torch.set_num_threads(1)
    clip = (np.random.default_rng(0).standard_normal(16_000) * 0.05).astype(np.float32)

    def embedded(guard: Path) -> Any:
        verifier = Verifier(guard)
        _ = verifier.calibration, verifier.scoring.fingerprint
        return verifier.embedder.embed([clip])[0]

    guards = [model, checkpoint.folder() / "guard-int8"]
    usual = {guard: embedded(guard) for guard in guards}
    for guard in guards:
        shutil.copytree(guard, folder / guard.name, dirs_exist_ok=True)
    networks: dict[str, Any] = {
        "generator": Generator(GeneratorConfig(width=8, blocks=1)),
        "discriminator": Discriminator(DiscriminatorConfig(width=2)),
    }
    for kind, network in networks.items():
        attacker.save(kind, network, folder / f"{kind}.safetensors")

    def one(rng: Rng) -> None:
        if rng.random() < 0.3:
            kind = pick(rng, list(networks))
            file = folder / f"{kind}.safetensors"
            damage(rng, file, lambda: attacker.load(kind, file))
            return
        guard = pick(rng, guards)
        names = [
            p.name
            for p in sorted(guard.iterdir())
            if p.suffix in {".json", ".onnx", ".safetensors"}
        ]
        copied = folder / guard.name

        def same() -> None:
            if not np.abs(embedded(copied) - usual[guard]).max() < 1e-4:
                raise AssertionError("a damaged network embeds differently without a word")

        damage(rng, copied / pick(rng, names), same)

    def damage(rng: Rng, file: Path, attempt: Callable[[], object]) -> None:
        whole = file.read_bytes()
        try:
            made = damaged(rng, whole, headers=0.3)
            if file.suffix == ".json" and rng.random() < 0.7:
                made = as_json(changed(rng, json.loads(whole)))
            file.write_bytes(made)
            attempt()
        finally:
            file.write_bytes(whole)

    return one


KINDS = {
    kind.__name__: kind for kind in (recordings, profiles, lists, configurations, reports, networks)
}


def limit_memory() -> None:
    """No more than :data:`MEMORY` from here on, where the system can tell (Linux)."""
    try:
        import resource

        status = Path("/proc/self/status").read_text()
    except (ImportError, OSError):
        return
    used = int(re.search(r"VmData:\s+(\d+)", status)[1]) << 10  # type: ignore[index]
    resource.setrlimit(resource.RLIMIT_DATA, (used + MEMORY, used + MEMORY))


def main() -> None:
    """Try one input after another; the last line says how far it came."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=10**9)
    parser.add_argument("--seconds", type=float, default=10**9)
    parser.add_argument("--model", type=Path)
    options = parser.parse_args()
    out = os.fdopen(os.dup(1), "w", buffering=1)
    with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryFile() as heard:
        os.dup2(heard.fileno(), 1)  # what a library prints from here on
        attempt = KINDS[options.kind](Path(scratch), options.model)
        limit_memory()
        started = time.monotonic()
        for number in range(options.first, options.first + options.count):
            if time.monotonic() - started > options.seconds:
                break
            out.write(f"{number}\n")
            rng = np.random.default_rng([options.seed, zlib.crc32(options.kind.encode()), number])
            faulthandler.dump_traceback_later(HANGING, exit=True)
            before = time.process_time()
            try:
                attempt(rng)
            except SpeakerguardError:
                pass
            except BaseException:
                traceback.print_exc()
                sys.exit(1)
            faulthandler.cancel_dump_traceback_later()
            if (took := time.process_time() - before) > LONGEST:
                sys.exit(f"took {took:.1f} s of processor")
            if os.fstat(heard.fileno()).st_size:
                heard.seek(0)
                sys.exit(f"printed on standard output: {heard.read()[:200]!r}")


if __name__ == "__main__":
    main()
