"""Keeping the cyclic garbage collector from walking a large tree again and again.

A run makes and drops many small objects while a large, living tree stands beside them. With CPython's
default thresholds the collector walks all of it each time, which took half of the time of a run of 10,000
tasks. Reference counting frees what a run drops; cycles are still collected, only less often.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Generator
from contextlib import contextmanager

THRESHOLD = 50_000  # new container objects between two collections; CPython's default is 700 to 2,000

_lock = threading.Lock()
_inside = 0
_before: tuple[int, int, int] = (0, 0, 0)


@contextmanager
def rare_collections() -> Generator[None]:
    """Collect cycles rarely while this lasts. May be entered by several runs at once.

    Nothing is changed where the program has switched the collector off or made it rarer itself.
    """
    global _inside, _before  # the thresholds are one per process, too
    with _lock:
        if _inside == 0:
            _before = gc.get_threshold()
            if 0 < _before[0] < THRESHOLD:
                gc.set_threshold(THRESHOLD, *_before[1:])
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0 and gc.get_threshold()[0] == THRESHOLD:
                gc.set_threshold(*_before)
