"""The verifier as an attacker meets it: questions that are counted, and gradients where allowed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from advgan.victim.network import network_of
from advgan.victim.pcm import from_pcm, straight_through, to_pcm
from advgan.victim.plugins import NotRunError
from advgan.victim.scores import Scores
from speakerguard.errors import AudioError
from speakerguard.sound.audio import SAMPLE_RATE, Waveform
from speakerguard.sound.speech import FRAME, PAD, TIGHT, Frames, load_speech, widened

if TYPE_CHECKING:
    from advgan.victim.defences import Defence
    from speakerguard.embedders.contract import Embedding
    from speakerguard.verification.verifier import Verifier

SURE = 2.0  # LLR of a countermeasure that an attacker is content with
PER_NAT = 0.05  # of cosine that he gives for one more


class Knowledge(StrEnum):
    """What an attacker knows of the guard, least first."""

    NOTHING = "nothing"
    RECORDING = "a recording of the target"
    DECISIONS = "decisions of the guard"
    SCORES = "scores of the guard"
    NETWORK = "weights of the guard"
    WEIGHTS = "weights, profile and threshold"


class Model:
    """A verifier as attacks use it: its scores of audio, and its network for gradients.

    Audio is heard as a verifier hears a 16-bit file: rounded, its speech found, then embedded.
    """

    def __init__(self, verifier: Verifier) -> None:
        self.verifier, self.embedder = verifier, verifier.embedder

    def score(self, profile: Embedding, waveform: Waveform) -> float:
        """The verifier's score of ``waveform`` against a profile (dimension,).

        Raises:
            AudioError: as :meth:`embed`.
        """
        return self.verifier.scoring.score(profile, self.embed(waveform))

    def embed(self, waveform: Waveform) -> Embedding:
        """L2-normalised embedding, float32 (dimension,), of the speech in ``waveform``.

        Raises:
            AudioError: the verifier refuses it, for instance for want of speech.
        """
        speech = load_speech((to_pcm(waveform), SAMPLE_RATE))
        (embedding,) = self.embedder.embed([speech.samples])
        return embedding

    @cached_property
    @torch.inference_mode(False)  # or, first asked for without gradients, it never had any
    def network(self) -> nn.Module:
        """The torch network, front end included: (B, n) waveforms to unit embeddings.

        Loaded from its weights, whatever engine the verifier runs on; its parameters are frozen.

        Raises:
            NotRunError: the model has no torch network.
        """
        return network_of(self.embedder)

    @cached_property
    @torch.inference_mode(False)
    def scores(self) -> Scores:
        """The verifier's score in torch: unit embeddings (B, D) of both sides to (B,)."""
        return Scores(self.verifier.scoring)


