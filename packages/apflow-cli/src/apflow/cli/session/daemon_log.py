"""Following the log of a daemon over its rotations."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

INTERVAL_SECONDS: Final = 0.2  # a file sends no event
TAIL_BYTES: Final = 1 << 20  # in which the last lines are looked for


def followed(log: Path, count: int) -> Iterator[str]:
    """Yield the last lines of a log, and then those that are added, without end."""
    file = _opened(log)
    rest = b""
    try:
        if file is not None:
            file.seek(max(0, log.stat().st_size - TAIL_BYTES))
            lines, rest = _lines(file, rest)
            yield from lines[-count:] if count else ()
        while True:
            is_old = _is_another(log, file)
            time.sleep(INTERVAL_SECONDS)  # for the writer of a renamed log to turn to the new one
            if file is not None:
                lines, rest = _lines(file, rest)
                yield from lines
            if is_old:
                if file is not None:
                    file.close()
                file, rest = _opened(log), b""
    finally:
        if file is not None:
            file.close()


def _lines(file: BinaryIO, rest: bytes) -> tuple[list[str], bytes]:
    """Return the complete lines that follow in a file after `rest`, and the beginning of the next line."""
    *lines, rest = (rest + file.read()).split(b"\n")
    return [line.decode(errors="replace") for line in lines], rest


def _opened(log: Path) -> BinaryIO | None:
    with suppress(FileNotFoundError):
        return log.open("rb")
    return None


def _is_another(log: Path, file: BinaryIO | None) -> bool:
    """Return whether there is a log, and it is not the open file, which was renamed."""
    with suppress(FileNotFoundError):
        return file is None or log.stat().st_ino != os.fstat(file.fileno()).st_ino
    return False
