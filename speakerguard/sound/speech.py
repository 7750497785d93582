"""The speech in a recording, and how much of it there is: no speech means no score.

Silero VAD (a small recurrent network that its authors maintain) says where speech is, through
ONNX Runtime and without importing torch. What is not speech is cut away before any model listens.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from speakerguard.errors import NoSpeechError, SilentAudioError, SpeakerguardError
from speakerguard.sound.audio import SAMPLE_RATE, AudioSource, Recording, Waveform, open_recording

FRAME = 512  # samples per speech decision, 32 ms; fixed by Silero VAD at 16 kHz
CONTEXT = 64  # samples of the previous frame that each decision sees as well
THRESHOLD = 0.5  # speech probability of a speech frame
PAD = 2  # frames kept on either side of speech, so that onsets survive
MIN_SPEECH = 0.5  # seconds of net speech below which there is no score
MAX_SPEECH = 120.0  # seconds of net speech after which reading stops
MAX_SECONDS = 1800.0  # of a recording that are searched for speech: an hour of nothing is small
SILENT_PEAK = 10 ** (-70 / 20)  # a recording that never exceeds -70 dBFS is silent
_LEVEL = 10 ** (-26 / 20)  # RMS to which a quiet block is raised for the detector, at most 30 dB


@dataclass(frozen=True)
class Warning:
    """Something about a recording that lowers trust in its score: a code and a sentence."""

    code: str
    message: str


@dataclass(frozen=True, eq=False)
class Speech:
    """The speech of one recording.

    Attributes:
        name: what to call the recording in messages.
        samples: float32 (n,), 16 kHz, in [-1, 1], with what is not speech cut away.
        kept: bool (frames,), which frames of :data:`FRAME` samples of the recording they are; its
            last frame is filled up with silence.
        net_seconds: seconds of speech in it, padding not counted.
        total_seconds: seconds of the recording that were read.
        warnings: what lowers trust in it.
    """

    name: str
    samples: Waveform
    kept: npt.NDArray[np.bool_]
    net_seconds: float
    total_seconds: float
    warnings: tuple[Warning, ...] = ()


class SpeechDetector:
    """Silero VAD over a stream of 16 kHz samples; keeps its state between calls.

    >>> float(SpeechDetector().probabilities(np.zeros(16_000, np.float32)).max()) < 0.5
    True
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget what was heard; the next call starts a new recording."""
        self._h = np.zeros((1, 1, 128), np.float32)
        self._c = np.zeros((1, 1, 128), np.float32)
        self._context = np.zeros(CONTEXT, np.float32)

    def probabilities(self, samples: Waveform) -> Waveform:
        """Speech probability of each whole frame of ``samples`` (n,): float32 (n // 512,)."""
        count = len(samples) // FRAME
        if count == 0:
            return np.zeros(0, np.float32)
        samples = samples[: count * FRAME]
        stream = np.concatenate([self._context, samples])
        frames = np.lib.stride_tricks.sliding_window_view(stream, CONTEXT + FRAME)[::FRAME]
        feed = {"input": np.ascontiguousarray(frames), "h": self._h, "c": self._c}
        probabilities, self._h, self._c = _silero().run(None, feed)
        self._context = samples[-CONTEXT:].copy()
        return np.asarray(probabilities, np.float32)


@functools.cache
def _silero() -> Any:
    import onnxruntime

    spec = importlib.util.find_spec("silero_vad")  # located, not imported: it would import torch
    if spec is None or spec.origin is None:
        raise SpeakerguardError("the package silero-vad is missing; run: pip install silero-vad")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model = Path(spec.origin).parent / "data" / "silero_vad_16k_sequence.onnx"
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def load_speech(source: AudioSource | Recording, min_seconds: float = MIN_SPEECH) -> Speech:
    """Read ``source`` and keep its speech.

    Reading stops after :data:`MAX_SPEECH` seconds of speech, or :data:`MAX_SECONDS` altogether,
    with a warning, so a recording of any length takes bounded memory and time.

    Args:
        source: as for :func:`speakerguard.sound.audio.open_recording`, or what that gave.
        min_seconds: least net speech for a score, in seconds.

    Raises:
        AudioError: one of its kinds, when the recording cannot be judged.
    """
    recording = source if isinstance(source, Recording) else open_recording(source)
    detector = SpeechDetector()
    blocks: list[Waveform] = []
    kept: list[npt.NDArray[np.bool_]] = []
    net = 0.0
    cut_short = None
    for block in _in_frames(recording.blocks()):
        if net >= MAX_SPEECH and len(block) >= SAMPLE_RATE:  # less is not worth stopping for
            cut_short = f"{MAX_SPEECH:.0f} s of speech was not read; so much is enough."
            break
        if recording.seconds > MAX_SECONDS:
            cut_short = f"{MAX_SECONDS / 60:.0f} min was not read."
            break
        speech = detector.probabilities(_level(block)) >= THRESHOLD
        kept.append(_widen(speech))
        blocks.append(block.reshape(-1, FRAME)[kept[-1]].reshape(-1))
        net += float(speech.sum()) * FRAME / SAMPLE_RATE
    _require_speech(recording, net, min_seconds, cut_short)
    samples, frames = np.concatenate(blocks), np.concatenate(kept)
    warnings = _warnings(recording, samples, cut_short)
    return Speech(recording.name, samples, frames, net, recording.seconds, tuple(warnings))


def _in_frames(blocks: Iterable[Waveform]) -> Iterable[Waveform]:
    """Re-cut blocks to whole frames; the end of the recording is zero-padded to one."""
    rest = np.zeros(0, np.float32)
    for block in blocks:
        rest = np.concatenate([rest, block])
        whole = len(rest) // FRAME * FRAME
        if whole:
            yield rest[:whole]
            rest = rest[whole:]
    if len(rest):
        yield np.pad(rest, (0, FRAME - len(rest)))


def _level(block: Waveform) -> Waveform:
    rms = float(np.sqrt(np.mean(np.square(block, dtype=np.float64))))
    gain = min(max(_LEVEL / max(rms, 1e-9), 1.0), 10 ** (30 / 20))
    levelled: Waveform = np.clip(block * np.float32(gain), -1.0, 1.0)
    return levelled


def _widen(speech: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    return np.convolve(speech, np.ones(2 * PAD + 1), mode="full")[PAD : PAD + len(speech)] > 0


def _require_speech(
    recording: Recording, net: float, min_seconds: float, cut_short: str | None
) -> None:
    name = recording.name
    unread = f" The part after {cut_short}" if cut_short else ""
    if recording.peak < SILENT_PEAK:
        raise SilentAudioError(
            f"{name}: the recording is silent. Check that the microphone is on and not muted."
        )
    if net == 0:
        raise NoSpeechError(
            f"{name}: no speech found in {recording.seconds:.1f} s. Record someone speaking."
            f"{unread}"
        )
    if net < min_seconds:
        raise NoSpeechError(
            f"{name}: only {net:.2f} s of speech in {recording.seconds:.1f} s; at least "
            f"{min_seconds} s are needed. Record a full sentence.{unread}"
        )


def _warnings(recording: Recording, samples: Waveform, cut_short: str | None) -> Iterable[Warning]:
    if recording.clipped > 1e-3 * recording.samples:
        share = 100 * recording.clipped / recording.samples
        yield Warning(
            "clipping", f"{share:.1f} % of the samples are clipped; lower the recording level."
        )
    if recording.rate < SAMPLE_RATE:
        yield Warning(
            "telephone-band",
            f"recorded at {recording.rate} Hz; the model expects {SAMPLE_RATE} Hz, so the score "
            "is less certain.",
        )
    elif _upper_band(samples) < 1e-5:
        yield Warning(
            "telephone-band",
            "nothing above 4 kHz, as from a telephone line; the score is less certain.",
        )
    if cut_short:
        yield Warning("long-recording", f"the part after {cut_short}")


def _upper_band(samples: Waveform) -> float:
    """Share of the energy that lies above 4.2 kHz."""
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    power = np.square(np.abs(np.fft.rfft(frames * np.hanning(FRAME), axis=1))).sum(axis=0)
    cut = round(4_200 * FRAME / SAMPLE_RATE)
    return float(power[cut:].sum() / max(power.sum(), 1e-30))
