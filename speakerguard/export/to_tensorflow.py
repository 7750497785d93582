"""Exports that TensorFlow reads, made from the Keras twin with the front end before it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from speakerguard.errors import UsageError
from speakerguard.export import keras_twin
from speakerguard.network.model import SpeakerEncoder
from speakerguard.sound.audio import Waveform
from speakerguard.sound.filterbank import (
    BANDS,
    DEEP_SPEAKER_FLOOR,
    FFT,
    HOP,
    LEAST_DEVIATION,
    LOGMEL_FLOOR,
    PREEMPHASIS,
    WINDOW,
    dft_basis,
)

if TYPE_CHECKING:
    import keras

Run = Callable[[Waveform], npt.NDArray[np.float32]]  # (1, samples) to (1, dimension)


def build(encoder: SpeakerEncoder) -> keras.Model:
    """The encoder in Keras: float32 (batch, samples) to embeddings (batch, dimension).

    Raises:
        UsageError: the head has no twin in Keras, or Keras is not installed.
    """
    twin = keras_twin.from_torch(encoder)
    import keras
    from keras import layers, ops

    bins, logmel = FFT // 2 + 1, encoder.config.front_end == "logmel"
    waveform = keras.Input((None,), name="waveform")
    rest = waveform[:, 1:] - PREEMPHASIS * waveform[:, :-1]
    x = ops.expand_dims(ops.concatenate([waveform[:, :1], rest], axis=1), 2)
    if not logmel:  # the last, partial frame counts
        x = layers.ZeroPadding1D((0, HOP - 1))(x)
    fourier = layers.Conv1D(2 * bins, WINDOW, strides=HOP, use_bias=False, name="fourier")
    power = ops.square(fourier(x))
    mel = layers.Dense(BANDS, use_bias=False, name="mel")
    energy = mel(power[:, :, :bins] + power[:, :, bins:])
    if logmel:
        bands = ops.log(energy + LOGMEL_FLOOR)
        x = bands - ops.mean(bands, axis=1, keepdims=True)
    else:
        energy = ops.maximum(energy / FFT, DEEP_SPEAKER_FLOOR)
        centred = energy - ops.mean(energy, axis=2, keepdims=True)
        deviation = ops.sqrt(ops.mean(ops.square(centred), axis=2, keepdims=True))
        x = centred / ops.maximum(deviation, LEAST_DEVIATION)
    model = keras.Model(waveform, twin(ops.expand_dims(x, 3)), name="speakerguard")
    basis = dft_basis(encoder.front_end.window.numpy(), FFT)
    fourier.set_weights([basis.T[:, None, :]])
    mel.set_weights([encoder.front_end.filters.numpy().T])
    fourier.trainable = mel.trainable = False
    return model


def write(encoder: SpeakerEncoder, to: str, path: Path) -> None:
    """Write the encoder as ``keras``, ``saved_model`` or ``litert``.

    Raises:
        UsageError: as :func:`build`.
    """
    model = build(encoder)
    if to == "keras":
        model.save(path)
        return
    import tensorflow as tf

    if to == "saved_model":
        model.export(path, verbose=False)
        return
    call = tf.function(model, input_signature=[tf.TensorSpec((1, None), tf.float32, "waveform")])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([call.get_concrete_function()])
    path.write_bytes(converter.convert())


def reader(to: str, path: Path) -> Run:
    """Loads an export and gives what embeds with it: (1, samples) to (1, dimension)."""
    try:
        import tensorflow as tf
    except ImportError as error:
        raise UsageError(
            f"TensorFlow cannot be used here ({error}): pip install 'speakerguard[tensorflow]'."
        ) from None
    if to == "litert":  # deprecated; its successor is the package ai-edge-litert
        return _litert(tf.lite.Interpreter(str(path)))
    if to == "keras":
        import keras

        model = keras.models.load_model(path)
        return lambda clip: np.asarray(model(clip))
    loaded = tf.saved_model.load(str(path))
    return lambda clip: loaded.serve(tf.constant(clip)).numpy()


def _litert(interpreter: Any) -> Run:
    entry, exit = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def run(clip: Any) -> Any:
        interpreter.resize_tensor_input(entry["index"], clip.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(entry["index"], clip)
        interpreter.invoke()
        return interpreter.get_tensor(exit["index"])

    return run
