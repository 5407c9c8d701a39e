"""Servers as processes: killed in the middle of their work, and several on one PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from peers.ports import free_socket, port_of
from reading import Watcher, client_of, follow, numbers
from receiver import Receiver, receiving
from serving import Process, answers, serve_process, wait_for

from apflow.core.model.task import Json

MODULE = '''
import asyncio
from pathlib import Path

from apflow.core import BaseTask, executor_register


@executor_register()
class Pause(BaseTask):
    """Takes a moment, reports its progress, and waits at a gate on request."""

    id = "pause"
    effect = "idempotent"

    async def execute(self, inputs):
        await self.report_progress(0.5, "half of it")
        await asyncio.sleep(inputs.get("seconds", 0.05))
        while inputs.get("gate") and not Path("go").exists():
            await asyncio.sleep(0.01)
        return {"at": inputs.get("at")}
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder to run servers in, with a module of executors."""
    (tmp_path / "pauses.py").write_text(textwrap.dedent(MODULE))
    return tmp_path


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


def chain(root_id: str, length: int, seconds: float, gate: int | None = None) -> list[dict[str, Json]]:
    """Return a tree whose tasks run one after the other; from number `gate` on they wait for a file."""
    return [
        {"id": root_id, "name": "group"},
        *(
            {
                "id": f"{root_id}.{at}",
                "name": "pause",
                "parent_id": root_id,
                "dependencies": [f"{root_id}.{at - 1}"] if at else [],
                "inputs": {"at": at, "seconds": seconds, "gate": gate is not None and at >= gate},
            }
            for at in range(length)
        ),
    ]


async def call(url: str, method: str, **params: Json) -> Any:
    """Call a method of a server and return its result."""
    async with client_of(url) as client:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer = await client.post("/tasks", json=body)
    assert answer.status_code == 200, answer.text
    assert "error" not in answer.json(), answer.text
    return answer.json()["result"]


async def until(condition: Callable[[], bool], timeout: float = 30) -> None:
    await asyncio.to_thread(wait_for, condition, timeout)


def status_of(url: str, task_id: str) -> Any:
    return httpx.post(f"{url}/call/tasks.get", json={"id": task_id}, timeout=20).json()["status"]


def told(receiver: Receiver, root_id: str) -> list[int]:
    """Return the numbers of the events of a tree that a receiver took, in the order of their arrival."""
    return [event["sequence"] for event in receiver.events(root_id)]


def without_repetition(numbers: list[int]) -> list[int]:
    return list(dict.fromkeys(numbers))


