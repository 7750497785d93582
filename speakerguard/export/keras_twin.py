"""The guard's network a second time, in Keras 3: the same weights give the same embeddings.

Layers are named as in conv_models.py of philipperemy/deep-speaker, and weights lie as Keras has
them: kernels (height, width, inputs, outputs), (width, inputs, outputs) or (inputs, outputs).
:func:`named` is the one list of which Keras layer is which module of the encoder; the Keras
network takes its geometry from there too. Keras and TensorFlow are imported only inside functions.

Each Keras convolution has a bias before its batch normalisation; the encoder's have none. For any
input, ``conv + bias - mean`` is ``conv - (mean - bias)``, so a bias moves into the mean that
follows, and none comes back: it is written as 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from speakerguard.errors import CheckpointError, UsageError
from speakerguard.network.config import ModelConfig
from speakerguard.network.model import (
    BLOCKS,
    CEILING,
    LEAST_VARIANCE,
    STAGES,
    SpeakerEncoder,
)
from speakerguard.sound.filterbank import BANDS

if TYPE_CHECKING:
    import keras

TWIN_HEADS = ("mean", "tdnn")
Arrays = dict[str, npt.NDArray[np.float32]]  # the weights of one layer, in Keras's order


def build(config: ModelConfig) -> keras.Model:
    """The network of ``config``, without its front end and with random weights.

    Returns:
        A model from features, float32 (batch, frames, 64, 1), to L2-normalised embeddings,
        float32 (batch, ``config.dimension``). The clips of a batch are of one length, any length.

    Raises:
        UsageError: the head has no twin, or Keras is not installed.
    """
    keras = _keras()
    layers, ops = keras.layers, keras.ops
    with torch.device("meta"):  # its geometry is wanted, not its weights
        modules = named(SpeakerEncoder(config))
    activations = count()

    def convolution(x: Any, name: str) -> Any:
        module: Any = modules[name]
        kind = layers.Conv2D if isinstance(module, nn.Conv2d) else layers.Conv1D
        return kind(
            module.out_channels,
            module.kernel_size,
            strides=module.stride,
            dilation_rate=module.dilation,
            padding="same" if set(module.stride) == {1} else "valid",
            name=name,
        )(x)

    def normalised(x: Any, name: str) -> Any:
        module: Any = modules[name]
        return layers.BatchNormalization(epsilon=module.eps, name=name)(x)

    def clipped(x: Any) -> Any:
        return layers.ReLU(max_value=CEILING, name=f"clipped_relu_{next(activations)}")(x)

    inputs = keras.Input((None, BANDS, 1), name="input")
    x = inputs
    for stage, factor in enumerate(STAGES, 1):
        name = f"conv{config.width * factor}-s"
        x = layers.ZeroPadding2D(((1, 3), (1, 2)))(x)  # as Stage pads, whichever the length
        x = clipped(normalised(convolution(x, name), f"{name}_bn"))
        for block in range(BLOCKS):
            name = f"res{stage}_{block}_branch_2"
            y = clipped(normalised(convolution(x, f"{name}a"), f"{name}a_bn"))
            y = normalised(convolution(y, f"{name}b"), f"{name}b_bn")
            if config.activate_branch:
                y = clipped(y)
            x = clipped(layers.Add()([y, x]))
    x = layers.Reshape((-1, x.shape[2] * x.shape[3]))(x)  # (batch, frames / 16, bands * channels)
    if config.head == "mean":
        x = layers.GlobalAveragePooling1D(name="average")(x)
    else:
        for name in [n for n in modules if n.startswith("tdnn_") and not n.endswith("_bn")]:
            x = layers.ReLU()(normalised(convolution(x, name), f"{name}_bn"))
        weight = layers.Activation("tanh")(convolution(x, "attention_1"))
        weight = layers.Softmax(axis=1)(convolution(weight, "attention_2"))
        mean = ops.sum(weight * x, axis=1)
        variance = ops.sum(weight * ops.square(x), axis=1) - ops.square(mean)
        deviation = ops.sqrt(ops.maximum(variance, LEAST_VARIANCE))
        x = normalised(layers.Concatenate()([mean, deviation]), "statistics_bn")
    x = layers.Dense(config.embedding, name="affine")(x)
    return keras.Model(inputs, layers.UnitNormalization(axis=1, name="ln")(x), name="ResCNN")


def from_torch(encoder: SpeakerEncoder) -> keras.Model:
    """The twin of ``encoder``, with its weights; for what it maps to what, see :func:`build`.

    Raises:
        UsageError: the head has no twin, or Keras is not installed.
    """
    model = build(encoder.config)
    for name, arrays in weights_of(encoder).items():
        model.get_layer(name).set_weights(list(arrays.values()))
    return model


def to_torch(model: keras.Model, config: ModelConfig) -> SpeakerEncoder:
    """The encoder that computes what ``model``, built from ``config``, computes.

    Raises:
        CheckpointError: a layer is missing or does not fit ``config``.
        UsageError: the head has no twin.
    """
    weights = {
        layer.name: {weight.path.split("/")[-1]: weight.numpy() for weight in layer.weights}
        for layer in model.layers
    }
    return encoder_of(config, weights, f"Keras model {model.name}")


def named(encoder: SpeakerEncoder) -> dict[str, nn.Module]:
    """Each module of ``encoder`` that holds weights, by the name of its Keras layer, in order.

    The normalisation that follows convolution ``x`` is ``x_bn``.

    Raises:
        UsageError: the head has no twin.

    >>> list(named(SpeakerEncoder(ModelConfig(width=4, head="mean"))))[:3]
    ['conv4-s', 'conv4-s_bn', 'res1_0_branch_2a']
    """
    config, head = encoder.config, encoder.head
    if config.head not in TWIN_HEADS:
        raise UsageError(
            f"the head {config.head!r} has no twin in Keras; {' and '.join(TWIN_HEADS)} have."
        )
    modules: dict[str, Any] = {}
    for number, stage in enumerate(encoder.trunk.stages, 1):
        found: Any = stage
        name = f"conv{found.conv.out_channels}-s"
        modules |= {name: found.conv, f"{name}_bn": found.norm}
        for index, block in enumerate(found.blocks):
            name = f"res{number}_{index}_branch_2"
            modules |= {f"{name}a": block.conv1, f"{name}a_bn": block.norm1}
            modules |= {f"{name}b": block.conv2, f"{name}b_bn": block.norm2}
    if config.head == "tdnn":
        tdnn: Any = head
        for index, layer in enumerate(tdnn.layers, 1):
            modules |= {f"tdnn_{index}": layer.conv, f"tdnn_{index}_bn": layer.norm}
        modules |= {"attention_1": tdnn.attention[0], "attention_2": tdnn.attention[2]}
        modules["statistics_bn"] = tdnn.norm
    return modules | {"affine": head.affine}


def weights_of(encoder: SpeakerEncoder) -> dict[str, Arrays]:
    """The encoder's weights by Keras layer and weight, as Keras has them; biases it lacks are 0.

    Raises:
        UsageError: the head has no twin.
    """
    return {name: _arrays(module) for name, module in named(encoder).items()}


def encoder_of(
    config: ModelConfig, weights: Mapping[str, Mapping[str, Any]], source: str
) -> SpeakerEncoder:
    """The encoder with these Keras weights, in evaluation mode; all of them fit, or it is an error.

    Args:
        weights: array by weight by Keras layer. What only looks like an array, such as an h5py
            dataset, is read after its shape was found right. Other layers are ignored.
        source: whose weights these are, for messages.

    Raises:
        CheckpointError: a layer or weight is missing, or has another shape, or values that are no
            weights; the message says what was expected.
        UsageError: the head has no twin.
    """
    encoder = SpeakerEncoder(config)
    biases: Arrays = {}
    for name, module in named(encoder).items():
        wanted = {weight: array.shape for weight, array in _arrays(module).items()}
        found = weights.get(name)
        if found is None or found.keys() != wanted.keys():
            holds = "is missing" if found is None else f"holds {', '.join(found) or 'no weights'}"
            expected = ", ".join(f"{weight} {shape}" for weight, shape in wanted.items())
            raise CheckpointError(f"{source}: layer {name} {holds}; expected {expected}.")
        arrays = {
            weight: _checked(found[weight], shape, f"{source}: {weight} of layer {name}")
            for weight, shape in wanted.items()
        }
        if name.endswith("_bn"):
            if arrays["moving_variance"].min() < 0:
                raise CheckpointError(
                    f"{source}: moving_variance of layer {name} has negative values, which no "
                    "variance has; the file is damaged. Copy or download it again."
                )
            if (bias := biases.pop(name.removesuffix("_bn"), None)) is not None:
                arrays["moving_mean"] -= bias
        elif getattr(module, "bias", None) is None:
            biases[name] = arrays["bias"]
        _fill(module, arrays)
    return encoder.eval()


def _checked(found: Any, shape: tuple[int, ...], where: str) -> npt.NDArray[np.float32]:
    """A copy of ``found`` that is safe to use."""
    if tuple(found.shape) != shape:
        raise CheckpointError(f"{where} has shape {tuple(found.shape)}, expected {shape}.")
    if np.dtype(found.dtype).kind != "f":
        raise CheckpointError(f"{where} is of type {found.dtype}, expected float32.")
    array = np.array(found, dtype=np.float32)
    if not np.isfinite(array).all():
        raise CheckpointError(
            f"{where} has values that are not finite; the file is damaged. Copy or download it "
            "again."
        )
    return array


def _tensors(module: nn.Module) -> dict[str, Tensor | None]:
    """One module's tensors by their Keras names, in Keras's order; None for a bias it lacks."""
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        return {
            "gamma": module.weight,
            "beta": module.bias,
            "moving_mean": module.running_mean,
            "moving_variance": module.running_var,
        }
    assert isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear)
    return {"kernel": module.weight, "bias": module.bias}


def _arrays(module: nn.Module) -> Arrays:
    """Weights of one module as its Keras layer has them."""
    arrays: Arrays = {}
    for name, tensor in _tensors(module).items():
        if tensor is None:
            arrays[name] = np.zeros(arrays["kernel"].shape[-1], np.float32)
            continue
        tensor = tensor.detach().cpu().float()
        if name == "kernel":  # from (outputs, inputs, ...)
            tensor = tensor.permute(*range(2, tensor.ndim), 1, 0)
        arrays[name] = tensor.numpy()
    return arrays


def _fill(module: nn.Module, arrays: Arrays) -> None:
    """Set the tensors of one module from the weights of its Keras layer."""
    for name, tensor in _tensors(module).items():
        source = torch.from_numpy(arrays[name])
        if name == "kernel":
            source = source.permute(-1, -2, *range(source.ndim - 2))
        if tensor is not None:
            tensor.data.copy_(source)


def _keras() -> Any:
    try:
        import keras
    except ImportError as error:
        raise UsageError(
            f"Keras cannot be used here ({error}): pip install 'speakerguard[tensorflow]'."
        ) from None
    return keras
