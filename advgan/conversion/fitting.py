"""A voice fitted to a verifier: a few gradient steps on what the decoder is given of the target.

A generator puts a target's statistics back layer by layer, and those of one recording, as its
encoder finds them, need not be what a verifier listens for. Here they follow the gradient of the
verifier's own score, through vocoder, front end and network, as Adam takes it (Kingma and Ba 2015,
arXiv 1412.6980). Nothing but the voice moves: 12 numbers a channel, the same for every frame, so
the words stay, and no sound is added that the generator could not make. A search in the latent
space of a generator, as of images by Song et al. 2018 (arXiv 1805.07894).

What a generator cannot say, a perturbation of the finished sound can add; see :func:`finish`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from advgan.attacks.gradient import Pgd
from advgan.networks.generator import Encoding, Statistics
from advgan.networks.mel import from_guard, to_guard
from speakerguard.sound.audio import Waveform

if TYPE_CHECKING:
    from advgan.victim.claim import Guard

STEPS = 30
RATE = 0.1  # of Adam at first, in deviations of a layer; falls to 0 as a cosine
BETAS = (0.8, 0.95)  # shorter memories than usual, for so few steps
FINISH_STEPS, FINISH_SIZE = 20, 0.15  # of :func:`finish`; a step is that part of the bound


def fit_voice(
    say: Callable[[Encoding], Tensor], voice: Encoding, claim: Guard, steps: int
) -> Encoding:
    """The voice that scores most, as far as so many steps lead.

    Args:
        say: makes sound in a voice, other words each time: waveforms (1, n), 16 kHz, with gradient.
        voice: to begin with, as :meth:`advgan.networks.generator.Generator.voice` gives it.
        claim: the score that is climbed; only its gradient is used, no query.
        steps: how many; each is one conversion.
    """
    moves = torch.zeros(len(voice.voice), 2, voice.voice[0].mean.shape[1], requires_grad=True)
    optimiser = torch.optim.Adam([moves], RATE, betas=BETAS)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        score = claim.similarity(say(moved(voice, moves))).sum()
        (moves.grad,) = torch.autograd.grad(-score, [moves])
        optimiser.step()
        schedule.step()
    return moved(voice, moves.detach())


def finish(sound: Waveform, claim: Guard, epsilon: float) -> Waveform:
    """``sound`` with a perturbation that raises the score further (:class:`.Pgd`).

    Args:
        sound: float32 (n,), 22.05 kHz.
        claim: the score that is climbed; only its gradient is used.
        epsilon: largest change of a sample, full scale 1, at 16 kHz; resampled to 22.05 kHz and
            back, peaks may lie a quarter higher.
    """
    narrow = to_guard(torch.from_numpy(sound)[None])[0].numpy()
    attack = Pgd(epsilon=epsilon, steps=FINISH_STEPS, size=FINISH_SIZE)
    added = torch.from_numpy(attack.run(narrow, narrow, claim) - narrow)[None]
    wide = from_guard(torch.nn.functional.pad(added, (0, 2)))[0].numpy()  # rounding cut an end
    return sound + wide[: len(sound)]


def moved(voice: Encoding, moves: Tensor) -> Encoding:
    """``voice`` with the means and deviations of its layers moved.

    Args:
        moves: (layers, 2, C): added to means, in mean deviations of a layer, and to logarithms of
            deviations.
    """
    found = [
        Statistics(
            layer.mean + layer.deviation.mean() * shift[None, :, None],
            layer.deviation * scale.exp()[None, :, None],
        )
        for layer, (shift, scale) in zip(voice.voice, moves, strict=True)
    ]
    return voice._replace(voice=found)
