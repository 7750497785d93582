"""``advgan-infer``: convert recordings to other voices, and say what the guard makes of it.

    advgan-infer -s src.wav -t tgt.wav
    advgan-infer -s speeches/ -t target_voices/ -o out

Everything printed is measured on the 16-bit file as saved and read back. For research and for
testing verifiers of your own; only with voices whose owners agreed.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from advgan.command import Parser, at_least, one_thread, work
from advgan.conversion.fitting import STEPS
from advgan.conversion.session import SEED, Converted, Settings, load_session
from advgan.judging.words import Words
from speakerguard.cli.ending import ending
from speakerguard.errors import AudioError, UsageError
from speakerguard.sound.audio import AUDIO_SUFFIXES, printable

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


# with source, target, what is enrolled, and what to call the result
Job = tuple[Settings, Path, Path, tuple[Path, ...], Path]


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


def describe(converted: Converted) -> str:
    """A conversion as people read it."""
    sound, before, after = converted.quality, converted.before, converted.after
    decision = "ACCEPT" if after.accepted else "reject"
    shown = {
        "DNSMOS": sound["dnsmos"],
        "STOI to source": sound["stoi_to_source"],
        "pitch correlation": sound["pitch_correlation"],
    }
    figures = ", ".join(f"{name} {v:.2f}" for name, v in shown.items() if v is not None)
    imitated = converted.enrol == [converted.target]
    own = "; against a profile of the recording imitated" if imitated else ""
    llr = converted.detector_llr
    opinion = "no discriminator, or no speech" if llr is None else f"LLR {llr:+.2f} for real speech"
    fitted = f" fitted in {converted.steps} steps" if converted.steps else ""
    fitted += f", perturbed by {converted.eps:g}" if converted.eps else ""
    return "\n".join(
        [
            printable(f"{converted.source} -> {converted.target}"),
            f"  guard     {before.shown} before, {after.shown} after, in {after.unit}",
            f"  decision  {decision}; threshold {after.threshold:+.3f} ({after.point}){own}",
            f"  detector  {opinion}",
            f"  quality   {figures or 'not measured'}",
            f"  words     {_shown(converted.words)}",
            f"  took      {converted.conversion_seconds:.2f} s for {sound['seconds']:.1f} s, with "
            f"{printable(converted.generator)}{fitted} and {converted.vocoder or 'no vocoder'}",
            printable(f"  saved     {converted.output}"),
        ]
    )


def _shown(found: Words | None) -> str:
    if found is None:
        return "not compared: the source was not understood, or nobody asked"
    return (
        f"{100 * found.error_rate:.0f} % wrong of the {found.count} that were heard in the source: "
        f"{found.made or '(none)'}"
    )


def run_job(job: Job) -> Converted | str:
    """One conversion in this process: what came of it, or why there is none."""
    settings, source, target, enrol, stem = job
    try:
        return load_session(settings).attack(source, target, stem, enrol)
    except AudioError as error:
        return str(error)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    with ending("advgan-infer", "what is listed above is saved"):
        one_thread()
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


def _show(result: Converted | str, job: Job) -> int:
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