@dataclass(eq=False)
class Guard:
    """One claim before a verifier: "I am the one whose profile this is".

    Scores are the verifier's own: cosines, or by how much they exceed what is usual where it has
    a cohort. Either way a score rises by as much as the cosine with the profile does.

    Attributes:
        model: the verifier.
        profile: the claimed speaker's, float32 (dimension,), of length 1.
        threshold: scores from here on are accepted.
        rng: the only source of randomness an attack may use.
        defence: what stands before the verifier; None for nothing.
        bystander: gives speech of somebody who is neither source nor target.
        crowd: gives speech that the attacker may train on.
        memory: what attacks keep for the next claim to the same profile.
        knowledge: what the attack says it knows; it cannot ask for more.
        queries: questions put so far.
    """

    model: Model
    profile: Embedding
    threshold: float
    rng: np.random.Generator
    defence: Defence | None = None
    bystander: Callable[[], Waveform] | None = None
    crowd: Callable[[int], Sequence[Waveform]] | None = None
    memory: dict[object, Waveform] = field(default_factory=dict)
    knowledge: Knowledge = Knowledge.WEIGHTS
    queries: int = 0

    def score(self, waveform: Waveform) -> float:
        """Score that the verifier, behind its defence, gives: one query.

        Raises:
            AudioError: it refuses the audio.
            PermissionError: the attack says that it knows no scores.
        """
        self._needs(Knowledge.SCORES)
        return self._ask(waveform)

    def _needs(self, knowledge: Knowledge) -> None:
        order = list(Knowledge)
        if order.index(self.knowledge) < order.index(knowledge):
            raise PermissionError(
                f"it asks for {knowledge.value}, but says that it knows {self.knowledge.value}."
            )

    def _ask(self, waveform: Waveform) -> float:
        self.queries += 1
        if self.defence is None:
            return self.model.score(self.profile, waveform)
        views = self.defence.views(from_pcm(to_pcm(waveform)), self.rng)
        return self.defence.fuse([self.model.score(self.profile, view) for view in views])

    def accepts(self, waveform: Waveform) -> bool:
        """Whether the verifier, behind its defence, takes the audio for the target: one query.

        Raises:
            PermissionError: the attack says that it knows no decisions.
        """
        self._needs(Knowledge.DECISIONS)
        try:
            return self._ask(waveform) >= self.threshold
        except AudioError:
            return False

    def similarity(self, waveforms: Tensor) -> Tensor:
        """Score against the profile, differentiable: (B, n) to (B,).

        A defence is passed straight through: what it gives goes forward, and the gradient goes
        back as if it had done nothing (BPDA, Athalye et al. 2018, arXiv 1802.00420). Where a
        countermeasure stands there, too, what its LLR lacks of :data:`SURE` is taken away, at
        :data:`PER_NAT`. What speech detection would cut away has no gradient; where it would
        refuse the audio, all of it has.

        Raises:
            PermissionError: the attack says that it knows no weights.
        """
        self._needs(Knowledge.NETWORK)
        if self.defence is None:
            return self._scores([_cut(w, _spoken_in(w), PAD) for w in waveforms])
        found = []
        for waveform in waveforms:
            views = self.defence.views(waveform.detach().numpy(), self.rng)
            # Rounded as by the verifier, since that fills what a filter empties.
            seen = [from_pcm(to_pcm(view)) for view in views]
            passed = [straight_through(waveform, view) for view in seen]
            spoken = [_spoken_in(view) for view in passed]
            speech = [_cut(view, where, PAD) for view, where in zip(passed, spoken, strict=True)]
            raised = self.defence.to_raise(self._scores(speech))
            if (llr := self.defence.realness(_cut(passed[0], spoken[0], TIGHT))) is not None:
                raised = raised - PER_NAT * (SURE - llr).clamp(min=0)
            found.append(raised)
        return torch.stack(found)

    def _scores(self, speech: Iterable[Tensor]) -> Tensor:
        embeddings = torch.cat([self.model.network(clip[None]) for clip in speech])
        scores: Tensor = self.model.scores(torch.from_numpy(self.profile)[None], embeddings)
        return scores

    def training_speech(self, count: int) -> Sequence[Waveform]:
        """Speech of ``count`` strangers to train on.

        Raises:
            NotRunError: there is none.
        """
        found = self.crowd(count) if self.crowd else []
        if not found:
            raise NotRunError("no training speech: give --train, a folder of recordings.")
        return found

    def somebody_else(self) -> Waveform:
        """Speech of somebody who is neither source nor target.

        Raises:
            NotRunError: the pairs hold no third speaker.
        """
        if self.bystander is None:
            raise NotRunError("the pairs hold no third speaker.")
        return self.bystander()


def _spoken_in(waveform: Tensor) -> Frames | None:
    """Which frames of ``waveform`` (n,) hold speech for the verifier; None where it refuses it."""
    try:
        return load_speech((to_pcm(waveform.detach().numpy()), SAMPLE_RATE)).spoken
    except AudioError:
        return None


def _cut(waveform: Tensor, spoken: Frames | None, pad: int) -> Tensor:
    """What lies within ``pad`` frames of speech, with its gradient; all where there is none."""
    if spoken is None:
        return waveform
    kept = widened(spoken, pad)
    frames = nn.functional.pad(waveform, (0, -len(waveform) % FRAME)).view(-1, FRAME)
    return frames[torch.from_numpy(kept.nonzero()[0])].flatten()
