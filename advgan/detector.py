"""Training the discriminator as a detector of made speech, of any making.

Made are conversions written by ``advgan-generate``, and copies of real speech by Griffin-Lim of
varying patience and by trained vocoders. Both classes go through the same rooms, noises,
telephone bands and codecs, so that neither a codec nor a replay gives a class away.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch
from torch import Tensor, nn

from advgan import checkpoint
from advgan.batches import Crops, load_dev
from advgan.config import DetectorConfig
from advgan.conversion import copy_of, device, start
from advgan.discriminator import Discriminator, detect_loss
from advgan.loop import Report, Task, descend
from advgan.manifest import read_manifest
from advgan.mel import STANDARD, MelSpectrogram, from_guard, levelled, to_guard
from advgan.vocoder import GriffinLim
from speakerguard.audio import SAMPLE_RATE, Waveform
from speakerguard.augment import Augmenter, NoiseBank
from speakerguard.calibration import fit
from speakerguard.checkpoint import MODEL_FILE
from speakerguard.data import SpeechSet, default_workers, prepare
from speakerguard.metrics import eer

PATIENCE = (4, 12, 32)  # iterations of Griffin-Lim, one drawn a step


class DetectorTask(Task):
    """Cross-entropy between real and made; equal error rate on dev decides."""

    def __init__(self, config: DetectorConfig, report: Report = print) -> None:
        torch.set_num_threads(config.threads)
        self.config = config
        self.crops = Crops(config, report)
        self.spoofs = [made_speech(folder, config) for folder in config.spoofs]
        bank = NoiseBank.load(config.augment) if config.augment else NoiseBank((), ())
        self.augmenter = Augmenter(bank, self._any_voice)
        self.mel = MelSpectrogram().to(device())
        self.copiers: list[nn.Module] = [GriffinLim(iterations=n).to(device()) for n in PATIENCE]
        for name in config.vocoders:
            vocoder = checkpoint.load_vocoder(name)
            assert isinstance(vocoder, nn.Module)
            self.copiers.append(vocoder.to(device()))
        self.dev_real, self.dev_made = self._dev()
        torch.manual_seed(config.seed)
        self.network = start("discriminator", Discriminator(config.model), config.init)
        self.average = copy_of(self.network, Discriminator(config.model))
        self.modules = {"network": self.network, "average": self.average}
        self.averages = {"average": "network"}
        self.parameters = list(self.network.parameters())
        self.optimisers = {
            "network": torch.optim.AdamW(
                self.parameters, config.learning_rate, weight_decay=config.weight_decay
            )
        }
        self.calibration = {"scale": 1.0, "offset": 0.0}

    def learn(self, step: int) -> dict[str, float]:
        """See :meth:`Task.learn`."""
        config, rng = self.config, self.crops.rng(step)
        half = max(1, config.batch // 2)
        copied = half if not self.spoofs else round(config.copies * half)
        clips = [self.crops.draw(half, rng)]
        if copied:
            copier = self.copiers[int(rng.integers(len(self.copiers)))]
            clips.append(self._copies(self.crops.draw(copied, rng), copier))
        if half > copied:
            clips.append(torch.stack([self._spoof(rng) for _ in range(half - copied)]))
        waveforms = torch.cat(clips).numpy()
        heard = np.stack([levelled(self.augmenter(w, 1.0, rng)) for w in waveforms])
        mel = self.mel(from_guard(torch.from_numpy(heard).to(device())))[:, :, : config.frames]
        real = torch.arange(len(mel), device=mel.device) < half
        self.network.train()
        loss = detect_loss(self.network(mel).flatten(1).mean(dim=1), real)
        descend(loss, self.optimisers["network"], self.parameters, config.clip)
        return {"detect": loss.item()}

    def evaluate(self) -> dict[str, float]:
        """Equal error rate in [0, 1] of real against made speech of dev; fits the calibration."""
        with torch.inference_mode():
            real, made = (
                np.array([self._score(w) for w in clips])
                for clips in (self.dev_real, self.dev_made)
            )
        rate = float(eer(real, made).rate)
        if real.mean() > made.mean():
            line = fit(real, made, p_target=0.5)
            self.calibration = {"scale": line.scale, "offset": line.offset}
        return {"dev": rate}

    def save(self, about: Mapping[str, Any]) -> None:
        """See :meth:`Task.save`; the calibration goes into the file."""
        path = self.config.out / MODEL_FILE
        about = {**about, **self.calibration}
        checkpoint.save("discriminator", self.average, path, STANDARD, about)

    def _copies(self, clips: Tensor, copier: nn.Module) -> Tensor:
        """Real clips (B, n) at 16 kHz through mel and a vocoder: (B, n)."""
        with torch.inference_mode():
            copies: Tensor = to_guard(copier(self.mel(from_guard(clips.to(device()))))).cpu()
        missing = clips.shape[1] - copies.shape[1]
        return nn.functional.pad(copies, (0, missing)).clone()

    def _spoof(self, rng: np.random.Generator) -> Tensor:
        """A crop of a random conversion: (n,), 16 kHz."""
        speech = self.spoofs[int(rng.integers(len(self.spoofs)))]
        return self.crops.crop(speech, int(rng.integers(len(speech))), rng)

    def _dev(self) -> tuple[list[Waveform], list[Waveform]]:
        """Real and made clips of dev, at 16 kHz."""
        pairs = load_dev(self.config)
        real = list({id(w): w for p in pairs for w in (p.source, p.target, p.enrol)}.values())
        spoofs = [made_speech(folder, self.config) for folder in self.config.dev_spoofs]
        made = [s.segment(i) for s in spoofs for i in range(0, len(s), max(1, len(s) // 200))]
        copies = [self._copies(w[None], self.copiers[-1])[0].numpy() for w in real]
        return [w.numpy() for w in real], made or copies

    def _score(self, waveform: Waveform) -> float:
        assert isinstance(self.average, Discriminator)
        return float(self.average.score(self._mel(waveform))[0])

    def _mel(self, waveform: Waveform) -> Tensor:
        wide = soxr.resample(waveform, SAMPLE_RATE, STANDARD.sample_rate, "HQ")
        mel: Tensor = self.mel(torch.from_numpy(levelled(wide))[None].to(device()))
        return mel

    def _any_voice(self, count: int, rng: np.random.Generator) -> Waveform:
        clip = self.crops.draw(1, rng)[0].numpy()
        return np.resize(clip, count)


def made_speech(folder: Path, config: DetectorConfig) -> SpeechSet:
    """The speech in what ``advgan-generate`` wrote to a folder.

    Cut as real speech is, or silences would give the classes away.

    Raises:
        UsageError: no manifest is there, or nothing it lists holds speech.
    """
    read_manifest(folder)
    return prepare(folder, config.data.cache, labelled=False, workers=default_workers())
