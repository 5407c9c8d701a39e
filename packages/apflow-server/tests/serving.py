"""Servers for tests: real ones, on a free port of the loopback address.

`serving` runs an application in a thread of this process, so that a test sees its store and its logs.
`serve_process` runs `apflow serve` in a separate process, which a test may end in any way.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import jwt
import uvicorn
from fastapi import FastAPI
from peers.ports import free_socket, port_of

from apflow.core.settings import Settings
from apflow.core.store.base import TaskStore
from apflow.core.store.memory import MemoryStore
from apflow.server.app import create_app
from apflow.server.process.lifecycle import configuration

SECRET = "a secret of tests that is long enough for every algorithm with a secret, HS512 included"
START = 60.0  # seconds that a server may take to start, or to end, on a busy machine


@dataclass
class Served:
    """A server that answers at `url`; its application, where it runs in this process."""

    url: str
    app: FastAPI
    db: TaskStore
    server: uvicorn.Server


@dataclass
class Process:
    """A server in a separate process."""

    url: str
    popen: subprocess.Popen[str]
    log: Path

    def end(self, number: int = signal.SIGTERM, timeout: float = 30) -> int:
        """Send a signal and return the exit code."""
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        return self.popen.wait(timeout)


def bearer(
    user_id: str = "ann", *, secret: str = SECRET, expires_in: float = 86_400, **claims: Any
) -> dict[str, str]:
    """Return headers with a token of a user; `role="admin"` makes an admin of it."""
    payload = {"sub": user_id, "exp": time.time() + expires_in} | claims
    return {"Authorization": f"Bearer {jwt.encode(payload, secret, algorithm='HS256')}"}


@contextmanager
def serving(
    settings: Settings | None = None, db: TaskStore | None = None, app: FastAPI | None = None
) -> Generator[Served]:
    """Serve an application; without one, that of `settings` and `db` (in memory)."""
    if app is None:
        app = create_app(settings or Settings(), db=db or MemoryStore())
    bound = free_socket()
    server = uvicorn.Server(configuration(app, settings or Settings()))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, name="server of a test")
    thread.start()
    try:
        wait_for(lambda: server.started or not thread.is_alive())
        assert server.started, "the server did not start: its log says why"
        yield Served(f"http://127.0.0.1:{port_of(bound)}", app, app.state.db, server)
    finally:
        server.should_exit = True
        thread.join(START)
        bound.close()
        assert not thread.is_alive(), "the server did not end"


@contextmanager
def serve_process(
    folder: Path,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    url: str | None = None,
    start: float = START,
) -> Generator[Process]:
    """Run `apflow serve` in a folder, on a free port, and end it at the end if it still runs."""
    with free_socket() as reserved:
        port = port_of(reserved)
        log = folder / f"server-{port}.log"
        given = {"APFLOW_DATABASE_URL": f"duckdb:///{folder / 'served.duckdb'}", "APFLOW_LOG_LEVEL": "INFO"}
        command = [sys.executable, "-m", "apflow.server", "--port", str(port), *arguments]
        with log.open("w") as output:
            popen = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, **given, **(environment or {})},
                stdout=output,
                stderr=output,
                text=True,
            )
        process = Process(url or f"http://127.0.0.1:{port}", popen, log)
        try:
            wait_for(lambda: popen.poll() is not None or answers(process.url), start)
            assert popen.poll() is None, log.read_text()
            yield process
        finally:
            if popen.poll() is None:
                popen.kill()
                popen.wait()


def answers(url: str) -> bool:
    """Return whether a server is ready."""
    try:
        return httpx.get(f"{url}/ready", timeout=1).status_code == 200
    except httpx.TransportError:
        return False


def wait_for(condition: Any, timeout: float = START) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)
