"""Following the log of a daemon over its rotations."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from apflow.cli.session.daemon_files import last_lines

INTERVAL_SECONDS: Final = 0.2  # a file sends no event


def followed(log: Path, count: int) -> Iterator[str]:
    """Yield the last lines of a log, and then those that are added, without end."""
    yield from last_lines(log, count)
    file = _opened(log, at_end=True)
    rest = b""
    while True:
        if file is not None:
            *lines, rest = (rest + file.read()).split(b"\n")
            yield from (line.decode(errors="replace") for line in lines)
        if _is_another(log, file):
            if file is not None:
                file.close()
            file, rest = _opened(log, at_end=False), b""
        else:
            time.sleep(INTERVAL_SECONDS)


def _opened(log: Path, *, at_end: bool) -> BinaryIO | None:
    with suppress(FileNotFoundError):
        file = log.open("rb")
        if at_end:
            file.seek(0, os.SEEK_END)
        return file
    return None


def _is_another(log: Path, file: BinaryIO | None) -> bool:
    """Return whether there is a log, and it is not the open file, which was renamed."""
    with suppress(FileNotFoundError):
        return file is None or log.stat().st_ino != os.fstat(file.fileno()).st_ino
    return False
