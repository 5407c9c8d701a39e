"""What every program of this folder measures: three shapes of work that does nothing, and how it is timed.

It is the only module that the programs share, and imports only Python's library, because each
program runs in a separate environment.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from importlib.metadata import version
from time import perf_counter

SHAPES = ("one", "chain", "fan")
"""One task; a chain, in which each task needs the one before; a fan, whose last task needs all others."""


def timed(distribution: str | None, run: Callable[[str, int], int]) -> None:
    """Measure the shape that the command names, and print the seconds of each run as JSON.

    Args:
        distribution: the system, for its version.
        run: runs a shape of a number of tasks, and returns how many have succeeded, with the last of a fan.
            It begins when imports are done and services are up, and ends when all is stored.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("size", type=int)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    run("one", 1)  # what happens once in a process does not belong to a figure
    seconds: list[float] = []
    for _ in range(given.repeats):
        begin = perf_counter()
        ended = run(given.shape, given.size)
        seconds.append(perf_counter() - begin)
        expected = given.size + (given.shape == "fan")
        if ended != expected:
            sys.exit(f"{ended} of {expected} tasks have completed")
    found = version(distribution) if distribution else f"Python {sys.version.split()[0]}"
    print(json.dumps({"version": found, "seconds": seconds}))
