"""PostgreSQL over TLS: the parameters of the URL decide what is checked, as they do for libpq.

The server is the system's (Debian: the package postgresql): the one from PyPI is built without TLS.
"""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from peers import required
from peers.ports import free_socket, port_of

from apflow.core import create_session
from apflow.core.errors import StoreError
from apflow.core.store.base import TaskQuery
from apflow.storage.postgres import PostgresStore
from apflow.testing.postgres import run_sql

PROGRAMS = max(Path("/usr/lib/postgresql").glob("*/bin/initdb"), default=None)
USER = "postgres" if os.getuid() == 0 else None  # PostgreSQL refuses to be root
SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
fsync = off
ssl = on
ssl_cert_file = 'server.crt'
ssl_key_file = 'server.key'
"""

pytestmark = required.needs(PROGRAMS, "the system has no PostgreSQL server")


class Secured:
    """A server that admits TLS alone, and the authorities that its clients may trust."""

    def __init__(self, folder: Path) -> None:
        assert PROGRAMS is not None, "install the system's PostgreSQL server"
        self._data = folder / "data"
        _give(folder)
        self._run("initdb", "-D", str(self._data), "-U", "postgres", "--auth=trust", "--no-sync")
        authority, stranger = trustme.CA(), trustme.CA()
        issued = authority.issue_cert("127.0.0.1")
        self._write("server.key", issued.private_key_pem.bytes())
        self._write("server.crt", b"".join(each.bytes() for each in issued.cert_chain_pems))
        self._write("pg_hba.conf", b"hostssl all all 127.0.0.1/32 trust\n")
        self._reserved = free_socket()
        self.port = port_of(self._reserved)
        with (self._data / "postgresql.conf").open("a") as file:
            file.write(f"{SETTINGS}port = {self.port}\n")
        self.trusted, self.strange = folder / "ca.pem", folder / "other.pem"
        authority.cert_pem.write_to_path(self.trusted)
        stranger.cert_pem.write_to_path(self.strange)
        self._run("pg_ctl", "-D", str(self._data), "-w", "-l", str(self._data / "log"), "start")

    def close(self) -> None:
        self._run("pg_ctl", "-D", str(self._data), "-w", "-m", "immediate", "stop")
        self._reserved.close()

    def url(self, **parameters: str) -> str:
        query = "&".join(f"{name}={value}" for name, value in parameters.items())
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres?{query}"

    def _write(self, name: str, content: bytes) -> None:
        path = self._data / name
        path.write_bytes(content)
        path.chmod(0o600)
        _give(path)

    def _run(self, program: str, *arguments: str) -> None:
        assert PROGRAMS is not None
        command = [PROGRAMS.with_name(program), *arguments]
        # Nothing is read from it: the server would keep a pipe open.
        done = subprocess.run(
            command, user=USER, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
        )
        assert done.returncode == 0, f"{program} ended with {done.returncode}"


def _give(path: Path) -> None:
    if USER is not None:
        shutil.chown(path, USER)


@pytest.fixture(scope="module")
def secured() -> Iterator[Secured]:
    with tempfile.TemporaryDirectory(prefix="apflow-tls-") as folder:  # not in pytest's: others may not enter
        Path(folder).chmod(0o755)
        made = Secured(Path(folder))
        yield made
        made.close()


async def test_a_server_is_known_by_its_certificate(secured: Secured):
    url = secured.url(sslmode="verify-full", sslrootcert=str(secured.trusted))
    async with create_session(url) as db:
        assert await db.find(TaskQuery()) == []
    run_sql(url, "DO $$ BEGIN ASSERT (SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()); END $$")


async def test_a_server_that_another_authority_vouches_for_is_refused(secured: Secured):
    url = secured.url(sslmode="verify-full", sslrootcert=str(secured.strange))
    async with create_session(url) as db:
        with pytest.raises(StoreError, match=r"(?i)certificate"):
            await db.find(TaskQuery())


async def test_a_server_that_wants_tls_says_so(secured: Secured):
    async with create_session(secured.url(sslmode="disable")) as db:
        with pytest.raises(StoreError, match="no encryption"):
            await db.find(TaskQuery())


async def test_without_a_word_about_it_tls_is_used_where_the_server_has_it(secured: Secured):
    async with create_session(secured.url(application_name="plain")) as db:
        assert await db.find(TaskQuery()) == []


async def test_a_store_that_is_closed_while_it_connects_leaves_no_connection(secured: Secured):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        for moment in range(40):  # from before the first word to after the last one, about ten milliseconds
            store = PostgresStore(secured.url())
            store.listen(lambda _: None)
            await asyncio.sleep(moment / 2000)
            await store.close()
        gc.collect()  # once: with all that the tests before have imported, it takes half a second
    assert [str(each.message) for each in caught] == []
