"""Tuning of the cyclic garbage collector and of malloc for processes whose purpose is to run trees.

`apflow serve`, `apflow worker` and the commands that run a tree call `tune_process`. Library calls do not:
a program that embeds apflow keeps its own settings, and may call `tune_process` itself.

A run creates and drops many small objects while a large tree stays in memory. With the default thresholds of
CPython, the collector traverses the whole tree each time, which costs as much as half of the time of a run of
10,000 tasks. Reference counting frees what a run drops; cycles are still collected, only less often.
"""

from __future__ import annotations

import gc
import os
import sys

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # malloc.h of glibc
LARGE_BYTES = 256 * 1024  # blocks of this size are returned to the system when they are freed
ARENAS = 2

THRESHOLD = 50_000  # new container objects between two collections; CPython's default is 700 to 2,000


def tune_process() -> None:
    """Configure the garbage collector and malloc of this process for running trees, until it ends."""
    collect_rarely()
    return_large_blocks()


def collect_rarely() -> None:
    """Raise the threshold of the youngest generation to `THRESHOLD`.

    A collector that is disabled, or already has a higher threshold, is not changed.
    """
    young, *older = gc.get_threshold()
    if 0 < young < THRESHOLD:
        gc.set_threshold(THRESHOLD, *older)


def return_large_blocks() -> None:
    """Make malloc of this process return large blocks to the system immediately, and use few arenas.

    glibc raises the threshold for large blocks with each one that is freed, up to 32 MB, and gives each
    thread an arena. After results of megabytes, small blocks would keep hundreds of megabytes in the process.
    If the environment configures malloc, or the system has a different malloc, this changes nothing.
    """
    if sys.platform != "linux" or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
        mallopt(_M_ARENA_MAX, ARENAS)
