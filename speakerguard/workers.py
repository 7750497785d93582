"""Processes that work for another one: they end when it does, and leave Ctrl-C to it."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from multiprocessing.process import BaseProcess
from threading import Thread

_PARENT_DEATH = 1  # PR_SET_PDEATHSIG of Linux


def begin_worker(_: object = None) -> None:
    """What every worker calls first, or is given as its initialiser.

    A worker whose parent was killed would else wait for its next job for ever, with all the
    memory that its networks take. Each holds the end of a pipe (on Windows a handle) of its
    parent's, which tells it on every system; Linux itself ends it at once, even where a library
    lets no other thread run. There it goes with the thread that made it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is in hand is the parent's to give up
    parent = multiprocessing.parent_process()
    if parent is not None:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PARENT_DEATH, signal.SIGKILL)
        Thread(target=_end_with, args=(parent,), name="parent", daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)  # nothing to tidy: what the job at hand would write is not on the disk yet
