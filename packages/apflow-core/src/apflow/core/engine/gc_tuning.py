"""Tuning of the cyclic garbage collector and of malloc for processes that run trees.

A run makes and drops many small objects while a large, living tree stays in memory. With the default
thresholds of CPython the collector walks the whole tree each time, which took half of the time of a run of
10,000 tasks. Reference counting frees what a run drops; cycles are still collected, only less often.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # malloc.h of glibc
LARGE_BYTES = 256 * 1024  # a block that the system gets back as soon as it is free
ARENAS = 2

THRESHOLD = 50_000  # new container objects between two collections; CPython's default is 700 to 2,000


def collect_rarely() -> None:
    """Let this process, which runs trees, collect cycles rarely from now on.

    Nothing is changed where the program has switched the collector off or made it rarer itself. It stays
    so after the run: to go back at once would walk through all that the run has made.
    """
    young, *older = gc.get_threshold()
    if 0 < young < THRESHOLD:
        gc.set_threshold(THRESHOLD, *older)


def return_large_blocks() -> None:
    """Make malloc of this process return large blocks to the system at once, and keep few arenas.

    glibc raises the size from which it does so with each large block that is freed, up to 32 MB, and gives
    each thread an arena: after results of megabytes, small blocks keep hundreds of megabytes from going back.
    Nothing is changed where the environment configures malloc, or where the system has another one.
    """
    if sys.platform != "linux" or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
        mallopt(_M_ARENA_MAX, ARENAS)
