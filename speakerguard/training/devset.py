"""The trials that choose between the weights of a training run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from speakerguard.errors import TrialError
from speakerguard.evaluation.metrics import eer
from speakerguard.evaluation.trials import Trial, check_files, read_trials
from speakerguard.sound.audio import SAMPLE_RATE
from speakerguard.sound.corpus import source_of
from speakerguard.sound.speech import load_speech

SHORT_SECONDS = 2.0


class DevSet:
    """Trials that choose between weights; speech is read once and kept."""

    def __init__(self, root: Path, trials: Path) -> None:
        self.trials: list[Trial] = read_trials(trials)
        if any(trial.label == "spoof" for trial in self.trials):
            raise TrialError(
                f"{trials}: holds spoof trials; weights are chosen by target and nontarget ones. "
                "Leave them out."
            )
        files = check_files(self.trials, root)
        self.speech = {name: load_speech(path).samples for name, path in files.items()}
        self.target = np.array([trial.label == "target" for trial in self.trials])
        self.sources = np.array([source_of(trial.enrol) for trial in self.trials])

    def scores(self, encoder: nn.Module, seconds: float | None = None) -> npt.NDArray[np.float64]:
        """Cosine of every trial; ``seconds`` keeps only the first speech of every file."""
        device = next(encoder.parameters()).device
        count = None if seconds is None else int(seconds * SAMPLE_RATE)
        embeddings = {}
        with torch.inference_mode():
            for name, samples in self.speech.items():
                clip = torch.from_numpy(samples[:count])[None].to(device)
                embeddings[name] = encoder(clip)[0].cpu().numpy()
        return np.array([float(embeddings[t.enrol] @ embeddings[t.test]) for t in self.trials])

    def eer(self, encoder: nn.Module) -> float:
        """Pooled equal error rate at full length, in [0, 1]."""
        return self._rates(self.scores(encoder))[0]

    def figures(self, encoder: nn.Module) -> dict[str, float]:
        """Equal error rates in [0, 1]: pooled and mean over sources, in full and of 2 s."""
        pooled, mean = self._rates(self.scores(encoder))
        short, short_mean = self._rates(self.scores(encoder, SHORT_SECONDS))
        return {"eer": pooled, "eer_mean": mean, "eer_2s": short, "eer_2s_mean": short_mean}

    def _rates(self, scores: npt.NDArray[np.float64]) -> tuple[float, float]:
        """Pooled equal error rate, and its mean over sources that have both kinds of trial."""
        pooled = self._rate(scores, np.ones(len(scores), dtype=bool))
        inside = [self.sources == source for source in sorted(set(self.sources))]
        rates = [self._rate(scores, rows) for rows in inside if len(set(self.target[rows])) == 2]
        return pooled, fmean(rates) if rates else pooled

    def _rate(self, scores: npt.NDArray[np.float64], rows: npt.NDArray[np.bool_]) -> float:
        return float(eer(scores[rows & self.target], scores[rows & ~self.target]).rate)


def chosen(figures: Mapping[str, float], choose_by: str) -> float:
    """The one figure by which weights are chosen, the lower the better.

    >>> figures = {"eer": 0.25, "eer_mean": 0.75}
    >>> chosen(figures, "pooled"), chosen(figures, "mean")
    (0.25, 0.5)
    """
    return fmean(figures.values()) if choose_by == "mean" else figures["eer"]
