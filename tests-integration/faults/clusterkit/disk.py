"""A disk that can be filled and emptied."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


@contextmanager
def a_small_disk(megabytes: int) -> Iterator[Path]:
    """Mount a file system in memory, which is soon full."""
    with tempfile.TemporaryDirectory(prefix="apflow-faults-") as folder:
        mounted = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "tmpfs", folder]
        if subprocess.run(mounted, capture_output=True, check=False).returncode:
            pytest.skip("Only root may mount a file system")
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "-l", folder], check=True)


def fill(ballast: Path) -> None:
    """Write a file until the disk has no room left."""
    for size in (1 << 16, 1 << 9):
        with ballast.open("ab", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(size))
