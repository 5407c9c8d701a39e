"""Keeps standard output for data while code of tasks runs in this process."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final, TextIO, cast

from apflow.core.capture.streams import TaskStream, echoing_to

STDOUT: Final = 1  # file descriptors
STDERR: Final = 2


class _Stderr:
    """Standard error as it is at each write: the live view replaces it."""

    def write(self, text: str) -> object:
        return sys.stderr.write(text) if sys.stderr is not None else 0


@contextmanager
def clean_output() -> Generator[None]:
    """Keep everything that code of tasks writes away from standard output.

    What tasks print goes to their logs and, if standard error is a terminal, there as well. What cannot be
    attributed to a task, such as the output of threads and of programs that code starts by itself, goes to
    standard error.
    """
    before, stderr = sys.stdout, sys.stderr
    if stderr is None:  # a process without a console
        with echoing_to(None):
            yield
        return
    sys.stdout = cast("TextIO", TaskStream(stderr, "stdout"))
    try:
        with echoing_to(_Stderr() if stderr.isatty() else None), _redirected(before):
            yield
    finally:
        sys.stdout = before


@contextmanager
def _redirected(stream: object) -> Generator[None]:
    """Connect file descriptor 1 with standard error, if a stream writes there."""
    if not _writes_to(stream, STDOUT) or not _writes_to(sys.stderr, STDERR):
        yield
        return
    sys.stdout.flush()
    saved = os.dup(STDOUT)
    was_terminal = os.isatty(saved)
    try:
        os.dup2(STDERR, STDOUT)
        yield
    finally:
        if not was_terminal or os.isatty(saved):  # writing to a terminal that has closed is an error
            os.dup2(saved, STDOUT)
        os.close(saved)


def _writes_to(stream: object, descriptor: int) -> bool:
    try:
        return cast("TextIO", stream).fileno() == descriptor
    except (AttributeError, OSError, ValueError):
        return False
