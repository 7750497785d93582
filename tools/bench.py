"""Time the guard and its peers side by side, and renew the table of speed.

    python tools/bench.py [--root ../shared/corpus/dev] [--rounds 5] [--systems guard campplus]

Every figure is the median over rounds in which the systems take turns, so that a slow moment of the
machine hits all of them. *Cold* is a whole process with warm disk caches: ``speakerguard verify``
on one clip of about 5 s, for the peers in torch the shortest program that embeds it. *Throughput*
is seconds of speech embedded a second, one clip after another, features included, decoding and
speech detection not. Written to results/bench.json and between the marks of the pages.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pages import ROOT, SPEECH, renew

from speakerguard.cli.ending import ending
from speakerguard.errors import UsageError
from speakerguard.files import replace_file
from speakerguard.network import checkpoint
from speakerguard.sound.speech import load_speech

OUT = ROOT / "results/bench.json"
SYSTEMS = {  # title, model, engine
    "fused": ("fused, the default", "fused", "auto"),
    "guard": ("guard, ONNX Runtime", "guard", "onnxruntime"),
    "guard-int8": ("guard, 8 bits, ONNX Runtime", "guard-int8", "onnxruntime"),
    "guard-openvino": ("guard, OpenVINO", "guard", "openvino"),
    "guard-torch": ("guard, torch", "guard", "torch"),
    "campplus": ("CAM++, ONNX Runtime", "campplus", "auto"),
    "resemblyzer": ("Resemblyzer, ONNX Runtime", "resemblyzer", "auto"),
    "campplus-torch": ("CAM++, torch", "campplus", "torch"),
    "resemblyzer-torch": ("Resemblyzer, torch", "resemblyzer", "torch"),
}
REFERENCE = "resemblyzer-torch"  # as its package runs it
CLIPS, COLD_SECONDS = 25, 5.0
COLD = """
import sys
from speakerguard.embedders.load import load
from speakerguard.sound.speech import load_speech
load(sys.argv[1]).embed([load_speech(sys.argv[2]).samples])
"""


def main() -> None:
    """Measure all systems in turn, then write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=SPEECH)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=present())
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        print(json.dumps(work(*options.work)))
        return
    busy = os.getloadavg()[0] > 0.5
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # compiled once, as it is for everybody else
    with tempfile.TemporaryDirectory() as scratch:
        clips = choose(options.root, Path(scratch))
        rows = measure(options.systems, options.rounds, clips, Path(scratch))
    report = {"machine": machine(), "busy": busy, "rounds": options.rounds, "systems": rows}
    OUT.parent.mkdir(exist_ok=True)
    replace_file(OUT, json.dumps(report, indent=2) + "\n")
    table = describe(report)
    print(table)
    renew("bench", table)


def present() -> list[str]:
    """All systems but those that decide and have no thresholds here."""
    guards = {path.parent.name for path in checkpoint.folder().glob("*/calibration.json")}
    return [name for name in SYSTEMS if not decides(name) or SYSTEMS[name][1] in guards]


def decides(name: str) -> bool:
    """Whether a system decides: it runs without torch and has thresholds."""
    return not name.endswith("-torch") or name.startswith("guard")


