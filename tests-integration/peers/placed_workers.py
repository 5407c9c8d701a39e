"""Workers of one PostgreSQL database, each a process of `apflow worker`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

START_SECONDS = 60.0
HERE = Path(__file__).parents[1]  # where another process finds the executors of the tests


@dataclass
class PlacedWorkers:
    """Workers, started one by one. Use it as a context: at its end they are killed."""

    folder: Path
    url: str
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list[subprocess.Popen[bytes]])

    def __enter__(self) -> PlacedWorkers:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self.processes:
            each.kill()
            each.wait()

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        """Start a worker; wait until it takes work."""
        own = {"APFLOW_DATABASE_URL": self.url, "APFLOW_LEASE_SECONDS": "3", "APFLOW_CANCEL_GRACE": "1"}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("APFLOW_")}
        environment = kept | own | {"PYTHONPATH": str(HERE), "HOME": str(self.folder)} | self.environment
        log = self.folder / f"worker{len(self.processes)}.log"
        with log.open("wb") as opened:
            process = subprocess.Popen(
                [sys.executable, "-m", "apflow.cli", "worker", *options],
                env=environment,
                cwd=self.folder,
                stdout=opened,
                stderr=opened,
            )
        self.processes.append(process)
        until = time.monotonic() + START_SECONDS
        while b"Running" not in log.read_bytes():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.02)
        return process

    def kill(self, pid: int) -> None:
        """Kill a worker."""
        [process] = [each for each in self.processes if each.pid == pid]
        process.kill()
        process.wait()
        self.processes.remove(process)