@contextmanager
def running(folder: Path, environment: dict[str, str], *arguments: str) -> Generator[subprocess.Popen[bytes]]:
    """Run a module in a folder, and end it at the end if it still runs."""
    with (folder / f"{arguments[0]}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=folder,
            env={**os.environ, **environment, "PYTHONPATH": str(folder)},
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()


# --- one server, killed ------------------------------------------------------------------------------


async def killed_in_the_middle(folder: Path, receiver: Receiver, count: int, length: int) -> None:
    """Run trees, watched and with webhooks; kill the server, start it again, and look at the end."""
    roots = [f"tree{at}" for at in range(count)]
    secrets: dict[str, str] = {}
    with ExitStack() as stack:
        servers = [stack.enter_context(serve_process(folder, "--import", "pauses"))]
        for root_id in roots:
            answer = await call(
                servers[0].url,
                "tasks.execute",
                tasks=chain(root_id, length, 0.02, gate=length // 2),
                webhook_config={"url": receiver.url},
            )
            secrets[root_id] = answer["webhook_secret"]
        watchers = [Watcher(root_id, lambda: servers[-1].url) for root_id in roots]
        async with asyncio.timeout(180), asyncio.TaskGroup() as group:
            for each in watchers:
                group.create_task(each.watch())
            # Half of each tree has run; one task of each is running; webhooks are on their way.
            await until(lambda: all(done(each) >= length // 2 for each in watchers), 60)
            await until(lambda: all(told(receiver, root_id) for root_id in roots))
            servers[0].end(signal.SIGKILL)
            (folder / "go").touch()
            servers.append(stack.enter_context(serve_process(folder, "--import", "pauses")))
        assert all(each.breaks for each in watchers)
        for each in watchers:
            await look_at(each, servers[-1].url, receiver)
        for request in receiver.requests:
            request.verify(secrets[request.event["root_task_id"]])
        assert servers[-1].end() == 0


def done(watcher: Watcher) -> int:
    return sum(event["event"] == "task_completed" for event in watcher.events)


async def look_at(watcher: Watcher, url: str, receiver: Receiver) -> None:
    """Check that a tree has ended, and that its watcher and its webhook received all events."""
    async with client_of(url) as client:
        stored = await follow(client, watcher.root_id, params={"after": 0})
    assert stored[-1]["event"] == "tree_completed"
    assert numbers(watcher.events) == numbers(stored) == list(range(1, len(numbers(stored)) + 1))
    run = [int(event["id"]) for event in stored if event["event"] != "task_created" and "id" in event]

    await until(lambda: told(receiver, watcher.root_id)[-1:] == run[-1:])
    async with asyncio.timeout(30):
        while True:  # it is noted a moment after the answer
            [webhook] = await call(url, "tasks.webhooks", task_id=watcher.root_id)
            if webhook["status"] == "done":
                break
            await asyncio.sleep(0.02)
    # At least once, in order: after the crash it goes back a little, and leaves nothing out.
    assert without_repetition(told(receiver, watcher.root_id)) == run


async def test_a_server_is_killed_with_5_running_trees_and_nothing_is_lost(folder: Path, receiver: Receiver):
    await killed_in_the_middle(folder, receiver, count=5, length=25)


@pytest.mark.long
async def test_a_server_is_killed_with_20_running_trees_and_nothing_is_lost(folder: Path, receiver: Receiver):
    await killed_in_the_middle(folder, receiver, count=20, length=20)


async def test_a_server_that_is_told_to_end_tells_its_watchers_and_ends_in_good_order(
    folder: Path, receiver: Receiver
):
    with serve_process(
        folder, "--import", "pauses", environment={"APFLOW_SHUTDOWN_TIMEOUT": "0.2"}
    ) as server:
        webhook_config: Json = {"url": receiver.url}
        await call(server.url, "tasks.execute", tasks=chain("r", 10, 0.2), webhook_config=webhook_config)
        async with client_of(server.url) as client:
            reading = asyncio.create_task(follow(client, "r", params={"after": 0}))
            await until(lambda: len(told(receiver, "r")) > 3)
            assert await asyncio.to_thread(server.end) == 0
            first = await reading  # it ended as a stream does, not with an error
    with serve_process(folder, "--import", "pauses") as server:
        async with client_of(server.url) as client:
            headers = {"Last-Event-ID": str(numbers(first)[-1])}
            second = await follow(client, "r", headers=headers)
            stored = await follow(client, "r", params={"after": 0})
    assert numbers(first) + numbers(second) == numbers(stored)
    assert second[-1]["event"] == "tree_completed"


async def test_code_that_takes_longer_than_the_shutdown_is_ended_and_its_tree_is_given_up_for_another(
    folder: Path,
):
    environment = {"APFLOW_SHUTDOWN_TIMEOUT": "0.5"}
    with serve_process(folder, "--import", "pauses", environment=environment) as server:
        await call(server.url, "tasks.execute", tasks=chain("r", 1, 60))
        await until(lambda: status_of(server.url, "r.0") == "in_progress")
        assert await asyncio.to_thread(server.end) == 0  # which waits for less than the task takes
    with serve_process(folder, "--import", "pauses", environment=environment) as server:
        await until(lambda: status_of(server.url, "r.0") == "in_progress")
        [cancelled] = await call(server.url, "tasks.cancel", task_ids=["r"], force=True)
        assert cancelled["status"] == "cancelled"
        assert await asyncio.to_thread(server.end) == 0


async def test_an_embedded_application_ends_its_streams_when_uvicorn_ends(folder: Path):
    (folder / "embedding.py").write_text("from apflow.server import create_app\n\napp = create_app()\n")
    database = {"APFLOW_DATABASE_URL": f"duckdb:///{folder}/t.duckdb"}
    with (
        free_socket() as reserved,
        running(folder, database, "uvicorn", "embedding:app", "--port", str(port_of(reserved))) as process,
    ):
        url = f"http://127.0.0.1:{port_of(reserved)}"
        await until(lambda: answers(url) or process.poll() is not None)
        await call(url, "tasks.create", tasks=chain("r", 2, 0.1))
        async with client_of(url) as client:
            reading = asyncio.create_task(follow(client, "r"))
            await asyncio.sleep(0.5)  # the stream is open, and nothing follows
            process.terminate()
            [snapshot] = await reading
        assert snapshot["event"] == "snapshot"
        await asyncio.to_thread(process.wait, 20)


# --- several on one PostgreSQL -------------------------------------------------------------------------


@pytest.fixture
def postgres(postgres_url: str) -> dict[str, str]:
    """The settings of servers that share a database."""
    return {"APFLOW_DATABASE_URL": postgres_url, "APFLOW_LEASE_SECONDS": "2"}


async def test_three_replicas_create_on_one_watch_on_another_cancel_on_the_third(
    folder: Path, postgres: dict[str, str], receiver: Receiver
):
    with ExitStack() as stack:
        a, b, c = [
            stack.enter_context(serve_process(folder, "--import", "pauses", environment=postgres))
            for _ in range(3)
        ]
        await call(a.url, "tasks.execute", tasks=chain("r", 30, 0.3), webhook_config={"url": receiver.url})
        watcher = Watcher("r", lambda: b.url)
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(watcher.watch())
            await until(lambda: any(each["event"] == "progress" for each in watcher.events))
            [cancelled] = await call(c.url, "tasks.cancel", task_ids=["r"])
        assert cancelled["status"] == "cancelled"
        assert watcher.events[-1]["event"] == "tree_cancelled"
        async with client_of(c.url) as client:
            stored = await follow(client, "r", params={"after": 0})
        assert numbers(watcher.events) == numbers(stored)
        run = [int(event["id"]) for event in stored if event["event"] != "task_created"]
        await until(lambda: told(receiver, "r")[-1:] == run[-1:])
        assert told(receiver, "r") == run  # one of the three delivers
        assert [each.end() for each in (a, b, c)] == [0, 0, 0]


async def test_a_watcher_of_a_tree_that_a_worker_runs_is_told_all_of_it(
    folder: Path, postgres: dict[str, str]
):
    # The server lacks the executor, so it leaves the tree to the worker.
    with (
        serve_process(folder, environment=postgres) as server,
        running(folder, postgres, "apflow.cli", "worker", "--import", "pauses") as process,
    ):
        await until(lambda: "Running" in (folder / "apflow.cli.log").read_text())
        watcher = Watcher("r", lambda: server.url)
        await call(server.url, "tasks.execute", tasks=chain("r", 10, 0.2))
        async with asyncio.timeout(60):
            await watcher.watch()
        assert process.poll() is None
        async with client_of(server.url) as client:
            stored = await follow(client, "r", params={"after": 0})
    assert numbers(watcher.events) == numbers(stored)
    assert [event["event"] for event in watcher.events].count("task_completed") == 11
    assert any(event["event"] == "progress" for event in watcher.events)  # live ones cross, too


async def test_webhooks_of_a_replica_that_is_killed_are_delivered_by_another(
    folder: Path, postgres: dict[str, str], receiver: Receiver
):
    with ExitStack() as stack:
        first: Process = stack.enter_context(
            serve_process(folder, "--import", "pauses", environment=postgres)
        )
        webhook_config: Json = {"url": receiver.url, "timeout": 1}
        await call(first.url, "tasks.execute", tasks=chain("r", 15, 0.2), webhook_config=webhook_config)
        await until(lambda: len(told(receiver, "r")) > 2)
        second = stack.enter_context(serve_process(folder, "--import", "pauses", environment=postgres))
        first.end(signal.SIGKILL)
        async with asyncio.timeout(60):
            await Watcher("r", lambda: second.url).watch()
        async with client_of(second.url) as client:
            stored = await follow(client, "r", params={"after": 0})
        run = [int(event["id"]) for event in stored if event["event"] != "task_created"]
        await until(lambda: told(receiver, "r")[-1:] == run[-1:], 60)
    assert without_repetition(told(receiver, "r")) == run


def test_a_database_that_admits_one_process_takes_one_server(folder: Path):
    with serve_process(folder) as server:
        command = [sys.executable, "-m", "apflow.server", "--port", "0"]
        environment = os.environ | {"APFLOW_DATABASE_URL": f"duckdb:///{folder / 'served.duckdb'}"}
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 5
        assert f"is in use by process {server.popen.pid}" in done.stderr
        assert "Serving" not in done.stderr
        assert "Traceback" not in done.stderr
        assert httpx.get(f"{server.url}/ready").status_code == 200
