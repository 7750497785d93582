"""More voices to train on, made from a corpus and kept where the teacher hears them as new.

Three kinds are made: ``formant`` moves pitch and formants of a speaker, ``mixed`` gives a speaker
part of another's spectra and pitch, ``synthetic`` is eSpeak NG with a drawn accent, variant and
tract. CAM++ judges each on its audio as it is stored: a new voice is kept if it is apart from every
speaker of the corpus and from every voice kept before, and if its clips are alike. The result is
laid out as the corpus is, ``<kind>/<speaker>/<utterance>.opus``, so training can read it beside.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import torch

from speakerguard.embedders.peers_torch import CamPlusPlus
from speakerguard.errors import AudioError, UsageError
from speakerguard.files import replace_file, whole_file
from speakerguard.journal import Journal
from speakerguard.progress import Tell, each_tenth
from speakerguard.sound.audio import SAMPLE_RATE, Waveform, read
from speakerguard.sound.espeak import SENTENCES, Espeak, Voice, variants
from speakerguard.sound.voice import change_voice, mix_voices
from speakerguard.training.data import SpeechSet, default_workers, prepare
from speakerguard.training.teacher import teach
from speakerguard.verification.profile import centroid

KINDS = ("formant", "mixed", "synthetic")
JOURNAL, MANIFEST = "journal.jsonl", "manifest.tsv"
COLUMNS = ("utterance", "kind", "origin", "how", "to_origin", "nearest", "cosine", "coherence")
ACCENTS = ("en-us", "en-us-nyc", "en-029", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan")
PEAK = 0.7  # full scale is 1
POOL_SECONDS = 60  # of the other speaker's speech, that a mixed voice takes spectra from

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class VoicePlan:
    """What to make; the same plan makes the same voices, to the sample.

    Attributes:
        kinds: of :data:`KINDS`.
        speakers: of the corpus, drawn by ``seed``, to start from; None for all.
        tries: candidates of each kind and speaker.
        clips: of each voice, each at most 6 s; at least 2.
        apart: highest cosine between the mean of a new voice and that of any other. Of 529 real
            speakers, three in four have their nearest within 0.75, half within 0.67.
        coherent: lowest mean cosine between a new voice's clips.
    """

    kinds: tuple[str, ...] = KINDS
    speakers: int | None = None
    tries: int = 2
    clips: int = 8
    apart: float = 0.75
    coherent: float = 0.6
    seed: int = 0


@dataclass(frozen=True)
class Candidate:
    """A voice to be tried: ``origin`` is a speaker of the corpus or ``""``, ``how`` its recipe."""

    name: str
    kind: str
    origin: str
    how: dict[str, Any]
    seed: tuple[int, ...]


def make_voices(
    corpus: Path, out: Path, plan: VoicePlan, cache: Path, report: Tell = print, skip: bool = True
) -> list[dict[str, Any]]:
    """Make, judge and keep voices below ``out``; the same call goes on after a kill.

    Args:
        corpus: folder of labelled speakers, as :func:`speakerguard.training.data.prepare` reads
            them.
        cache: where prepared speech and the teacher's embeddings are kept; training shares it.
        report: gets a line at each tenth of the work, and for each recording left out.
        skip: go on without recordings that cannot be used.

    Returns:
        A record of each candidate, refused ones too: ``name``, ``kind``, ``origin``, ``how``,
        ``kept``, ``to_origin``, ``nearest``, ``cosine`` (to the nearest), ``coherence``, ``clips``.

    Raises:
        UsageError: an impossible plan, no usable speech, or a folder of another plan.
        AudioError: a recording cannot be used, without ``skip``.
    """
    if unknown := [kind for kind in plan.kinds if kind not in KINDS]:
        raise UsageError(f"{unknown[0]!r} is no kind of voice; there are {', '.join(KINDS)}.")
    if plan.clips < 2 or plan.tries < 1:
        raise UsageError("a voice needs 2 clips or more, to be compared, and 1 try or more.")
    speech = prepare(corpus, cache, True, default_workers(), each_tenth(report, corpus))
    if speech.skipped:
        reasons = "\n  ".join(reason for _, reason in speech.skipped)
        count = f"{len(speech.skipped)} recordings of {corpus}"
        if not skip:
            raise AudioError(f"{count} cannot be used:\n  {reasons}")
        report(f"{count} left out:\n  {reasons}")
    segments = _segments(speech)
    embeddings = teach(speech, 1.0, each_tenth(report, "teacher")).astype(np.float32)
    known = {name: centroid(embeddings[places]) for name, places in segments.items()}
    candidates = list(_candidates(plan, segments))
    journal = Journal(out / JOURNAL, {"plan": asdict(plan), "speech": speech.folder.name})
    records = {record["name"]: record for record in journal.read()}
    for record in records.values():
        if record["kept"]:
            known[record["name"]] = np.array(record["mean"], np.float32)
    teacher, progress = CamPlusPlus(), each_tenth(report, "voices", len(records))
    for done, candidate in enumerate(candidates, start=1):
        if candidate.name not in records:
            clips = [_stored(clip) for clip in _render(candidate, plan.clips, speech, segments)]
            record = asdict(candidate) | _judge(teacher, clips, candidate, known, plan)
            if record["kept"]:
                known[candidate.name] = np.array(record["mean"], np.float32)
                record["clips"] = _write(out / candidate.name, clips)
            journal.append(record)
            records[candidate.name] = record
            progress(done, len(candidates))
    judged = [records[candidate.name] for candidate in candidates]
    _write_manifest(out, judged)
    return judged


def summary(records: Sequence[dict[str, Any]]) -> str:
    """How many of each kind were kept and what the teacher hears in all, as Markdown."""
    columns = ("kind", "tried", "kept", "to origin", "to the nearest", "coherence")
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for kind in KINDS:
        rows = [record for record in records if record["kind"] == kind]
        if not rows:
            continue
        origin = [r["to_origin"] for r in rows if r["to_origin"] is not None]
        cells = [f"{median(origin):.2f}" if origin else "–"]
        cells += [f"{median(r[key] for r in rows):.2f}" for key in ("cosine", "coherence")]
        kept = sum(record["kept"] for record in rows)
        lines.append(f"| {kind} | {len(rows)} | {kept} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _segments(speech: SpeechSet) -> dict[str, list[int]]:
    """The segments of each speaker, who are in order."""
    found: dict[str, list[int]] = {str(name): [] for name in sorted(map(str, speech.speakers))}
    for index, name in enumerate(speech.speakers):
        found[str(name)].append(index)
    return found


def _candidates(plan: VoicePlan, segments: dict[str, list[int]]) -> Iterator[Candidate]:
    """All voices to try: every speaker's first ones come before anybody's second ones."""
    usable = [name for name, places in segments.items() if len(places) > 1]
    if len(usable) < 2:
        raise UsageError("new voices need two speakers with two recordings each, or more.")
    rng = np.random.default_rng(plan.seed)
    drawn = [usable[i] for i in rng.permutation(len(usable))[: plan.speakers]]
    for attempt in range(1, plan.tries + 1):
        for number, speaker in enumerate(drawn):
            for kind in plan.kinds:
                seed = (plan.seed, attempt, usable.index(speaker), KINDS.index(kind))
                how = _recipe(kind, speaker, usable, np.random.default_rng(seed))
                origin, name = speaker, f"{speaker.replace('/', '-')}-{attempt}"
                if kind == "synthetic":
                    origin, name = "", f"{number:04d}-{attempt}"
                yield Candidate(f"{kind}/{name}", kind, origin, how, seed)


def _recipe(kind: str, speaker: str, usable: list[str], rng: np.random.Generator) -> dict[str, Any]:
    if kind == "formant":
        pitch, formants = np.exp(rng.uniform((0.1, 0.08), (0.35, 0.22)) * rng.choice([-1, 1], 2))
        return {"pitch": _round(pitch), "formants": _round(formants)}
    if kind == "mixed":
        others = [name for name in usable if name != speaker]
        return {"with": others[rng.integers(len(others))], "share": _round(rng.uniform(0.5, 1))}
    return {
        "espeak": f"{rng.choice(ACCENTS)}+{rng.choice(variants())}",
        "pitch": int(rng.integers(5, 95)),
        "range": int(rng.integers(20, 85)),
        "rate": int(rng.integers(145, 185)),
        "formants": _round(np.exp(rng.uniform(-0.2, 0.22))),
    }


def _render(
    candidate: Candidate, count: int, speech: SpeechSet, segments: dict[str, list[int]]
) -> list[Waveform]:
    """The candidate's clips."""
    rng, how = np.random.default_rng((*candidate.seed, 1)), candidate.how
    if candidate.kind == "synthetic":
        voice = Voice(candidate.name, **how)
        words = [rng.choice(len(SENTENCES), 2, replace=False) for _ in range(count)]
        with Espeak() as espeak:  # a new one: a used one would not repeat itself
            return [espeak.say(f"{SENTENCES[a]} {SENTENCES[b]}", voice) for a, b in words]
    own = segments[candidate.origin]
    clips = [speech.segment(i) for i in rng.choice(own, min(count, len(own)), replace=False)]
    if candidate.kind == "formant":
        return [change_voice(clip, how["pitch"], how["formants"]) for clip in clips]
    order = rng.permutation(segments[how["with"]])
    other = np.concatenate([speech.segment(int(index)) for index in order[:20]])
    return [mix_voices(clip, other[: POOL_SECONDS * SAMPLE_RATE], how["share"]) for clip in clips]


