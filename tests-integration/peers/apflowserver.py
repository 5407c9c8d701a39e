"""Servers of apflow: `apflow serve` in a separate process, which a test may end and start again."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from peers.ports import free_socket, port_of

START = 30.0  # seconds that a server may take to start on a busy machine
HERE = Path(__file__).resolve().parent.parent


@dataclass
class ApflowServer:
    """A server at `url`, with its log, and its database if it is to outlive the process, in `folder`."""

    folder: Path
    database: str
    modules: Sequence[str]
    environment: Mapping[str, str]
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """What it wrote."""
        return self.folder / f"server-{self.port}.log"

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        imports = [each for module in self.modules for each in ("--import", module)]
        command = [sys.executable, "-m", "apflow.server", "--port", str(self.port), *imports]
        given = {"APFLOW_DATABASE_URL": self.database, "PYTHONPATH": str(HERE)}
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                env={**os.environ, **given, **self.environment},
                stdout=output,
                stderr=output,
            )
        process = self.process
        wait_for(lambda: process.poll() is not None or is_ready(self.url), START)
        assert process.poll() is None, self.log.read_text()

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send it a signal and return its exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(30)

    def kill(self) -> None:
        """End it without giving it a chance."""
        self.end(signal.SIGKILL)


@contextmanager
def apflow_server(
    folder: Path,
    *,
    is_durable: bool = False,
    database: str | None = None,
    modules: Sequence[str] = ("peers.farwork",),
    environment: Mapping[str, str] | None = None,
) -> Generator[ApflowServer]:
    """Run a server on a free port, with executors of the modules that are named.

    Its database is the given one; otherwise a file if `is_durable`, else memory.
    """
    own = f"duckdb:///{folder / 'far.duckdb'}" if is_durable else "memory://"
    with free_socket() as reserved:  # also while the test starts it again
        server = ApflowServer(folder, database or own, modules, environment or {}, port_of(reserved))
        try:
            server.start()
            yield server
        finally:
            if server.process is not None and server.process.poll() is None:
                server.process.kill()
                server.process.wait()


def is_ready(url: str) -> bool:
    """Return whether a server answers that it is ready."""
    try:
        return httpx.get(f"{url}/ready", timeout=1).status_code == 200
    except httpx.TransportError:
        return False


def wait_for(condition: Callable[[], object], timeout: float = 30.0) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


async def until(condition: Callable[[], object], timeout: float = 30.0) -> None:
    """Wait until a condition holds, without blocking the event loop."""
    async with asyncio.timeout(timeout):
        while not condition():  # noqa: ASYNC110 - files and processes send no event
            await asyncio.sleep(0.02)
