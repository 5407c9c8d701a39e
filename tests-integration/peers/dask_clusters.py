"""Clusters of Dask, of separate processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

START_SECONDS = 60.0  # for a scheduler
HERE = Path(__file__).parents[1]  # where another process finds this module


def free_port() -> int:
    """Return a port of this machine that was free a moment ago."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@dataclass
class Cluster:
    """A scheduler and its workers, each a process without a nanny. Use it as a context."""

    folder: Path
    workers: int = 2
    threads: int = 50
    allowed_failures: int = 0
    protocol: str = "tcp"
    options: Sequence[str] = ()  # of scheduler and workers, such as files for TLS
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    port: int = field(default_factory=free_port)
    scheduler: subprocess.Popen[bytes] | None = None
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list[subprocess.Popen[bytes]])

    @property
    def address(self) -> str:
        """The address of the scheduler."""
        return f"{self.protocol}://127.0.0.1:{self.port}"

    def __enter__(self) -> Cluster:
        self.start_scheduler()
        for _ in range(self.workers):
            self.start_worker()
        return self

    def __exit__(self, *_: object) -> None:
        for each in [*self.processes, self.scheduler]:
            if each is not None:
                each.kill()
                each.wait()

    def start_scheduler(self) -> None:
        """Start the scheduler, and wait until it listens."""
        self.scheduler = self._start(
            "scheduler", "--host", "127.0.0.1", "--port", str(self.port), "--protocol", self.protocol
        )
        until = time.monotonic() + START_SECONDS
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1.0):
                return
            assert self.scheduler.poll() is None, self.log("scheduler")
            assert time.monotonic() < until, self.log("scheduler")
            time.sleep(0.05)

    def start_worker(self) -> None:
        """Start a worker."""
        options = ("--host", "127.0.0.1", "--no-nanny", "--nthreads", str(self.threads))
        self.processes.append(self._start("worker", self.address, *options))

    def kill_worker(self, pid: int) -> None:
        """Kill a worker, and start another one."""
        [process] = [each for each in self.processes if each.pid == pid]
        process.kill()
        process.wait()
        self.processes.remove(process)
        self.start_worker()

    def kill_scheduler(self) -> None:
        """Kill the scheduler; its workers end by themselves."""
        assert self.scheduler is not None
        self.scheduler.kill()
        self.scheduler.wait()

    def log(self, kind: str) -> str:
        """Return what the processes of a kind have written."""
        return (self.folder / f"{kind}.log").read_text()

    def _start(self, kind: str, *arguments: str) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": str(self.allowed_failures),
            "PYTHONPATH": str(HERE),
            **self.environment,
        }
        with (self.folder / f"{kind}.log").open("ab") as log:
            command = [sys.executable, "-m", "dask", kind, *arguments, "--no-dashboard", *self.options]
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=self.folder)
