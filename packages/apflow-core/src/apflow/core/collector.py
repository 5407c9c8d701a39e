"""Keeping the cyclic garbage collector from walking a large tree again and again.

A run makes and drops many small objects while a large, living tree stands beside them. With CPython's
default thresholds the collector walks all of it each time, which took half of the time of a run of 10,000
tasks. Reference counting frees what a run drops; cycles are still collected, only less often.
"""

from __future__ import annotations

import gc

THRESHOLD = 50_000  # new container objects between two collections; CPython's default is 700 to 2,000


def collect_rarely() -> None:
    """Let this process, which runs trees, collect cycles rarely from now on.

    Nothing is changed where the program has switched the collector off or made it rarer itself. It stays
    so after the run: to go back at once would walk through all that the run has made.
    """
    young, *older = gc.get_threshold()
    if 0 < young < THRESHOLD:
        gc.set_threshold(THRESHOLD, *older)
