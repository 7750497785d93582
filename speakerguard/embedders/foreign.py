"""Any ONNX embedding model behind the guard's contract, described by a short file.

``--model wespeaker.yaml`` where the file says::

    onnx: wespeaker.onnx      # beside this file
    input: fbank              # or waveform, where the network has its front end inside
    bands: 80
    scale: 32768              # samples reach from -scale to scale

What it leaves out is as :class:`ForeignConfig` has it. Thresholds lie in a folder named as the
file, beside it; ``speakerguard calibrate --model`` makes them.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from speakerguard.embedders.contract import Embedding, long_enough
from speakerguard.embedders.runtimes import onnx_session
from speakerguard.errors import CheckpointError
from speakerguard.processes import PerProcess, Remade
from speakerguard.sound.audio import SAMPLE_RATE, Waveform
from speakerguard.sound.filterbank import WINDOW, WINDOWS, fbank, kaldi_filters

# TensorProto.external_data: the entry "location", with the length of a file's name, and the name
_OUTSIDE = re.compile(rb"\x0a\x08location\x12([\x01-\x7f])(?=(.{1,127}))", re.DOTALL)


class ForeignConfig(BaseModel):
    """An ONNX model of one input, a batch of one clip at 16 kHz, and its front end.

    Attributes:
        onnx: the file, relative to the configuration. Weights that it keeps in other files count
            in the fingerprint as it does itself.
        sha256: of that file, in hex; where it is given, no other file is run.
        input: ``fbank`` (Kaldi's log mel filterbank, without dither or energy) or ``waveform``.
        layout: of ``fbank``: ``time-bands`` is (1, frames, bands), ``bands-time`` the other.
        bands, low, high: of the filterbank; ``low`` and ``high`` in Hz.
        window: one of ``povey``, ``hamming`` and ``hann``.
        scale: value of a sample at full scale; Kaldi's own is 32768.
        subtract_mean: whether each band loses its mean over time.
        output: name of the output to take; the first without it.
        min_seconds: shortest clip it can embed, a minute at most.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    onnx: str
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    input: Literal["fbank", "waveform"]
    layout: Literal["time-bands", "bands-time"] = "time-bands"
    bands: int = Field(default=80, ge=10, le=128)
    low: float = Field(default=20.0, ge=0, lt=SAMPLE_RATE / 2)
    high: float = Field(default=SAMPLE_RATE / 2, gt=0, le=SAMPLE_RATE / 2)
    window: Literal["povey", "hamming", "hann"] = "povey"
    scale: float = Field(default=1.0, gt=0)
    subtract_mean: bool = True
    output: str | None = None
    min_seconds: float = Field(default=0.25, ge=WINDOW / SAMPLE_RATE, le=60)

    @model_validator(mode="after")
    def _band(self) -> Self:
        if self.low >= self.high:
            raise ValueError("low must be under high")
        return self


class ForeignEmbedder(Remade):
    """See :class:`speakerguard.embedders.contract.Embedder`; runs in ONNX Runtime.

    Raises:
        ConfigError: the file cannot be read, or a key or value is wrong.
        CheckpointError: the model is missing, cannot be run, or gives no embedding.
    """

    sample_rate = SAMPLE_RATE

    def __init__(self, path: Path, threads: int | None = None) -> None:
        from speakerguard.settings import load_as

        self.config = load_as(path, ForeignConfig)
        self.name, self.folder = path.stem, path.with_suffix("")
        onnx = path.parent / self.config.onnx
        if not onnx.is_file():
            raise CheckpointError(f"{path}: names {onnx}, which is not there.")
        self._session = PerProcess(onnx, partial(_network, onnx, self.config, threads))
        self.fingerprint = f"{self.name}-{self._session.about[:16]}"
        self.min_samples = round(self.config.min_seconds * SAMPLE_RATE)
        self._path = path
        self._filters = kaldi_filters(self.config.bands, self.config.low, self.config.high)
        probe = np.zeros(max(2 * SAMPLE_RATE, self.min_samples), np.float32) + np.float32(1e-3)
        self.dimension = len(self._embed(probe))
        if len(self._embed(np.concatenate([probe, probe]))) != self.dimension:
            raise CheckpointError(
                f"{path}: the output grows with the recording, so it is no embedding. Name "
                "another `output`."
            )

    def embed(self, waveforms: Sequence[Waveform]) -> list[Embedding]:
        """See :meth:`speakerguard.embedders.contract.Embedder.embed`."""
        return [self._embed(long_enough(waveform, self.min_samples)[0]) for waveform in waveforms]

    def _embed(self, waveform: Waveform) -> Embedding:
        scaled = waveform * np.float32(self.config.scale)
        fed = scaled if self.config.input == "waveform" else self._features(scaled)
        wanted = [self.config.output] if self.config.output else None
        try:
            session = self._session()
            entry = session.get_inputs()[0].name
            embedding = session.run(wanted, {entry: fed[None]})[0].reshape(-1)
            length = float(np.linalg.norm(embedding))
        except Exception as error:  # onnxruntime's own errors have no other base
            raise CheckpointError(
                f"{self._path}: the network does not take what this file describes ({error}). "
                "Check input, layout and bands."
            ) from None
        if not (np.isfinite(length) and length > 0):
            raise CheckpointError(f"{self._path}: the network's output is no embedding.")
        return (embedding / length).astype(np.float32)

    def _features(self, scaled: Waveform) -> npt.NDArray[np.float32]:
        bands = fbank(scaled, self._filters, WINDOWS[self.config.window])
        if self.config.subtract_mean:
            bands = bands - bands.mean(axis=0)
        return bands.T if self.config.layout == "bands-time" else bands


def _network(path: Path, config: ForeignConfig, threads: int | None) -> tuple[Any, str]:
    """A session, and the SHA-256 of the description and of every file that the network reads."""
    content = path.read_bytes()
    if config.sha256 not in (None, hashlib.sha256(content).hexdigest()):
        raise CheckpointError(
            f"{path}: its SHA-256 is not the one described: it is damaged, or another model. Copy "
            "it again, or correct `sha256`."
        )
    digest = hashlib.sha256(config.model_dump_json(exclude={"onnx", "sha256"}).encode())
    digest.update(content)
    for name in sorted({rest[: length[0]] for length, rest in re.findall(_OUTSIDE, content)}):
        digest.update(name)
        try:
            digest.update((path.parent / os.fsdecode(name)).read_bytes())
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path}: names weights that cannot be read ({error}).") from None
    return onnx_session(path, threads), digest.hexdigest()
