"""Tensors out of a file that ``torch.save`` wrote, without torch.

Two layouts are in use: a zip archive, and before torch 1.6 a row of pickles followed by the values.
Either holds a pickle in which tensors are references to stored values. Here it may make nothing but
dictionaries and arrays of numbers; whatever else it asks for is an error.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from speakerguard.errors import CheckpointError

Array = npt.NDArray[Any]

_STORAGES = {"FloatStorage": "<f4", "HalfStorage": "<f2", "LongStorage": "<i8", "IntStorage": "<i4"}
_MAGIC = 0x1950A86A20F9469CFC6C  # begins a file without archive


def read(content: bytes) -> dict[str, Any]:
    """What the file holds, with a numpy array for every tensor.

    Raises:
        CheckpointError: it is no such file, or holds more than tensors in dictionaries.
    """
    try:
        found = (_archive if zipfile.is_zipfile(io.BytesIO(content)) else _row)(content)
    except CheckpointError:
        raise
    except Exception as error:  # pickle raises what it likes on bytes that are not one
        raise CheckpointError(f"weights that are no file of torch's ({error}).") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"weights that hold a {type(found).__name__}, not a dictionary.")
    return found


class _Reader(pickle.Unpickler):
    """Makes tensors of stored values, and refuses every other object."""

    def __init__(self, file: io.BytesIO, values: Callable[[Sequence[Any]], Array]) -> None:
        super().__init__(file)
        self._values = values

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _view
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        raise CheckpointError(f"weights that ask for {module}.{name}, so they are not read.")

    def persistent_load(self, reference: Any) -> Array:
        return self._values(reference)


def _view(values: Array, offset: int, shape: Sequence[int], strides: Sequence[int], *_: Any) -> Any:
    """The tensor of this shape among stored values; ``offset`` and ``strides`` count values."""
    steps = [stride * values.itemsize for stride in strides]
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if 0 not in shape and not 0 <= offset <= last < len(values):
        raise CheckpointError("weights whose tensors reach beyond their values.")
    return np.ascontiguousarray(np.lib.stride_tricks.as_strided(values[offset:], shape, steps))


def _archive(content: bytes) -> Any:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = archive.namelist()
        pickled = next(name for name in names if name.endswith("/data.pkl"))
        folder = pickled.removesuffix("data.pkl")

        def values(reference: Sequence[Any]) -> Array:
            _, kind, key, *_ = reference
            return np.frombuffer(archive.read(f"{folder}data/{key}"), kind)

        return _Reader(io.BytesIO(archive.read(pickled)), values).load()


def _row(content: bytes) -> Any:
    file = io.BytesIO(content)
    storages: dict[str, Array] = {}

    def empty(reference: Sequence[Any]) -> Array:
        _, kind, key, _, count, *_ = reference
        return storages.setdefault(key, np.zeros(count, kind))

    def plain(_: Sequence[Any]) -> Array:
        raise CheckpointError("weights that do not begin as a file of torch's.")

    magic, _, _ = (_Reader(file, plain).load() for _ in range(3))
    if magic != _MAGIC:
        raise CheckpointError("weights that do not begin as a file of torch's.")
    start = file.tell()
    _Reader(file, empty).load()  # says which values there are
    for key in _Reader(file, plain).load():
        (count,) = struct.unpack("<q", file.read(8))
        kind = storages[key].dtype
        storages[key] = np.frombuffer(file.read(count * kind.itemsize), kind, count)
    file.seek(start)
    return _Reader(file, lambda reference: storages[reference[2]]).load()


def arrays(state: Mapping[str, Any]) -> dict[str, npt.NDArray[np.float32]]:
    """The floating-point arrays of a state dictionary, as float32."""
    return {
        name: value.astype(np.float32)
        for name, value in state.items()
        if isinstance(value, np.ndarray) and value.dtype.kind == "f"
    }
