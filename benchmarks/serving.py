"""Rows about the server: trees that clients create and run by it, its start, and what it needs at rest."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from time import perf_counter

import httpx
import psutil

from apflow.core import TaskCreator, TaskManager
from benchmarks import mcp_latency, trees
from benchmarks.files import fresh_store
from benchmarks.line import Line

CLIENTS = 20
SIZE = 99  # tasks below the root of each tree
POLL = 0.005  # seconds
READY_WITHIN, REST_WITHIN = 1.5, 150.0  # seconds, MiB: what is asked for


@contextmanager
def server(file: Path | None = None) -> Generator[tuple[str, int, float]]:
    """Run a server on a DuckDB file; yield its URL, its pid, and the seconds until it was ready.

    Args:
        file: the database; None for a new one, which is removed afterwards.
    """
    with tempfile.TemporaryDirectory(prefix="apflow-benchmark-") as folder, socket.socket() as reserved:
        # Not closed before the server ends: the kernel gives the port to no other socket in the meantime.
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{reserved.getsockname()[1]}"
        settings = {
            "APFLOW_DATABASE_URL": f"duckdb:///{file or Path(folder) / 'benchmark.duckdb'}",
            "APFLOW_BIND": address,
            "APFLOW_RATE_LIMIT": "1000000",
        }
        command = [sys.executable, "-m", "apflow.cli", "serve", "--import", "benchmarks.trees"]
        begin = perf_counter()
        with subprocess.Popen(command, env=os.environ | settings, stderr=subprocess.DEVNULL) as process:
            try:
                wait_until_ready(address)
                yield f"http://{address}", process.pid, perf_counter() - begin
            finally:
                process.terminate()


def wait_until_ready(address: str) -> None:
    """Ask until the server answers that it is ready; at most half a minute."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        asking = HTTPConnection(address, timeout=5)  # httpx would need half of a processor for this
        try:
            asking.request("GET", "/ready")
            if asking.getresponse().status == 200:
                return
        except OSError:
            time.sleep(POLL)
        finally:
            asking.close()
    raise TimeoutError(f"{address} is not ready")


async def ask(client: httpx.AsyncClient, method: str, **params: object) -> dict[str, object]:
    """Call an operation by JSON-RPC and return its result."""
    given = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    answer = (await client.post("/tasks", json=given, timeout=60)).json()
    assert "result" in answer, answer
    return answer["result"]


async def served(url: str, count: int) -> float:
    """Let clients create and run so many trees, and wait for the end of all; return the seconds."""
    array = trees.fan_out(SIZE)
    left = iter(range(count))
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:

        async def one_client() -> None:
            for _ in left:
                await ask(client, "tasks.execute", tasks=array)

        begin = perf_counter()
        await asyncio.gather(*(one_client() for _ in range(CLIENTS)))
        while (await ask(client, "tasks.running.count"))["count"]:  # noqa: ASYNC110 - another process runs them
            await asyncio.sleep(POLL)
        elapsed = perf_counter() - begin
        done = await ask(client, "tasks.count", status="completed")
        assert done["total"] == count * (SIZE + 1)
        return elapsed


async def alone(count: int) -> float:
    """Create and run so many trees without a server, as many at once; return the seconds."""
    array = trees.fan_out(SIZE)
    left = iter(range(count))
    async with fresh_store() as store:

        async def one() -> None:
            for _ in left:
                tree = await TaskCreator(store).create_task_tree_from_array(array)
                await TaskManager(store).distribute_task_tree(tree)

        begin = perf_counter()
        await asyncio.gather(*(one() for _ in range(CLIENTS)))
        return perf_counter() - begin


def serving(count: int) -> list[Line]:
    """Measure a server: its start, its memory at rest, and trees that it is given by clients."""
    with server() as (url, pid, ready):
        rest = psutil.Process(pid).memory_info().rss / (1 << 20)
        by_mcp, by_rpc = mcp_latency.latency(url)
        elapsed = asyncio.run(served(url, count))
    floor = min(asyncio.run(alone(count)) for _ in range(2))
    tasks = count * (SIZE + 1)
    about = f"{count} trees of {SIZE + 1} tasks that {CLIENTS} clients create and run; floor: no server"
    return [
        Line("serve_trees", tasks / elapsed, tasks / floor, "tasks/s", about),
        Line("serve_ready", ready, READY_WITHIN, "s", "until a server is ready; floor: what is asked for"),
        Line("serve_rest", rest, REST_WITHIN, "MiB", "memory of a server at rest; floor: what is asked for"),
        Line("serve_mcp", by_mcp, by_rpc, "ms", "reading a task by a tool of MCP; floor: by JSON-RPC"),
    ]
