"""From a recording and a target to an attack: mel, generator, vocoder, waveform, WAV file.

What is saved says that it is synthetic. What is measured is measured on the saved file.
"""

from __future__ import annotations

import os
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import soxr
import torch
from torch import Tensor

from advgan.conversion.fitting import finish, fit_voice
from advgan.conversion.recording import (
    FADE_SECONDS,
    PEAK,
    Utterance,
    cut_to_pieces,
    in_step,
    joined,
    limited,
    some_of,
)
from advgan.networks import checkpoint
from advgan.networks.checkpoint import load_vocoder
from advgan.networks.generator import Encoding, Generator
from advgan.networks.mel import LEVEL, STANDARD, MelSpectrogram, to_guard
from advgan.networks.original import load_pth
from advgan.networks.perturber import Perturber
from advgan.networks.vocoder import Vocoder
from advgan.victim.claim import Guard, Model
from advgan.victim.loss import GuardLoss
from speakerguard.errors import CheckpointError, OtherGuardError, UsageError
from speakerguard.network.checkpoint import folder
from speakerguard.sound.audio import SAMPLE_RATE, Waveform, printable
from speakerguard.verification.verifier import Verifier

ADVERSARIAL, PLAIN, PERTURBER = "adversarial", "again-vc", "perturber"
FIT_SECONDS = 3.0  # of the source that a step of fitting hears


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
        if (bands := self.generator.config.bands) != STANDARD.bands:
            raise CheckpointError(
                f"the generator {self.name} hears {bands} mel bands; there are {STANDARD.bands}."
            )
        self.generator.requires_grad_(False)
        self.vocoder = load_vocoder(vocoder)
        self.mel = MelSpectrogram()

    def convert(self, source: Utterance, target: Utterance, claim: Guard | None = None) -> Waveform:
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
            said = [self.vocoder(self.generator.convert(mel, voice))[0].numpy() for mel in mels]
        sound = limited(in_step(said, pieces, self.rate))
        return limited(finish(sound, claim, self.epsilon)) if self.epsilon and claim else sound

    @torch.no_grad()
    def _voice(self, target: Utterance) -> Encoding:
        """How the generator hears the target, and is told that the guard does."""
        told = None
        if self.guard is not None:
            told = self.guard.embed(torch.from_numpy(target.waveform)[None], SAMPLE_RATE)
        return self.generator.voice(self.mel_of(target), told)

    def _say(self, source: Utterance, rng: np.random.Generator, voice: Encoding) -> Tensor:
        """Some of the source as :meth:`convert` says it, at the guard's rate: (1, n)."""
        words = mel_of(some_of(source, FIT_SECONDS, rng), self.mel, source.rms)
        sound = self.vocoder(self.generator.convert(words, voice))
        return to_guard(sound * (PEAK / sound.detach().abs().amax()).clamp(max=1.0))

    def _claim(self, target: Utterance) -> Guard:
        profile = self._model.embed(target.waveform)
        return Guard(self._model, profile, 0.0, np.random.default_rng(0))

    @cached_property
    def _model(self) -> Model:
        return Model(Verifier(self._verifier))

    def mel_of(self, utterance: Utterance) -> Tensor:
        """Mel (1, bands, T) of a recording, at the level that the networks expect."""
        return mel_of(utterance, self.mel)


class Copier:
    """No conversion, only mel and vocoder: the control. Same use as :class:`Converter`.

    Args:
        vocoder: see :func:`advgan.networks.checkpoint.load_vocoder`.
    """

    rate = STANDARD.sample_rate
    name, fingerprint = "no generator", ""

    def __init__(self, vocoder: str | os.PathLike[str] | None = None) -> None:
        self.vocoder, self.mel = load_vocoder(vocoder), MelSpectrogram()

    def convert(self, source: Utterance, target: Utterance | None = None) -> Waveform:
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

    def convert(self, source: Utterance, target: Utterance) -> Waveform:
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
    if loaded.network.config.embedding != (values := found.encoder.config.dimension):  # type: ignore[union-attr]
        raise CheckpointError(f"{name} is told embeddings of another length than the {values}.")
    return found


def mel_of(utterance: Utterance, mel: MelSpectrogram, rms: float | None = None) -> Tensor:
    """Mel (1, bands, T) of a recording, at the level that the networks expect.

    Args:
        rms: level of the recording that ``utterance`` is a piece of; its own where None.
    """
    wide = soxr.resample(utterance.waveform, SAMPLE_RATE, STANDARD.sample_rate, "VHQ")
    gain = LEVEL / max(utterance.rms if rms is None else rms, 1e-9)
    bands: Tensor = mel(torch.from_numpy(wide * np.float32(gain))[None])
    return bands


def copy_of(source: Utterance, vocoder: Vocoder, mel: MelSpectrogram) -> Waveform:
    """A recording through mel and vocoder alone: float32 (about n,), 22.05 kHz."""
    pieces = cut_to_pieces(source)
    with torch.inference_mode():
        copies = [vocoder(mel_of(piece, mel, source.rms))[0].numpy() for piece in pieces]
    return limited(in_step(copies, pieces, STANDARD.sample_rate))