def _judge(
    teacher: CamPlusPlus,
    clips: list[bytes],
    candidate: Candidate,
    known: dict[str, Vectors],
    plan: VoicePlan,
) -> dict[str, Any]:
    """What the teacher hears in the clips as stored, and whether that is a voice apart."""
    with torch.inference_mode():
        rows = [teacher(torch.from_numpy(read(clip))[None])[0].numpy() for clip in clips]
    embeddings = np.stack(rows)
    mean = centroid(embeddings)
    between = (embeddings @ embeddings.T)[np.triu_indices(len(rows), 1)]
    coherence = _round(between.mean())
    cosines = np.stack(list(known.values())) @ mean
    nearest = int(cosines.argmax())
    cosine = _round(cosines[nearest])
    return {
        "kept": cosine < plan.apart and coherence >= plan.coherent,
        "to_origin": _round(known[candidate.origin] @ mean) if candidate.origin else None,
        "nearest": list(known)[nearest],
        "cosine": cosine,
        "coherence": coherence,
        "mean": [_round(value) for value in mean],
        "clips": [],
    }


def _stored(clip: Waveform) -> bytes:
    """The clip as Opus."""
    buffer = io.BytesIO()
    level = clip * np.float32(PEAK / max(float(np.abs(clip).max()), 1e-6))
    soundfile.write(buffer, level, SAMPLE_RATE, format="OGG", subtype="OPUS")
    return buffer.getvalue()


def _write(folder: Path, clips: list[bytes]) -> list[str]:
    names = [f"{number:03d}.opus" for number in range(1, len(clips) + 1)]
    for name, clip in zip(names, clips, strict=True):
        with whole_file(folder / name) as part:
            part.write_bytes(clip)
    return names


def _write_manifest(out: Path, records: Sequence[dict[str, Any]]) -> None:
    lines = ["\t".join(COLUMNS)]
    for record in records:
        row = record | {"how": json.dumps(record["how"], ensure_ascii=False)}
        for clip in record["clips"]:
            cells = [f"{record['name']}/{clip}", *(row[name] for name in COLUMNS[1:])]
            lines.append("\t".join("" if cell is None else str(cell) for cell in cells))
    replace_file(out / MANIFEST, "\n".join(lines) + "\n")


def _round(value: Any) -> float:
    return round(float(value), 4)
