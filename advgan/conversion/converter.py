"""From a recording and a target to an attack: mel, generator, vocoder, waveform, WAV file.

What is saved says that it is synthetic. What is measured is measured on the saved file.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor

from advgan.conversion.fitting import finish, fit_voice
from advgan.legacy import load_pth
from advgan.networks import checkpoint
from advgan.networks.checkpoint import load_vocoder
from advgan.networks.generator import Encoding, Generator
from advgan.networks.mel import LEVEL, MIN_FRAMES, STANDARD, MelSpectrogram, to_guard
from advgan.networks.perturber import Perturber
from advgan.networks.vocoder import Vocoder
from advgan.victim.claim import Guard, Model, to_pcm
from advgan.victim.loss import GuardLoss
from speakerguard.errors import AudioError, CheckpointError, OtherGuardError, UsageError
from speakerguard.files import whole_file
from speakerguard.network.checkpoint import folder
from speakerguard.sound.audio import SAMPLE_RATE, AudioSource, Waveform, printable, read
from speakerguard.sound.speech import load_speech
from speakerguard.verification.verifier import Verifier

ADVERSARIAL, PLAIN, PERTURBER = "adversarial", "again-vc", "perturber"
TAG = "synthetic speech, made by advgan to test speaker verification; not a recording of a person"
PEAK = 0.99  # louder conversions are turned down
PIECE_SECONDS = 30.0  # converted at once
FIT_SECONDS = 3.0  # of the source that a step of fitting hears
FADE_SECONDS = 0.25  # by which pieces overlap


@dataclass(frozen=True, eq=False)
class Heard:
    """A recording to convert, or to convert to.

    Attributes:
        name: what to call it.
        waveform: float32 (n,), 16 kHz.
    """

    name: str
    waveform: Waveform

    @property
    def rms(self) -> float:
        """Root mean square of the whole, full scale 1."""
        return float(np.sqrt(np.mean(np.square(self.waveform, dtype=np.float64))))


def hear(source: AudioSource, speech_only: bool = False) -> Heard:
    """Read a recording whole, or, of a target, its speech alone.

    Raises:
        AudioError: it cannot be read, is silent, holds no speech, or is too short.
    """
    speech = load_speech(source)  # a conversion of what is no speech would be noise
    waveform = speech.samples if speech_only else read(source)
    seconds, least = len(waveform) / SAMPLE_RATE, MIN_FRAMES * STANDARD.hop / STANDARD.sample_rate
    if seconds < least:
        raise AudioError(
            f"{speech.name}: only {seconds:.2f} s; at least {least:.2f} s are needed. Choose a "
            "longer recording."
        )
    return Heard(speech.name, waveform)


def default_generator(steps: int = 0) -> str:
    """What is shipped to convert with: in one pass the adversarial generator, else the plain one.

    Args:
        steps: by which the voice is to be fitted; the plain generator is as good a start for that
            as any and keeps more of the words.

    Raises:
        CheckpointError: neither is there.
    """
    for name in (PLAIN, ADVERSARIAL) if steps else (ADVERSARIAL, PLAIN):
        if checkpoint.shipped(name):
            return name
    raise CheckpointError(
        f"no generator is shipped in {folder()}: name one with --load, or train one "
        "with `advgan-train vc --config configs/advgan-vc-half.yaml`."
    )


class Converter:
    """A generator and a vocoder, ready to convert.

    Args:
        generator: name, folder or file of a checkpoint, or an original AGAIN-VC ``.pth``.
        vocoder: see :func:`advgan.networks.checkpoint.load_vocoder`.
        guard: the verifier whose embedding of the target a generator is told, if it wants one, and
            whose score of the target's recording the voice is fitted to.
        steps: gradient steps of that; see :func:`advgan.conversion.fitting.fit_voice`.
        epsilon: bound of a perturbation that follows; see
            :func:`advgan.conversion.fitting.finish`. None for nothing.

    Raises:
        CheckpointError: a part is missing or does not fit; weights are never made up.
        UsageError: ``epsilon`` is out of bounds.
    """

    rate = STANDARD.sample_rate

    def __init__(
        self,
        generator: str | os.PathLike[str] | None = None,
        vocoder: str | os.PathLike[str] | None = None,
        guard: str = "guard",
        steps: int = 0,
        epsilon: float | None = None,
    ) -> None:
        self.guard: GuardLoss | None = None
        self.steps, self._verifier = steps, guard
        self.epsilon = None if epsilon is None else checked_epsilon(epsilon)
        name = default_generator(steps) if generator is None else generator
        self.name = printable(os.fspath(name))
        if Path(name).suffix == ".pth":
            self.generator, self.fingerprint = load_pth(Path(name)), "legacy"
        else:
            loaded = checkpoint.load("generator", name)
            STANDARD.require(loaded.convention, f"the generator {self.name}")
            assert isinstance(loaded.network, Generator)
            self.generator, self.fingerprint = loaded.network, loaded.fingerprint
            if self.generator.config.embedding:
                advice = (
                    "Convert with a fitted voice (--steps 30) or the plain generator "
                    "(--load again-vc)"
                )
                self.guard = guard_of(self.name, loaded, guard, advice)
        self.generator.requires_grad_(False)
        self.vocoder = load_vocoder(vocoder)
        self.mel = MelSpectrogram()

    def convert(self, source: Heard, target: Heard, claim: Guard | None = None) -> Waveform:
        """The source's words in the target's voice: float32 (about n,), at :attr:`rate`.

        What is longer than :data:`PIECE_SECONDS` is converted in pieces that fade into each
        other, so that memory is bounded.

        Args:
            claim: what the voice is fitted to, and the sound; None for a claim to be who speaks
                in ``target``, before the converter's own verifier.
        """
        voice = self._voice(target)
        if claim is None and (self.steps or self.epsilon):
            claim = self._claim(target)
        if self.steps and claim:
            say = partial(self._say, source, claim.rng)
            voice = fit_voice(say, voice, claim, self.steps)
        pieces = cut_to_pieces(source)
        with torch.inference_mode():
            mels = (mel_of(piece, self.mel, source.rms) for piece in pieces)
            made = [self.vocoder(self.generator.convert(mel, voice))[0].numpy() for mel in mels]
        sound = limited(in_step(made, pieces, self.rate))
        return limited(finish(sound, claim, self.epsilon)) if self.epsilon and claim else sound

    @torch.no_grad()
    def _voice(self, target: Heard) -> Encoding:
        """How the generator hears the target, and is told that the guard does."""
        told = None
        if self.guard is not None:
            told = self.guard.embed(torch.from_numpy(target.waveform)[None], SAMPLE_RATE)
        return self.generator.voice(self.mel_of(target), told)

    def _say(self, source: Heard, rng: np.random.Generator, voice: Encoding) -> Tensor:
        """Some of the source as :meth:`convert` says it, at the guard's rate: (1, n)."""
        words = mel_of(some_of(source, FIT_SECONDS, rng), self.mel, source.rms)
        sound = self.vocoder(self.generator.convert(words, voice))
        return to_guard(sound * (PEAK / sound.detach().abs().amax()).clamp(max=1.0))

    def _claim(self, target: Heard) -> Guard:
        profile = self._model.embed(target.waveform)
        return Guard(self._model, profile, 0.0, np.random.default_rng(0))

    @cached_property
    def _model(self) -> Model:
        return Model(Verifier(self._verifier))

    def mel_of(self, heard: Heard) -> Tensor:
        """Mel (1, bands, T) of a recording, at the level that the networks expect."""
        return mel_of(heard, self.mel)


