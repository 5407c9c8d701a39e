"""A real PostgreSQL for tests: one server for the session, and a new database for each test.

The server is started here (`postgresserver`), and ends with the session. Where `APFLOW_TEST_POSTGRES_URL`
names one, that is used: its user must be allowed to create databases.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

import pytest

from apflow.testing.postgresserver import a_server

# Read before tests are kept away from the settings of the user.
NAMED = os.environ.get("APFLOW_TEST_POSTGRES_URL")


@contextmanager
def server_url() -> Generator[str]:
    """Give the URL of a server that may be used, one that is started here where none is named."""
    if NAMED:
        yield NAMED
        return
    with a_server() as server:
        yield server.url()


def extended(url: str, **parameters: str) -> str:
    """Return a URL with more parameters."""
    parts = urlsplit(url)
    query = "&".join([*filter(None, [parts.query]), urlencode(parameters)])
    return urlunsplit(parts._replace(query=query))


def target_of(url: str) -> str | tuple[str, int]:
    """Return where the server of a URL listens, for a `Proxy` before it: a Unix socket, or host and port."""
    parts = urlsplit(url)
    folder = parse_qs(parts.query).get("host")
    port = parts.port or 5432
    return f"{folder[0]}/.s.PGSQL.{port}" if folder else (parts.hostname or "localhost", port)


def through(port: int, url: str) -> str:
    """Return the URL of a database by way of a proxy at a port, which reads what is said: so without TLS."""
    parts = urlsplit(url)
    login = parts.netloc.rpartition("@")[0]
    return f"postgresql://{login}@127.0.0.1:{port}{parts.path}?sslmode=disable"


def is_commit(piece: bytes) -> bool:
    """Return whether this piece of a client's data contains a COMMIT."""
    return b"COMMIT\0" in piece


def run_sql(url: str, *statements: str) -> list[tuple[Any, ...]]:
    """Run statements, each by itself, in a database, and return the rows of the last one."""
    asyncpg = pytest.importorskip("asyncpg")

    async def run() -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(url)
        try:
            found = [await connection.fetch(statement) for statement in statements]
        finally:
            await connection.close()
        return [tuple(row) for row in found[-1]]

    # In a separate thread, because an event loop may be running in this one.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(run())).result()


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
