"""Atomic writes of files: a reader finds either the old content or the new one."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

OWNER_ONLY = 0o600


def write_whole(path: Path, text: str, mode: int = OWNER_ONLY) -> None:
    """Write a file in place of whatever is there.

    Args:
        mode: its permissions.

    Raises:
        OSError: it cannot be written; what was there stays.
    """
    descriptor, name = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)  # 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        if mode != OWNER_ONLY:
            Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink()
        raise
