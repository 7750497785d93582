"""The figures that choose between weights, on embeddings made up so that the rates are known."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from support.training import take_buzzes_for_speech
from torch import Tensor, nn

from speakerguard.errors import TrialError
from speakerguard.training.devset import DevSet, chosen


class Level(nn.Module):
    """A unit vector whose angle is the clip's mean level: alike levels, alike voices."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, clip: Tensor) -> Tensor:
        angle = clip.abs().mean(dim=1)
        return torch.stack([angle.cos(), angle.sin()], dim=1)


def record(path: Path, *levels: float) -> None:
    """One second of each level."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.repeat(np.array(levels, np.float32), 16_000)
    samples[::2] *= -1  # an offset would be taken out
    soundfile.write(path, samples, 16_000, subtype="FLOAT")


def test_sources_count_alike_and_short_speech_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_buzzes_for_speech(monkeypatch)
    lines = []
    for source, wrong in (("a", 0.0), ("b", 0.8)):
        for speaker, level in (("s", 0.1), ("t", 0.9)):
            for number in range(2):
                # in b, speaker t's second recording begins with the level of s
                start = abs(level - wrong) if speaker == "t" and number else level
                path = f"{source}/{speaker}/{number}.wav"
                record(tmp_path / path, start, start, *[level] * 8)
        lines += [f"1 {source}/{x}/0.wav {source}/{x}/1.wav" for x in "st"]
        lines += [f"0 {source}/s/0.wav {source}/t/{number}.wav" for number in range(2)]
    (tmp_path / "trials.txt").write_text("\n".join(lines))
    dev = DevSet(tmp_path, tmp_path / "trials.txt")
    figures = dev.figures(Level())
    assert dev.eer(Level()) == figures["eer"] == figures["eer_mean"] == 0
    # the first 2 s: a is right; of b's targets and non-targets one each is on the wrong side
    assert figures["eer_2s_mean"] == pytest.approx(0.25)
    assert figures["eer_2s"] == pytest.approx(0.25)
    assert chosen(figures, "pooled") == 0
    assert chosen(figures, "mean") == pytest.approx(0.125)


def test_spoof_trials_choose_no_weights(tmp_path: Path) -> None:
    (tmp_path / "trials.txt").write_text("s/0.wav s/1.wav spoof\n")
    with pytest.raises(TrialError, match="holds spoof trials"):
        DevSet(tmp_path, tmp_path / "trials.txt")


def test_without_sources_the_mean_is_the_pooled_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_buzzes_for_speech(monkeypatch)
    for speaker, level in (("s", 0.1), ("t", 0.9)):
        for number in range(2):
            record(tmp_path / speaker / f"{number}.wav", level)
    lines = ["1 s/0.wav s/1.wav", "0 s/0.wav t/0.wav", "1 s/0.wav t/1.wav", "0 t/0.wav s/1.wav"]
    (tmp_path / "trials.txt").write_text("\n".join(lines))
    figures = DevSet(tmp_path, tmp_path / "trials.txt").figures(Level())
    assert 0 < figures["eer"] < 1
    assert figures["eer_mean"] == figures["eer"]