def choose(root: Path, scratch: Path) -> Path:
    """A JSON list of files, evenly spread; the first lies nearest to COLD_SECONDS."""
    found = sorted(path for path in root.rglob("*") if path.suffix in {".opus", ".flac", ".wav"})
    if not found:
        raise UsageError(f"{root}: no recordings. Name a folder that has some with --root.")
    files = found[:: max(1, len(found) // CLIPS)][:CLIPS]
    files.sort(key=lambda path: abs(load_speech(path, 0).total_seconds - COLD_SECONDS))
    listed = scratch / "clips.json"
    listed.write_text(json.dumps([str(path.resolve()) for path in files]))
    return listed


def measure(systems: list[str], rounds: int, clips: Path, scratch: Path) -> dict[str, Any]:
    """Medians, and ratios to the reference round by round."""
    clip = json.loads(clips.read_text())[0]
    for model in {SYSTEMS[name][1] for name in systems if decides(name)}:
        enrol = ["-m", "speakerguard", "enroll", "someone", clip, "--model", model]
        line = [sys.executable, *enrol, "--store", str(scratch / f"{model}.db")]
        subprocess.run(line, check=True, capture_output=True)
    raw: dict[str, dict[str, list[float]]] = {name: {} for name in systems}
    for turn in range(rounds + 1):
        for name in systems[turn % len(systems) :] + systems[: turn % len(systems)]:
            found = once(name, clip, clips)
            if turn:  # the first fills the disk caches
                for key, value in found.items():
                    raw[name].setdefault(key, []).append(value)
        print(f"round {turn} of {rounds}", file=sys.stderr, flush=True)
    rows: dict[str, Any] = {}
    for name, values in raw.items():
        rows[name] = {key: statistics.median(series) for key, series in values.items()}
        if REFERENCE in systems:
            rows[name]["ratio"] = {
                key: statistics.median(
                    a / b for a, b in zip(series, raw[REFERENCE][key], strict=True)
                )
                for key, series in values.items()
            }
    return rows


def once(name: str, clip: str, clips: Path) -> dict[str, float]:
    """One cold process, and one process of each thread count for the throughput."""
    _, model, engine = SYSTEMS[name]
    own = {**os.environ, "SPEAKERGUARD_ENGINE": engine}
    cold = ["-c", COLD, model, clip]
    if decides(name):
        cold = ["-m", "speakerguard", "verify", "someone", clip, "--model", model]
        cold += ["--store", str(clips.with_name(f"{model}.db"))]
    found = timed([sys.executable, *cold], own)
    for threads in ("1", "2"):
        line = [sys.executable, __file__, "--work", name, str(clips)]
        limits = {"OMP_NUM_THREADS": threads, "SPEAKERGUARD_THREADS": threads}
        done = subprocess.run(line, env={**own, **limits}, check=True, capture_output=True)
        found[f"throughput_{threads}"] = json.loads(done.stdout.splitlines()[-1])
    return found


def timed(line: list[str], environment: dict[str, str]) -> dict[str, float]:
    """Wall and processor seconds and peak resident megabytes; exit codes 0 and 1 are answers."""
    began = time.perf_counter()
    with subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        took = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):
        raise UsageError(f"failed: {' '.join(line)}")
    return {
        "cold_s": took,
        "cold_cpu_s": usage.ru_utime + usage.ru_stime,
        "cold_mb": usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3),
    }


def work(name: str, clips: str) -> float:
    """Seconds of speech embedded a second, in this process."""
    from speakerguard.embedders import load as engines

    _, model, engine = SYSTEMS[name]
    embedder = engines.load(model, engine)
    speech = [load_speech(path, 0).samples for path in json.loads(Path(clips).read_text())]
    speech = [samples for samples in speech if len(samples) >= embedder.min_samples]
    seconds = sum(map(len, speech)) / embedder.sample_rate
    embedder.embed(speech[:3])
    began = time.perf_counter()
    for samples in speech:
        embedder.embed([samples])
    return seconds / (time.perf_counter() - began)


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    model = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).exists():
        names = re.findall(r"model name\s*: (.*)", info.read_text())
        model = names[0] if names else model
    return {"cpu": model, "cores": os.cpu_count(), "python": platform.python_version()}


def describe(report: dict[str, Any]) -> str:
    """A Markdown table: a row a system."""
    lines = [
        "| | cold process, one 5 s clip | of it processor | peak memory | speech s/s, 1 thread "
        "| 2 threads |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in report["systems"].items():
        ratio = row.get("ratio")
        speed = f" ({ratio['throughput_1']:.2f} × Resemblyzer)" if ratio else ""
        cold = f" ({ratio['cold_s']:.2f} ×)" if ratio else ""
        lines.append(
            f"| {SYSTEMS[name][0]} | {row['cold_s']:.2f} s{cold} | {row['cold_cpu_s']:.2f} s "
            f"| {row['cold_mb']:.0f} MB "
            f"| {row['throughput_1']:.0f}{speed} | {row['throughput_2']:.0f} |"
        )
    where = report["machine"]
    lines += ["", f"{where['cpu']}, {where['cores']} cores; medians of {report['rounds']} rounds."]
    if report["busy"]:
        lines[-1] += (
            " **The machine was busy with other work: times are upper bounds; only ratios count.**"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    with ending("bench", "nothing was written"):
        main()
