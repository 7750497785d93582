"""``advgan-infer``: convert recordings to other voices, and say what the guard makes of it.

    advgan-infer -s src.wav -t tgt.wav
    advgan-infer -s speeches/ -t target_voices/ -o out

Everything printed is measured on the 16-bit file as saved and read back. For research and for
testing verifiers of your own; only with voices whose owners agreed.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import sys
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from advgan.command import Parser, at_least, ending, work
from advgan.conversion.converter import (
    Converter,
    Copier,
    Heard,
    PerturbingConverter,
    hear,
    save_wav,
    some_of,
)
from advgan.conversion.described import check_config, check_dsp
from advgan.conversion.fitting import STEPS
from advgan.judging.judge import DISCRIMINATOR, Detector, Judge, Opinion, quality
from advgan.judging.pictures import plot_conversion
from advgan.judging.words import Words, compare, transcribe
from advgan.networks import checkpoint
from advgan.networks.mel import STANDARD
from speakerguard.errors import AudioError, UsageError
from speakerguard.files import file_hash, replace_file
from speakerguard.sound.audio import AUDIO_SUFFIXES, SAMPLE_RATE, printable, read

SEED = 961998  # the reference's
OUT = Path("out/attack")
MODES = {
    "convert": "the source's words in the target's voice",
    "perturb": "the source with a bounded sound added",
    "copy": "the source through mel and vocoder alone, a control",
}
MODES_OF = {  # what an option is for
    "load": ("convert", "perturb"),
    "config": ("convert",),
    "vocoder": ("convert", "copy"),
    "steps": ("convert",),
    "eps": ("convert", "perturb"),
}


@dataclass(frozen=True)
class Settings:
    """What all conversions of one call share; see the command's options."""

    load: str | None = None
    config: Path | None = None
    dsp_config: Path | None = None
    seglen: int | None = None
    seed: int = SEED
    mode: str = "convert"
    eps: float | None = None
    vocoder: str | None = None
    steps: int | None = None
    guard: str = "guard"
    point: str | None = None
    tag: bool = True
    words: bool = True


# with source, target, what is enrolled, and what to call the result
Job = tuple[Settings, Path, Path, tuple[Path, ...], Path]


