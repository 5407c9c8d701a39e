"""What happened in a worker, kept outside the store: one line of JSON each.

A line is handed to the operating system before the worker continues, so no kill can take it back.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

Line = dict[str, Any]


class History:
    """A file to which a worker appends, line by line; the parent hears a dot for each."""

    def __init__(self, path: Path, life: int, pipe: int = -1) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._life = life  # 1: the worker that is killed first, 2: the one that recovers, ...
        self._pipe = pipe

    def append(self, kind: str, **facts: Any) -> None:
        """Write a line."""
        line = json.dumps({"kind": kind, "life": self._life, **facts})
        os.write(self._file, f"{line}\n".encode())
        if self._pipe >= 0:
            os.write(self._pipe, b".")

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def read(path: Path) -> list[Line]:
    """Return the lines of a history."""
    return [json.loads(line) for line in path.read_text().splitlines()]
