"""What may happen to audio on its way to the guard, with a gradient, and its codecs without.

Rooms and noise pass gradients as they are; codecs are passed straight through.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor

from advgan.victim.pcm import straight_through
from speakerguard.errors import UsageError
from speakerguard.sound.audio import SAMPLE_RATE, Waveform
from speakerguard.sound.augment import simulated_room

Transform = Callable[[Tensor], Tensor]

# name: container, codec, sample rate that it carries
CODECS = {
    "opus": ("OGG", "OPUS", SAMPLE_RATE),
    "vorbis": ("OGG", "VORBIS", SAMPLE_RATE),
    "mp3": ("MP3", "MPEG_LAYER_III", SAMPLE_RATE),
    "gsm": ("WAV", "GSM610", 8_000),
    "mulaw": ("WAV", "ULAW", 8_000),
}


def round_trip(waveform: Waveform, codec: str, level: float = 0.9) -> Waveform:
    """``waveform``, float32 (n,) at 16 kHz, encoded and decoded; its length and level are kept.

    Args:
        codec: one of :data:`CODECS`. GSM is the full-rate codec of mobile telephones (06.10), a
            predecessor of AMR; it and mu-law carry 8 kHz.
        level: of compression, 0 to 1, where the codec has levels.

    Raises:
        UsageError: no such codec, or this libsndfile lacks it.

    >>> len(round_trip(np.zeros(16_000, np.float32), "mulaw"))
    16000
    """
    if codec not in CODECS:
        raise UsageError(f"unknown codec {codec!r}; there are {', '.join(CODECS)}.")
    container, subtype, rate = CODECS[codec]
    narrow = waveform if rate == SAMPLE_RATE else soxr.resample(waveform, SAMPLE_RATE, rate)
    options = {"compression_level": level} if rate == SAMPLE_RATE else {}
    buffer = io.BytesIO()
    try:
        soundfile.write(
            buffer, np.clip(narrow, -1, 1), rate, format=container, subtype=subtype, **options
        )
        buffer.seek(0)
        decoded, _ = soundfile.read(buffer, dtype="float32")
    except (soundfile.LibsndfileError, ValueError) as error:
        raise UsageError(f"this libsndfile cannot use the codec {codec!r}: {error}") from None
    if codec == "mp3":
        decoded = decoded[_delay(narrow, decoded) :]
    wide = decoded if rate == SAMPLE_RATE else soxr.resample(decoded, rate, SAMPLE_RATE)
    fitted = np.zeros(len(waveform), np.float32)
    count = min(len(wide), len(fitted))
    fitted[:count] = wide[:count]
    return fitted


def _delay(before: Waveform, after: Waveform) -> int:
    """Samples by which ``after`` lags, at most 0.2 s: MP3 does not say how long it delays."""
    size = 1 << int(np.ceil(np.log2(len(before) + len(after))))
    product = np.fft.irfft(np.fft.rfft(after, size) * np.conj(np.fft.rfft(before, size)), size)
    return int(np.argmax(product[: SAMPLE_RATE // 5]))


def random_transform(rng: np.random.Generator) -> Transform:
    """A room, a codec, noise, or a change of level: each maps waveforms (B, n) to (B, n)."""
    kind = rng.integers(4)
    if kind == 0:
        room = torch.from_numpy(simulated_room(rng))
        return lambda audio: convolved(audio, room)
    if kind == 1:
        codec, level = str(rng.choice(["opus", "vorbis", "mulaw"])), float(rng.uniform(0.5, 1))
        return lambda audio: torch.stack(
            [straight_through(x, round_trip(x.detach().numpy(), codec, level)) for x in audio]
        )
    if kind == 2:
        snr, seed = rng.uniform(15, 35), int(rng.integers(2**31))
        return lambda audio: noisy(audio, snr, seed)
    gain = float(10 ** (rng.uniform(-10, 3) / 20))
    return lambda audio: (gain * audio).clamp(-1, 1)


def convolved(audio: Tensor, room: Tensor) -> Tensor:
    """(B, n) in a room, aligned on the direct sound, at the same level, with gradient."""
    size = audio.shape[1] + len(room)
    wet = torch.fft.irfft(torch.fft.rfft(audio, size) * torch.fft.rfft(room, size), size)
    direct = int(room.abs().argmax())
    wet = wet[:, direct : direct + audio.shape[1]]
    level = audio.detach().square().mean(dim=1, keepdim=True).sqrt()
    return wet * (level / wet.detach().square().mean(dim=1, keepdim=True).sqrt().clamp(min=1e-9))


def noisy(audio: Tensor, snr: float, seed: int) -> Tensor:
    """(B, n) with white noise so many dB below."""
    noise = torch.randn(audio.shape, generator=torch.Generator().manual_seed(seed))
    level = audio.detach().square().mean(dim=1, keepdim=True).sqrt()
    return audio + noise * level * 10 ** (-snr / 20)
