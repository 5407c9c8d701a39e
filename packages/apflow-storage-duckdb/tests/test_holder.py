"""A store answers other processes at its Unix socket while its file is open."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apflow.core import Worker
from apflow.core.process.server_file import describe_this_server, find_server, published, server_file_of
from apflow.core.service.local_protocol import ACCEPTED
from apflow.core.service.local_server import GREETING
from apflow.core.service.task_service import TaskService
from apflow.storage.duckdb.store import DuckDBStore

# Connects as another user, and prints what it is greeted with.
STRANGER = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print(s.recv(99))"


@pytest.fixture
def database() -> Iterator[Path]:
    """The path of a database that is short enough for a socket next to it."""
    with tempfile.TemporaryDirectory(prefix="apflow-") as folder:
        yield Path(folder).resolve() / "held.duckdb"


def store_at(path: Path) -> DuckDBStore:
    return DuckDBStore(f"duckdb:///{path}")


def connected(database: Path) -> socket.socket:
    """Return a connection to the process that holds a database, which has greeted."""
    holder = find_server(database)
    assert holder is not None
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(30)
    connection.connect(holder.socket)
    assert connection.recv(100) == GREETING
    return connection


def call(database: Path, method: str, **params: Any) -> Any:
    """Call an operation, and return the answer."""
    with connected(database) as connection, connection.makefile("rwb") as stream:
        request = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
        stream.write(json.dumps(request).encode() + b"\n")
        stream.flush()
        assert stream.readline() == ACCEPTED
        return json.loads(stream.readline())


def local_threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "apflow:local"]


async def test_the_socket_is_there_while_the_file_is_open(database: Path):
    store = store_at(database)
    assert find_server(database) is None
    await TaskService(store).create([{"id": "a", "name": "a"}])
    assert sorted(each.suffix for each in database.parent.iterdir())[-2:] == [".sock", ".wal"]
    answer = await asyncio.to_thread(call, database, "tasks.get", task_id="a")
    assert (answer["id"], answer["result"]["name"]) == (7, "a")
    await store.close()
    assert find_server(database) is None
    assert {each.suffix for each in database.parent.iterdir()} == {".duckdb", ".lock"}
    assert local_threads() == []


def test_it_answers_without_an_event_loop_and_between_two(database: Path):
    store = store_at(database)
    for name in ("a", "b"):
        asyncio.run(TaskService(store).create([{"name": name}]))
        total = call(database, "tasks.count")["result"]["total"]
        assert total == ord(name) - ord("a") + 1
    asyncio.run(store.close())


async def test_only_a_worker_creates_for_others(database: Path):
    store = store_at(database)
    await store.get(["any"])
    given = {"tasks": [{"name": "a"}]}
    refused = await asyncio.to_thread(call, database, "tasks.create", **given)
    assert refused["error"]["code"] == -32012
    assert (await asyncio.to_thread(call, database, "tasks.submit", **given))["result"]["status"] == "pending"
    worker = Worker(store)
    working = asyncio.create_task(worker.run())
    await asyncio.sleep(0)
    assert "result" in await asyncio.to_thread(call, database, "tasks.create", **given)
    worker.drain()
    await working
    assert "error" in await asyncio.to_thread(call, database, "tasks.create", **given)
    await store.close()


async def test_a_store_that_is_served_to_callers_with_tokens_does_not_answer_without_one(database: Path):
    store = store_at(database)
    store.needs_token = True
    await store.get(["any"])
    answer = await asyncio.to_thread(call, database, "tasks.list")
    assert answer["error"]["data"]["type"] == "ForbiddenError"
    await store.close()


async def test_errors_have_their_type_and_a_fault_does_not_end_the_thread(
    database: Path, monkeypatch: pytest.MonkeyPatch
):
    store = store_at(database)
    await store.get(["any"])
    missing = await asyncio.to_thread(call, database, "tasks.get", task_id="nothing")
    assert missing["error"]["data"] == {"type": "NotFoundError", "task_id": "nothing"}
    assert (await asyncio.to_thread(call, database, "tasks.nothing"))["error"]["code"] == -32601
    monkeypatch.setattr(store, "count", None)
    assert (await asyncio.to_thread(call, database, "tasks.count"))["error"]["code"] == -32603
    monkeypatch.undo()
    assert (await asyncio.to_thread(call, database, "tasks.count"))["result"]["total"] == 0
    await store.close()


async def test_a_connection_without_a_request_ends_with_the_store_and_nothing_is_logged(
    database: Path, caplog: pytest.LogCaptureFixture
):
    store = store_at(database)
    await store.get(["any"])
    with await asyncio.to_thread(connected, database) as connection:
        await store.close()
        assert await asyncio.to_thread(connection.recv, 100) == b""
    assert [each.message for each in caplog.records if each.levelname == "ERROR"] == []


async def test_a_connection_that_is_accepted_while_the_store_closes_is_greeted(database: Path):
    store = store_at(database)
    await store.get(["any"])
    holder, server = find_server(database), store._local
    assert holder is not None
    assert server is not None
    async with asyncio.timeout(30):
        while (loop := server._loop) is None:  # its thread starts after the socket is bound
            await asyncio.sleep(0.005)
    ending, thread = server._ending, server._thread
    assert thread is not None
    is_connected = threading.Event()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)

        def connect_and_end() -> None:
            connection.connect(holder.socket)
            loop.call_soon(ending.set)  # in the next turn, in which the connection is accepted
            is_connected.set()

        loop.call_soon_threadsafe(connect_and_end)
        assert await asyncio.to_thread(is_connected.wait, 30)
        assert await asyncio.to_thread(connection.recv, 100) == GREETING
    await asyncio.to_thread(thread.join, 30)
    assert not thread.is_alive()
    await store.close()


async def test_a_client_that_does_not_read_leaves_no_open_connection(database: Path):
    store = store_at(database)
    await TaskService(store).create([{"name": "a", "inputs": {"text": "x" * 1_000_000}}])
    with await asyncio.to_thread(connected, database) as connection:
        connection.sendall(b'{"jsonrpc": "2.0", "id": 1, "method": "tasks.list"}\n')
        assert store._local is not None
        while not store._local.is_answering:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(select.select, [connection], [], [], 30)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always", ResourceWarning)
            await store.close()
            gc.collect()
    assert [str(each.message) for each in warned] == []


async def test_a_watch_of_a_tree_that_does_not_end_ends_with_the_store(database: Path):
    store = store_at(database)
    await TaskService(store).create([{"id": "a", "name": "a"}])
    with await asyncio.to_thread(connected, database) as connection, connection.makefile("rwb") as stream:
        stream.write(b'{"jsonrpc":"2.0","id":1,"method":"tasks.watch","params":{"task_id":"a"}}\n')
        stream.flush()
        assert await asyncio.to_thread(stream.readline) == ACCEPTED
        assert json.loads(await asyncio.to_thread(stream.readline))["params"]["type"] == "snapshot"
        await store.close()
        assert await asyncio.to_thread(stream.readline) == b""
    assert local_threads() == []


def test_a_store_that_is_forgotten_is_closed_with_its_socket(database: Path):
    store = store_at(database)
    asyncio.run(store.get(["any"]))
    del store
    gc.collect()
    end = time.monotonic() + 30
    while (find_server(database) or local_threads()) and time.monotonic() < end:
        time.sleep(0.01)  # another thread may be the one that has collected the store
    assert find_server(database) is None
    assert local_threads() == []


def test_a_forked_process_leaves_the_socket_to_its_parent(database: Path):
    store = store_at(database)
    asyncio.run(TaskService(store).create([{"name": "a"}]))
    pid = os.fork()
    if pid == 0:
        store._close()  # as the end of the process does; pytest must not end twice
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert call(database, "tasks.count")["result"]["total"] == 1
    asyncio.run(store.close())


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED") or os.geteuid() != 0, reason="needs two users")
def test_another_user_is_not_answered_whatever_the_permissions(database: Path):
    store = store_at(database)
    asyncio.run(store.get(["any"]))
    database.parent.chmod(0o755)
    holder = find_server(database)
    assert holder is not None
    command = ["/usr/bin/env", "python3", "-c", STRANGER, holder.socket]
    refused = subprocess.run(command, capture_output=True, text=True, user=65534, check=False)
    assert "PermissionError" in refused.stderr
    Path(holder.socket).chmod(0o666)
    answered = subprocess.run(command, capture_output=True, text=True, user=65534, check=False)
    assert answered.stdout.strip() == "b''", answered.stderr
    asyncio.run(store.close())


async def test_a_socket_that_a_killed_process_left_is_replaced_and_a_file_of_another_kind_is_not(
    database: Path,
):
    left = database.with_name("held.duckdb.sock")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(left))
    store = store_at(database)
    await store.get(["any"])
    assert (await asyncio.to_thread(call, database, "tasks.count"))["result"]["total"] == 0
    await store.close()
    left.write_text("of a user")
    store = store_at(database)
    await store.get(["any"])
    holder = find_server(database)
    assert holder is not None
    assert holder.socket != str(left)  # in the private folder
    assert (await asyncio.to_thread(call, database, "tasks.count"))["result"]["total"] == 0
    await store.close()
    assert left.read_text() == "of a user"


async def test_a_server_adds_its_url_to_what_the_store_has_published(database: Path):
    store = store_at(database)
    await store.get(["any"])
    before = server_file_of(database).read_text()
    with published(describe_this_server(database, "http://127.0.0.1:1", needs_token=False)):
        holder = find_server(database)
        assert holder is not None
        assert (holder.url, holder.socket) == ("http://127.0.0.1:1", json.loads(before)["socket"])
    assert server_file_of(database).read_text() == before
    await store.close()
    assert not server_file_of(database).exists()


def test_a_process_that_ends_without_closing_the_store_removes_its_socket(database: Path):
    program = (
        "import asyncio, sys; from apflow.core import create_session\n"
        "asyncio.run(create_session(sys.argv[1]).get(['any']))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, f"duckdb:///{database}"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    assert {each.suffix for each in database.parent.iterdir()} == {".duckdb", ".lock"}