class Copier:
    """No conversion, only mel and vocoder: the control. Same use as :class:`Converter`.

    Args:
        vocoder: see :func:`advgan.networks.checkpoint.load_vocoder`.
    """

    rate = STANDARD.sample_rate
    name, fingerprint = "no generator", ""

    def __init__(self, vocoder: str | os.PathLike[str] | None = None) -> None:
        self.vocoder, self.mel = load_vocoder(vocoder), MelSpectrogram()

    def convert(self, source: Heard, target: Heard | None = None) -> Waveform:
        """The source itself, copied: float32 (about n,), at :attr:`rate`."""
        return copy_of(source, self.vocoder, self.mel)


class PerturbingConverter:
    """A perturber: the source itself, with a small sound added. Same use as :class:`Converter`.

    Args:
        model: name, folder or file of a checkpoint.
        guard: the verifier whose embedding says whom to imitate.
        epsilon: largest change of a sample; None for the one it was trained with.
    """

    rate = SAMPLE_RATE

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        guard: str = "guard",
        epsilon: float | None = None,
    ) -> None:
        loaded = checkpoint.load("perturber", PERTURBER if model is None else model)
        assert isinstance(loaded.network, Perturber)
        self.name = printable(os.fspath(PERTURBER if model is None else model))
        self.network, self.fingerprint = loaded.network, loaded.fingerprint
        advice = "Convert with a fitted voice (--mode convert)"
        self.guard = guard_of(self.name, loaded, guard, advice)
        trained = self.network.config.epsilon
        self.epsilon = trained if epsilon is None else checked_epsilon(epsilon)
        self.mel = MelSpectrogram()

    def convert(self, source: Heard, target: Heard) -> Waveform:
        """The perturbed source: float32 (n,), 16 kHz."""
        scale = self.epsilon / self.network.config.epsilon
        pieces = []
        with torch.inference_mode():
            voice = self.guard.embed(torch.from_numpy(target.waveform)[None], SAMPLE_RATE)
            for piece in cut_to_pieces(source):
                waveform = torch.from_numpy(piece.waveform)[None]
                changed = waveform + scale * self.network.delta(waveform, voice)
                pieces.append(changed.clamp(-1, 1)[0].numpy())
        return joined(pieces, round(FADE_SECONDS * SAMPLE_RATE))


