"""Training the discriminator as a detector of made speech, of any making.

Made are conversions written by ``advgan-generate``, and copies of real speech by Griffin-Lim of
varying patience and by trained vocoders. Both classes go through the same rooms, noises,
telephone bands and codecs, so that neither a codec nor a replay gives a class away. On dev each
kind of made speech has an error rate of its own, and so have codec and replay, of both classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soxr
import torch
from torch import Tensor, nn

from advgan.manifest import read_manifest
from advgan.networks import checkpoint
from advgan.networks.discriminator import Discriminator, detect_loss
from advgan.networks.mel import STANDARD, MelSpectrogram, from_guard, levelled, to_guard
from advgan.networks.vocoder import GRIFFIN_LIM, ITERATIONS, GriffinLim
from advgan.training.batches import Crops, load_dev
from advgan.training.config import DetectorConfig
from advgan.training.task import copy_of, device, start
from speakerguard.evaluation.calibrate import fit
from speakerguard.evaluation.metrics import eer
from speakerguard.network.checkpoint import MODEL_FILE
from speakerguard.progress import Tell
from speakerguard.sound.audio import SAMPLE_RATE, Waveform
from speakerguard.sound.augment import (
    Augmenter,
    NoiseBank,
    add_noise,
    coloured_noise,
    compress,
    equalise,
    reverberate,
    simulated_room,
)
from speakerguard.sound.corpus import spread
from speakerguard.sound.speech import TIGHT
from speakerguard.training.data import SpeechSet, default_workers, prepare
from speakerguard.training.loop import Task, descend
from speakerguard.training.optimisers import optimisers

PATIENCE = (4, 12, 32)  # iterations of Griffin-Lim, one drawn a step
MOST, FEW = 200, 60  # recordings of dev of each kind, and of each class behind each channel
Channel = Callable[[Waveform, np.random.Generator], Waveform]


def replayed(waveform: Waveform, rng: np.random.Generator) -> Waveform:
    """``waveform`` (n,) from a loudspeaker, in a room, at another microphone."""
    recorded = reverberate(equalise(waveform, rng), simulated_room(rng))
    return add_noise(recorded, coloured_noise(len(recorded), rng), 30)


CHANNELS: dict[str, Channel] = {"codec": compress, "replay": replayed}


class DetectorTask(Task):
    """Cross-entropy between real and made; the mean of the equal error rates on dev decides."""

    measures_shares = True

    def __init__(self, config: DetectorConfig, report: Tell = print) -> None:
        self.config = config
        for folder in (*config.spoofs, *config.dev_spoofs):
            read_manifest(folder)  # before speech is prepared, which may take long
        self.crops = Crops(config, report)
        self.spoofs = [spoofed_speech(folder, config) for folder in config.spoofs]
        bank = NoiseBank.load(config.augment) if config.augment else NoiseBank((), ())
        self.augmenter = Augmenter(bank, self._any_voice)
        self.mel = MelSpectrogram().to(device())
        self.copiers = [copiers(name, PATIENCE) for name in config.vocoders]
        real, spoofs = self._dev()
        self.real = [self._mel(clip) for clip in real]
        self.dev_spoofs = {n: [self._mel(clip) for clip in clips] for n, clips in spoofs.items()}
        self.channels = {}
        for name, channel in CHANNELS.items():
            rng = np.random.default_rng(config.seed)
            self.channels[name] = [
                [self._mel(channel(clip, rng)) for clip in spread(clips, FEW)]
                for clips in (real, [clip for kind in spoofs.values() for clip in kind])
            ]
        torch.manual_seed(config.seed)
        self.network = start("discriminator", Discriminator(config.model), config.init)
        self.average = copy_of(self.network, Discriminator(config.model))
        self.modules = {"network": self.network, "average": self.average}
        self.averages = {"average": "network"}
        self.parameters = list(self.network.parameters())
        self.optimisers = optimisers(self.network, config)
        self.calibration = {"scale": 1.0, "offset": 0.0}

    def learn(self, step: int) -> dict[str, float]:
        """See :meth:`.Task.learn`."""
        config, rng = self.config, self.crops.rng(step)
        half = max(1, config.batch // 2)
        copied = half if not self.spoofs else round(config.copies * half)
        clips = [self.crops.draw(half, rng)]
        if copied:
            alike = self.copiers[int(rng.integers(len(self.copiers)))]
            copier = alike[int(rng.integers(len(alike)))]
            clips.append(self._copies(self.crops.draw(copied, rng), copier))
        if half > copied:
            clips.append(torch.stack([self._spoof(rng) for _ in range(half - copied)]))
        waveforms = torch.cat(clips).numpy()
        augmented = np.stack([levelled(self.augmenter(w, 1.0, rng)) for w in waveforms])
        mel = self.mel(from_guard(torch.from_numpy(augmented).to(device())))[:, :, : config.frames]
        real = torch.arange(len(mel), device=mel.device) < half
        self.network.train()
        loss = detect_loss(self.network(mel).flatten(1).mean(dim=1), real)
        descend(loss, self.optimisers.values(), self.parameters, config.clip)
        return {"detect": loss.item()}

    def evaluate(self) -> dict[str, float]:
        """Equal error rates in [0, 1] by kind of made speech, all real speech against it.

        Behind a channel it is part of all made speech against part of the real. ``dev`` is the
        mean of them all. Fits the calibration.
        """
        real = self._scores(self.real)
        spoofs = {name: self._scores(mels) for name, mels in self.dev_spoofs.items()}
        rates = {name: float(eer(real, scores).rate) for name, scores in spoofs.items()}
        for name, (changed, fakes) in self.channels.items():
            rates[name] = float(eer(self._scores(changed), self._scores(fakes)).rate)
        every = np.concatenate(list(spoofs.values()))
        if real.mean() > every.mean():
            line = fit(real, every, p_target=0.5)
            self.calibration = {"scale": line.scale, "offset": line.offset}
        return {"dev": float(np.mean(list(rates.values()))), **rates}

    def save(self, about: Mapping[str, Any]) -> None:
        """See :meth:`.Task.save`; calibration and what made speech was learnt go into the file."""
        path = self.config.out / MODEL_FILE
        learnt = [*self.config.vocoders, *(folder.name for folder in self.config.spoofs)]
        about = {**about, **self.calibration, "learnt": learnt}
        checkpoint.save("discriminator", self.average, path, STANDARD, about)

    def _copies(self, clips: Tensor, copier: nn.Module) -> Tensor:
        """Real clips (B, n) at 16 kHz through mel and a vocoder: (B, n)."""
        with torch.inference_mode():
            copies: Tensor = to_guard(copier(self.mel(from_guard(clips.to(device()))))).cpu()
        missing = clips.shape[1] - copies.shape[1]  # under a hop; silence would give copies away
        return nn.functional.pad(copies, (0, missing), mode="reflect").clone()

    def _spoof(self, rng: np.random.Generator) -> Tensor:
        """A crop of a random conversion: (n,), 16 kHz."""
        speech = self.spoofs[int(rng.integers(len(self.spoofs)))]
        return self.crops.crop(speech, int(rng.integers(len(speech))), rng)

    def _dev(self) -> tuple[list[Waveform], dict[str, list[Waveform]]]:
        """Real speech of dev, and made speech by its kind, at 16 kHz."""
        pairs = load_dev(self.config)
        real = {id(w): w for p in pairs for w in (p.source, p.target, p.enrol)}.values()
        sources = {id(p.source): p.source for p in pairs}.values()
        spoofs: dict[str, list[Waveform]] = {}
        for name in self.config.dev_vocoders:
            (copier,) = copiers(name)
            spoofs[f"copies by {Path(name).name}"] = [
                self._copies(w[None], copier)[0].numpy() for w in sources
            ]
        for folder in self.config.dev_spoofs:
            speech = spoofed_speech(folder, self.config)
            spoofs[f"made in {folder.name}"] = [
                speech.segment(i) for i in spread(range(len(speech)), MOST)
            ]
        return [w.numpy() for w in real], spoofs

    def _scores(self, mels: list[Tensor]) -> npt.NDArray[np.float64]:
        """The averaged network's opinions of mels (1, bands, T), float64 (n,)."""
        assert isinstance(self.average, Discriminator)
        with torch.inference_mode():
            return np.array([float(self.average.score(mel)[0]) for mel in mels])

    def _mel(self, waveform: Waveform) -> Tensor:
        wide = soxr.resample(waveform, SAMPLE_RATE, STANDARD.sample_rate, "HQ")
        mel: Tensor = self.mel(torch.from_numpy(levelled(wide))[None].to(device()))
        return mel

    def _any_voice(self, count: int, rng: np.random.Generator) -> Waveform:
        clip = self.crops.draw(1, rng)[0].numpy()
        return np.resize(clip, count)


def spoofed_speech(folder: Path, config: DetectorConfig) -> SpeechSet:
    """The speech in what ``advgan-generate`` wrote to a folder.

    Cut as real speech is, or silences would give the classes away.

    Raises:
        UsageError: nothing in it holds speech.
    """
    return prepare(folder, config.data.cache, labelled=False, workers=default_workers(), pad=TIGHT)


def copiers(vocoder: str, patience: Sequence[int] = (ITERATIONS,)) -> list[nn.Module]:
    """A vocoder, given as in configurations; Griffin-Lim once for each number of iterations."""
    if vocoder == GRIFFIN_LIM:
        return [GriffinLim(iterations=count).to(device()) for count in patience]
    trained = checkpoint.load_vocoder(vocoder)
    assert isinstance(trained, nn.Module)
    return [trained.to(device())]
