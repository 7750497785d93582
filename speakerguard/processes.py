"""Other processes: what one cannot take from another, it makes again for itself.

A fork copies memory but no threads. A network that waits for its threads there waits for ever, and
one that is thrown away there waits for them to end. Servers that load a model first and fork their
workers then (gunicorn's ``--preload``) do just that. What is pickled for another process, as for a
pool, is how it was made.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Generic, Self, TypeVar
from weakref import WeakMethod

from speakerguard.errors import CheckpointError

Made = TypeVar("Made")
_callbacks: list[WeakMethod[Callable[[], None]]] = []


def after_fork(method: Callable[[], None]) -> None:
    """Call a bound method in every child that this process forks, while its object lives."""
    _callbacks[:] = [callback for callback in _callbacks if callback() is not None]
    _callbacks.append(WeakMethod(method))


class Remade:
    """Pickles as the arguments it was made with."""

    _arguments: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Keep the arguments."""
        made = super().__new__(cls)
        made._arguments = args, kwargs
        return made

    def __reduce__(self) -> tuple[Callable[[], Any], tuple[()]]:
        """What makes it again, wherever that is called."""
        args, kwargs = self._arguments
        return partial(type(self), *args, **kwargs), ()


class PerProcess(Generic[Made]):
    """A network that runs, loaded at once, and again in a child that needs it.

    Args:
        path: where it is loaded from, for messages.
        load: gives it, and what it is, which must not change.

    Attributes:
        about: what it is.
    """

    def __init__(self, path: Path, load: Callable[[], tuple[Made, Any]]) -> None:
        self._path, self._load = path, load
        made, self.about = load()
        self._own: list[Made] = [made]
        after_fork(self._leave)

    def __call__(self) -> Made:
        """This process's own.

        Raises:
            CheckpointError: it cannot be loaded again, or is another one by now.
        """
        if not self._own:
            made, about = self._load()
            if about != self.about:
                raise CheckpointError(
                    f"{self._path}: was changed after it was loaded. Start the program again."
                )
            self._own.append(made)  # loaded twice by two threads, the first one serves
        return self._own[0]

    def _leave(self) -> None:
        """Keep the parent's for ever: it would wait for its threads to end, or crash."""
        for one in self._own:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(one))
        self._own = []


class _Torch:
    """Torch's pool of threads belongs to the thread that forked, whose copy has none of them."""

    forked = False

    def one_thread(self) -> None:
        self.forked = True
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(1)


_torch: Any = _Torch()


def torch_may_fork() -> None:
    """Let torch run, with one thread, in what is forked from here on."""
    if not any(callback() == _torch.one_thread for callback in _callbacks):
        after_fork(_torch.one_thread)


@contextlib.contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Let torch compute with so many threads in here, and with as many as before afterwards.

    That is torch's number for the calling thread, so callers do not disturb each other; a thread
    that uses torch for the first time meanwhile begins with the same. None changes nothing, nor
    does any number where :func:`torch_may_fork` left a child one thread.
    """
    if count is None or _torch.forked:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _in_child() -> None:
    for callback in _callbacks:
        if method := callback():
            method()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
