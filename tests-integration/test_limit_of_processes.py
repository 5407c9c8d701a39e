"""Limits that two processes on one PostgreSQL share, measured at the server that their tasks call."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from apflow.core import create_session
from apflow.core.model.limit import RECORDS, LimitAccount
from apflow.core.store.base import TaskStore

EXECUTOR = '''
import asyncio
from apflow.core import BaseTask, executor_register


@executor_register()
class Calls(BaseTask):
    """Sends a request, and waits for the answer."""

    id = "calls"

    async def execute(self, inputs):
        reader, writer = await asyncio.open_connection("127.0.0.1", inputs["port"])
        writer.write(inputs["path"].encode() + b"\\n")
        await writer.drain()
        await reader.read()
        writer.close()
        return {}
'''


@dataclass
class Peer:
    """A server that notes when requests arrive, and how many it answers at once."""

    port: int = 0
    arrivals: list[float] = field(default_factory=list[float])
    paths: list[str] = field(default_factory=list[str])
    open: int = 0
    most: int = 0
    is_called: asyncio.Event = field(default_factory=asyncio.Event)


@asynccontextmanager
async def a_peer(seconds: float) -> AsyncGenerator[Peer]:
    """Run a server that answers after `seconds`, and never where the request says `hang`."""
    peer, loop = Peer(), asyncio.get_running_loop()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        peer.arrivals.append(loop.time())
        peer.paths.append(line.decode().strip())
        peer.is_called.set()
        peer.open += 1
        peer.most = max(peer.most, peer.open)
        if line == b"hang\n":
            await reader.read()
        else:
            await asyncio.sleep(seconds)
        peer.open -= 1
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    peer.port = server.sockets[0].getsockname()[1]
    async with server:
        yield peer


async def start(folder: Path, url: str, tasks: list[Any], name: str) -> asyncio.subprocess.Process:
    """Start a process that runs a tree."""
    (folder / "caller.py").write_text(EXECUTOR)
    (folder / f"{name}.json").write_text(json.dumps(tasks))
    own = {
        "APFLOW_DATABASE_URL": url,
        "APFLOW_IMPORT": "caller",
        "APFLOW_LEASE_SECONDS": "2",
        "HOME": str(folder),
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("APFLOW_")}
    command = [sys.executable, "-m", "apflow.cli", "run", "flow", f"{name}.json"]
    return await asyncio.create_subprocess_exec(
        *command,
        env=kept | own | {"PYTHONPATH": str(folder)},
        cwd=folder,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )


def tree(peer: Peer, limit: dict[str, Any], count: int, path: str = "call") -> list[Any]:
    call = {
        "parent_id": "root",
        "schemas": {"method": "calls"},
        "policy": {"limit": limit},
        "inputs": {"port": peer.port, "path": path},
    }
    return [{"name": "root"}, *({"name": f"{path}{number}", **call} for number in range(count))]


def most_within(arrivals: list[float], seconds: float) -> int:
    """Return the greatest number of arrivals in any window of so many seconds."""
    times, most, first = sorted(arrivals), 0, 0
    for last, at in enumerate(times):
        while at - times[first] >= seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


async def account(db: TaskStore) -> LimitAccount:
    [record] = await db.records(RECORDS)
    return LimitAccount.from_json(record.value)


async def test_two_processes_share_a_rate_and_a_concurrency(tmp_path: Path, postgres_url: str):
    limit = {"key": "peer", "rate": "8/2s", "concurrency": 3}
    async with a_peer(0.02) as peer, create_session(postgres_url) as db:
        running = [await start(tmp_path, postgres_url, tree(peer, limit, 10, name), name) for name in "ab"]
        assert [await each.wait() for each in running] == [0, 0]
        assert sorted(peer.paths) == ["a"] * 10 + ["b"] * 10
        assert most_within(peer.arrivals, 2.0) <= 8
        assert peer.most <= 3
        assert (await account(db)).held == {}


@pytest.mark.long
async def test_two_processes_never_exceed_a_rate_for_long(tmp_path: Path, postgres_url: str):
    limit = {"key": "peer", "rate": "50/s"}
    async with a_peer(0.005) as peer:
        running = [await start(tmp_path, postgres_url, tree(peer, limit, 500, name), name) for name in "ab"]
        assert [await each.wait() for each in running] == [0, 0]
        seconds = max(peer.arrivals) - min(peer.arrivals)
        print(
            f"{len(peer.arrivals)} calls in {seconds:.1f} s, at most {most_within(peer.arrivals, 1.0)} in one"
        )
        assert len(peer.arrivals) == 1000
        assert most_within(peer.arrivals, 1.0) <= 50
        assert {"a", "b"} == set(peer.paths[100:200])  # both got places


async def test_the_place_of_a_process_that_is_killed_is_free_again(tmp_path: Path, postgres_url: str):
    limit = {"key": "peer", "concurrency": 1}
    async with a_peer(0.0) as peer, create_session(postgres_url) as db:
        killed = await start(tmp_path, postgres_url, tree(peer, limit, 1, "hang"), "hang")
        async with asyncio.timeout(120):
            await peer.is_called.wait()
        other = await start(tmp_path, postgres_url, tree(peer, limit, 1, "call"), "call")
        async with asyncio.timeout(120):
            while not (await account(db)).line:  # noqa: ASYNC110 - another process writes it
                await asyncio.sleep(0.02)
        killed.send_signal(signal.SIGKILL)
        await killed.wait()
        assert await other.wait() == 0
        assert peer.paths == ["hang", "call"]
        assert await account(db) == LimitAccount()