def checked_epsilon(epsilon: float) -> float:
    """``epsilon``, if it can be the largest change of a sample.

    Raises:
        UsageError: it cannot.
    """
    if not 0 < epsilon <= 0.1:
        raise UsageError(f"--eps is {epsilon:g}; give a number above 0, at most 0.1.")
    return epsilon


def guard_of(name: str, loaded: checkpoint.Loaded, guard: str, advice: str) -> GuardLoss:
    """The verifier that a network was trained against, whose embeddings it understands.

    Raises:
        OtherGuardError: ``guard`` has other weights; the message says what to do, by ``advice``.
    """
    found = GuardLoss(guard)
    trained = loaded.about.get("guard")
    if trained != found.fingerprint:
        raise OtherGuardError(
            f"{name} was trained against the guard {trained}, this is {found.fingerprint}: its "
            f"embeddings mean something else. {advice}, or train it again."
        )
    return found


def mel_of(heard: Heard, mel: MelSpectrogram, rms: float | None = None) -> Tensor:
    """Mel (1, bands, T) of a recording, at the level that the networks expect.

    Args:
        rms: level of the recording that ``heard`` is a piece of; its own where None.
    """
    wide = soxr.resample(heard.waveform, SAMPLE_RATE, STANDARD.sample_rate, "VHQ")
    gain = LEVEL / max(heard.rms if rms is None else rms, 1e-9)
    bands: Tensor = mel(torch.from_numpy(wide * np.float32(gain))[None])
    return bands


def copy_of(source: Heard, vocoder: Vocoder, mel: MelSpectrogram) -> Waveform:
    """A recording through mel and vocoder alone: float32 (about n,), 22.05 kHz."""
    pieces = cut_to_pieces(source)
    with torch.inference_mode():
        made = [vocoder(mel_of(piece, mel, source.rms))[0].numpy() for piece in pieces]
    return limited(in_step(made, pieces, STANDARD.sample_rate))


def some_of(heard: Heard, seconds: float, rng: np.random.Generator) -> Heard:
    """A random stretch of a recording; all where it is no longer than ``seconds``."""
    count = round(seconds * SAMPLE_RATE)
    start = int(rng.integers(max(0, len(heard.waveform) - count) + 1))
    return Heard(heard.name, heard.waveform[start : start + count])


def cut_to_pieces(heard: Heard) -> list[Heard]:
    """Equal pieces of at most :data:`PIECE_SECONDS`, which overlap by :data:`FADE_SECONDS`."""
    waveform, fade = heard.waveform, round(FADE_SECONDS * SAMPLE_RATE)
    count = max(1, -(-(len(waveform) - fade) // round(PIECE_SECONDS * SAMPLE_RATE)))
    edges = np.linspace(0, len(waveform) - fade, count + 1).astype(int)
    return [
        Heard(heard.name, waveform[start : end + fade])
        for start, end in itertools.pairwise(edges.tolist())
    ]


def in_step(made: Sequence[Waveform], pieces: Sequence[Heard], rate: int) -> Waveform:
    """What was made of ``pieces``, joined as they lie: a vocoder's may lack a part of a frame."""
    counts = [round(len(piece.waveform) * rate / SAMPLE_RATE) for piece in pieces[:-1]]
    whole = [np.pad(w[:n], (0, max(0, n - len(w)))) for w, n in zip(made, counts, strict=False)]
    return joined([*whole, made[-1]], round(FADE_SECONDS * rate))


def joined(pieces: Sequence[Waveform], fade: int) -> Waveform:
    """Waveforms one after another, each fading into the next over ``fade`` samples: (n,).

    >>> joined([np.ones(6, np.float32), np.ones(5, np.float32)], 3).tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """
    whole = pieces[0]
    rise = np.linspace(0, 1, fade + 2, dtype=np.float32)[1:-1]
    parts = [whole]
    for piece in pieces[1:]:
        end = parts[-1][-fade:] * (1 - rise) + piece[:fade] * rise
        parts[-1] = parts[-1][:-fade]
        parts += [end, piece[fade:]]
    return np.concatenate(parts).astype(np.float32)


def limited(waveform: Waveform) -> Waveform:
    """``waveform`` (n,), turned down where it would not fit a file."""
    peak = float(np.abs(waveform).max(initial=0.0))
    return np.asarray(waveform * min(1.0, PEAK / max(peak, 1e-9)), np.float32)


def save_wav(path: Path, waveform: Waveform, rate: int, tag: bool = True) -> None:
    """Write 16-bit mono WAV, at once or not at all, that says it is synthetic unless told not to.

    Raises:
        UsageError: it cannot be written.
    """
    with (
        whole_file(path) as part,
        part.open("wb") as opened,  # libsndfile cannot open every name
        soundfile.SoundFile(opened, "w", rate, 1, "PCM_16", format="WAV") as file,
    ):
        if tag:
            file.comment, file.software = TAG, "advgan"
        file.write(to_pcm(waveform))  # rounds, where libsndfile would cut off


def tagged(path: Path) -> bool:
    """Whether a WAV file says that it is synthetic."""
    with soundfile.SoundFile(path) as file:
        return str(file.comment).startswith("synthetic speech")