class Session:
    """Networks loaded once, conversions one after another."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        torch.set_num_threads(1)  # the same sums in the same order, however many processes
        torch.manual_seed(settings.seed)
        self.converter: Converter | PerturbingConverter | Copier
        if settings.mode == "copy":
            self.converter = Copier(settings.vocoder)
        elif settings.mode == "perturb":
            self.converter = PerturbingConverter(settings.load, settings.guard, settings.eps)
        else:
            self.converter = Converter(
                settings.load,
                settings.vocoder,
                settings.guard,
                settings.steps or 0,
                settings.eps,
            )
            check_config(settings.config, self.converter.generator.config)
        check_dsp(settings.dsp_config)
        self.judge = Judge(settings.guard, settings.point)
        self.detector = Detector() if checkpoint.shipped(DISCRIMINATOR) else None

    @property
    def vocoder(self) -> str | None:
        """Name of the vocoder in use; None for a mode without."""
        return getattr(getattr(self.converter, "vocoder", None), "name", None)

    @property
    def weights(self) -> str:
        """Fingerprints of what converts, of the guard and its threshold, and of the detector."""
        judges = (self.judge.verifier.scoring.decides_by, getattr(self.detector, "fingerprint", ""))
        return " ".join([self.converter.fingerprint, self.vocoder or "", *judges])

    def attack(
        self, source: Path, target: Path, stem: Path, enrol: Sequence[Path] = (),
        picture: bool = True,
    ) -> dict[str, Any]:  # fmt: skip
        """Convert, save ``stem``.wav, .json and .png, measure; returns what is in the JSON.

        Args:
            enrol: what the guard has enrolled; the target's recording itself where empty, which
                flatters the attack.

        Raises:
            AudioError: a recording cannot be used; then nothing is written.
        """
        voice, words = hear(target, speech_only=True), hear(source)
        whole = (zlib.crc32(heard.waveform.tobytes()) for heard in (voice, words))
        rng = np.random.default_rng([self.settings.seed, *whole])  # another place in each pair
        voice, words = (cut(heard, self.settings.seglen, rng) for heard in (voice, words))
        profile = self.judge.profile(list(enrol) or [target])
        started = time.perf_counter()
        made = self.converter.convert(words, voice)
        seconds = time.perf_counter() - started
        path = stem.with_name(stem.name + ".wav")
        save_wav(path, made, self.converter.rate, self.settings.tag)
        said_before = (words.waveform, SAMPLE_RATE) if self.settings.seglen else source
        before, after = (self.judge.opinion(profile, heard) for heard in (said_before, path))
        said = self._said(words, path)
        record: dict[str, Any] = {
            "source": str(source),
            "target": str(target),
            "enrol": [str(path) for path in enrol or [target]],
            "output": str(path),
            "sha256": file_hash(path),
            "mode": self.settings.mode,
            "generator": self.converter.name,
            "fingerprint": self.converter.fingerprint,
            "vocoder": self.vocoder,
            "eps": getattr(self.converter, "epsilon", None),
            "steps": getattr(self.converter, "steps", None),
            "seed": self.settings.seed,
            "before": dataclasses.asdict(before),
            "after": dataclasses.asdict(after),
            "detector_llr": self._detected(path),
            "quality": quality(path, words)
            | {"word_error_rate": said.error_rate if said else None},
            "words": dataclasses.asdict(said) if said else None,
            "conversion_seconds": seconds,
            "tagged_synthetic": self.settings.tag,
        }
        replace_file(stem.with_name(stem.name + ".json"), json.dumps(record, indent=2) + "\n")
        if picture:
            plot_conversion(source, target, path, stem.with_name(stem.name + ".png"))
        return record

    def _said(self, source: Heard, path: Path) -> Words | None:
        """What a recogniser hears in source and file; None where it is not asked, or not sure."""
        said = transcribe(source.waveform) if self.settings.words else None
        return compare(said, transcribe(read(path))) if said and said.understood else None

    def _detected(self, path: Path) -> float | None:
        """What the discriminator makes of a file; None where there is none, or no speech."""
        if self.detector is None:
            return None
        try:
            return self.detector.llr(path)
        except AudioError:
            return None


def cut(heard: Heard, frames: int | None, rng: np.random.Generator) -> Heard:
    """``frames`` mel frames of a recording, from a random place; all where it is no longer."""
    if frames is None:
        return heard
    return some_of(heard, frames * STANDARD.hop / STANDARD.sample_rate, rng)


def recordings(path: Path) -> list[Path]:
    """A file itself, or all recordings directly in a folder.

    Raises:
        UsageError: there is none.
    """
    if path.is_dir():
        named = (p for p in path.iterdir() if p.suffix.lower() in AUDIO_SUFFIXES)
        found = sorted(p for p in named if p.is_file())
        if found:
            return found
        raise UsageError(f"{path}: holds no recordings ({', '.join(sorted(AUDIO_SUFFIXES))}).")
    if not path.exists():
        raise UsageError(f"{path}: no such file or folder. Check the path.")
    if not path.is_file():
        raise UsageError(
            f"{path}: is a pipe or a device, and recordings are read more than once. Save it to a "
            "file first."
        )
    return [path]


def describe(record: dict[str, Any]) -> str:
    """A record as people read it."""
    sound = record["quality"]
    before, after = (Opinion(**record[when]) for when in ("before", "after"))
    decision = "ACCEPT" if after.accepted else "reject"
    shown = {
        "DNSMOS": sound["dnsmos"],
        "STOI to source": sound["stoi_to_source"],
        "pitch correlation": sound["pitch_correlation"],
    }
    figures = ", ".join(f"{name} {v:.2f}" for name, v in shown.items() if v is not None)
    own = "; of the recording imitated" if record["enrol"] == [record["target"]] else ""
    llr = record["detector_llr"]
    opinion = "no discriminator, or no speech" if llr is None else f"LLR {llr:+.2f} for real speech"
    fitted = f" fitted in {record['steps']} steps" if record["steps"] else ""
    fitted += f", perturbed by {record['eps']:g}" if record["eps"] else ""
    return "\n".join(
        [
            printable(f"{record['source']} -> {record['target']}"),
            f"  guard     {before.shown} before, {after.shown} after, in {after.unit}",
            f"  decision  {decision}; threshold {after.threshold:+.3f} ({after.point}){own}",
            f"  detector  {opinion}",
            f"  quality   {figures or 'not measured'}",
            f"  words     {_shown(record['words'])}",
            f"  took      {record['conversion_seconds']:.2f} s for {sound['seconds']:.1f} s, with "
            f"{printable(record['generator'])}{fitted} and {record['vocoder'] or 'no vocoder'}",
            printable(f"  saved     {record['output']}"),
        ]
    )


def _shown(words: dict[str, Any] | None) -> str:
    if words is None:
        return "not compared: the source was not understood, or nobody asked"
    found = Words(**words)
    return (
        f"{100 * found.error_rate:.0f} % wrong of the {found.count} that were heard in the source: "
        f"{found.made or '(none)'}"
    )


@functools.lru_cache(maxsize=1)
def load_session(settings: Settings) -> Session:
    """The session of these settings, loaded once in this process."""
    return Session(settings)


def run_job(job: Job) -> dict[str, Any] | str:
    """One conversion in this process: its record, or why there is none."""
    settings, source, target, enrol, stem = job
    try:
        return load_session(settings).attack(source, target, stem, enrol)
    except AudioError as error:
        return str(error)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    with ending("advgan-infer", "what is listed above is saved"):
        sys.exit(AudioError.exit_code if run(parse(arguments)) else 0)


def run(options: argparse.Namespace) -> int:
    """All conversions asked for; returns how many failed, each of which was printed."""
    settings = settings_of(options)
    sources, targets = recordings(options.source), recordings(options.target)
    pairs = [(s, t) for s in sources for t in targets]
    stems = [options.output / f"{s.stem}_to_{t.stem}" for s, t in pairs]
    if len(set(stems)) < len(stems):
        raise UsageError("two recordings have the same name; rename one, or convert them apart.")
    enrol = tuple(file for path in options.enrol for file in recordings(path))
    if enrol and len(targets) > 1:
        raise UsageError("--enrol is of one speaker: give one --target with it.")
    if options.dry:
        load_session(settings)
        print("\n".join(printable(f"{s} -> {t}") for s, t in pairs))
        return 0
    jobs = [(settings, s, t, enrol, stem) for (s, t), stem in zip(pairs, stems, strict=True)]
    load_session(settings)  # what is wrong with the settings shows at once
    if settings.steps:
        count = f"{len(jobs)} voices" if len(jobs) > 1 else "a voice"
        said = f"fitting {count} in {settings.steps} steps; --steps 0 converts in one pass"
        print(said, file=sys.stderr, flush=True)
    failures = sum(_show(result, job) for job, result in work(run_job, jobs, options.njobs))
    if failures and len(jobs) > 1:
        print(f"advgan-infer: {failures} of {len(jobs)} failed, listed above", file=sys.stderr)
    return failures


def _show(result: dict[str, Any] | str, job: Job) -> int:
    if isinstance(result, str):
        print(f"advgan-infer: {printable(f'{job[1]} -> {job[2]}: {result}')}", file=sys.stderr)
        return 1
    print(describe(result), flush=True)
    return 0


def settings_of(options: argparse.Namespace) -> Settings:
    """The options that a conversion depends on.

    Raises:
        UsageError: an option that the mode would ignore.
    """
    names = [field.name for field in dataclasses.fields(Settings)]
    settings = Settings(**{name: getattr(options, name) for name in names})
    if settings.mode == "convert" and settings.steps is None:
        settings = dataclasses.replace(settings, steps=options.usual_steps)
    for name, modes in MODES_OF.items():
        if getattr(settings, name) is not None and settings.mode not in modes:
            raise UsageError(
                f"--{name} means nothing with --mode {settings.mode}. Leave it out, or choose "
                f"--mode {' or '.join(modes)}."
            )
    return settings


def add_settings(parser: argparse.ArgumentParser, steps: int) -> None:
    """The options that every command that converts has; ``steps`` of fitting are its default."""
    add = parser.add_argument
    add(
        "--load", "-l",
        help="generator: a shipped name, folder, file, or original .pth; default: again-vc, or "
        "adversarial where no voice is fitted",
    )  # fmt: skip
    add("--config", "-c", type=Path, help="training configuration the weights must agree with")
    add("--dsp-config", "-d", type=Path, help="mel description that must agree with ours")
    add(
        "--seglen",
        type=at_least(32),
        help="use so many mel frames of each recording, from a random place",
    )
    add("--seed", type=at_least(0), default=SEED, help="of those places; default %(default)s")
    modes = "; ".join(f"{name}: {what}" for name, what in MODES.items())
    add("--mode", choices=MODES, default="convert", help=f"{modes}; default %(default)s")
    add(
        "--eps", type=float,
        help="largest change of a sample, full scale 1: by perturb, or by a perturbation after a "
        "conversion, which has none unless told; that is bounded at 16 kHz, and resampled to the "
        "file and back it peaks a quarter higher",
    )  # fmt: skip
    parser.set_defaults(usual_steps=steps)
    add(
        "--steps",
        type=at_least(0),
        help="convert: gradient steps by which the voice is fitted to the guard; 0 converts in one "
        f"pass, many times as fast; default {steps}",
    )
    add("--vocoder", help="griffin-lim, or a trained vocoder; default: the shipped one if any")
    add("--guard", default="guard", help="verifier that is asked; default %(default)s")
    add("--point", help="its operating point; default: its own")
    add(
        "--no-tag", dest="tag", action="store_false",
        help="leave out the note in the WAV file that it is synthetic",
    )  # fmt: skip


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = Parser(
        prog="advgan-infer", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("--source", "-s", type=Path, required=True, help="what is said: a recording or a folder")
    add("--target", "-t", type=Path, required=True, help="whose voice: a recording or a folder")
    add(
        "--enrol", type=Path, nargs="+", default=[], metavar="FILE",
        help="what the guard has enrolled of the target; without it the target's own recording, "
        "the very one that is imitated, which flatters the attack",
    )  # fmt: skip
    add("--output", "-o", type=Path, default=OUT, help="folder to write to; default %(default)s")
    add("--njobs", "-p", type=at_least(1), default=1, help="processes; default %(default)s")
    add(
        "--no-words", dest="words", action="store_false",
        help="do not compare what a speech recogniser hears; it takes half the recording's time",
    )  # fmt: skip
    add("--dry", action="store_true", help="check everything and list the pairs, convert nothing")
    add_settings(parser, STEPS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
