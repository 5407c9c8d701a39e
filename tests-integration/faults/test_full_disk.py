"""The disk of a server's database is filled and emptied while trees are submitted and run.

The server continues: `/ready` names the reason while it lasts, waiting callers are answered, and every
acknowledged tree ends without a restart.
"""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
from clusterkit.disk import a_small_disk, fill
from serving import Process, serve_process, wait_for

from apflow.core.errors import StoreUnavailableError
from apflow.storage.duckdb import DuckDBStore
from apflow.testing.building import a_task
from apflow.testing.postgresserver import Server, a_server

TIMEOUT_SECONDS = 120.0
SIZES = (100, 500, 3000, 40_000)  # bytes of inputs
MODULE = """
import asyncio
import os
from apflow.core import BaseTask, executor_register

@executor_register()
class Pause(BaseTask):
    id = "pause"
    effect = "idempotent"

    async def execute(self, inputs):
        await asyncio.sleep(inputs.get("seconds", 0.02))
        return {"text": os.urandom(inputs.get("size", 500)).hex()}
"""


def tree(root_id: str, count: int = 6, **inputs: Any) -> list[dict[str, Any]]:
    """Return a chain of tasks below a group."""
    chain = [
        {
            "id": f"{root_id}.{at}",
            "name": "pause",
            "parent_id": root_id,
            "dependencies": [f"{root_id}.{at - 1}"] if at else [],
            "inputs": inputs,
        }
        for at in range(count)
    ]
    return [{"id": root_id, "name": "group"}, *chain]


class Load:
    """Submits trees to a server from some threads, without an end, and remembers which were acknowledged.

    Args:
        size: random bytes in the result of each task.
    """

    def __init__(self, url: str, size: int) -> None:
        self.url, self._size = url, size
        self.acknowledged: list[str] = []
        self.refusals: Counter[str] = Counter()
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(name,), name=name) for name in "abc"]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _run(self, name: str) -> None:
        number = 0
        with httpx.Client(timeout=TIMEOUT_SECONDS) as http:
            while not self._is_over.wait(0.02):
                number += 1
                with suppress(httpx.TransportError):
                    root_id = f"load-{name}{number}"
                    tasks = tree(root_id, size=self._size)
                    answer = call(http, self.url, "tasks.execute", tasks=tasks)
                    if "result" in answer:
                        self.acknowledged.append(root_id)
                    else:
                        self.refusals[answer["error"]["message"]] += 1


def call(http: httpx.Client, url: str, method: str, **params: Any) -> dict[str, Any]:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    answer: dict[str, Any] = http.post(f"{url}/tasks", json=body).json()
    return answer


def ready(url: str) -> tuple[int, dict[str, str]]:
    answer = httpx.get(f"{url}/ready", timeout=TIMEOUT_SECONDS)
    return answer.status_code, answer.json()


def until_ready(url: str, status: int) -> dict[str, str]:
    wait_for(lambda: ready(url)[0] == status, TIMEOUT_SECONDS)
    return ready(url)[1]


def statuses(url: str, ids: list[str]) -> Counter[str]:
    found: Counter[str] = Counter()
    with httpx.Client(timeout=TIMEOUT_SECONDS) as http:
        for at in range(0, len(ids), 100):
            answer = call(http, url, "tasks.running.status", task_ids=ids[at : at + 100])
            found.update(each["status"] for each in answer["result"])
    return found


def check_all_end(load: Load) -> None:
    """Wait until every acknowledged tree has completed."""
    ids = list(load.acknowledged)
    with suppress(AssertionError):
        wait_for(lambda: not statuses(load.url, ids).keys() - {"completed", "failed"}, TIMEOUT_SECONDS)
    assert statuses(load.url, ids) == {"completed": len(ids)}


@contextmanager
def served_by_duckdb(folder: Path) -> Iterator[tuple[Process, Path]]:
    """Serve a DuckDB file on a small disk."""
    (folder / "pauses.py").write_text(MODULE)
    with a_small_disk(48) as disk:
        environment = {"APFLOW_DATABASE_URL": f"duckdb:///{disk / 'served.duckdb'}"}
        with serve_process(
            folder, "--import", "pauses", environment={**environment, "PYTHONPATH": str(folder)}
        ) as server:
            yield server, disk


def fill_and_empty(
    server: Process, disk: Path, times: int, *, size: int, repair: Callable[[], object] = lambda: None
) -> None:
    """Fill the disk under load and empty it again, `times` times. The server is never restarted.

    Args:
        size: random bytes in the result of each task.
        repair: called again and again once the disk has space, until the server is ready.
    """
    reasons: Counter[str] = Counter()
    with Load(server.url, size) as load:
        for _ in range(times):
            before = len(load.acknowledged)
            wait_for(lambda before=before: len(load.acknowledged) > before + 5, TIMEOUT_SECONDS)
            fill(disk / "ballast")
            problem = until_ready(server.url, 503)
            reasons[problem["reason"]] += 1
            time.sleep(0.5)
            (disk / "ballast").unlink()
            until_repaired(server, repair)
    check_all_end(load)
    assert server.popen.poll() is None
    ended, refused = len(load.acknowledged), dict(load.refusals)
    print(f"{times} fills, reasons {dict(reasons)}: {ended} trees ended; refused: {refused}")


def until_repaired(server: Process, repair: Callable[[], object]) -> None:
    try:
        wait_for(lambda: repair() is None and ready(server.url)[0] == 200, TIMEOUT_SECONDS)
    except AssertionError as error:
        error.add_note(f"{ready(server.url)}\n{server.log.read_text()[-5000:]}")
        raise


def test_a_full_disk_delays_trees_and_loses_none(tmp_path: Path):
    with served_by_duckdb(tmp_path) as (server, disk):
        fill_and_empty(server, disk, 2, size=500)


@pytest.mark.faults
def test_twenty_full_disks_lose_no_tree(tmp_path: Path):
    with served_by_duckdb(tmp_path) as (server, disk):
        fill_and_empty(server, disk, 20, size=500)


async def test_a_store_takes_changes_as_soon_as_a_full_disk_has_space():
    """Also after DuckDB has invalidated the database, because a checkpoint failed."""
    random, added = Random(3), list[str]()

    async def add(store: DuckDBStore) -> None:
        task_id = f"t{random.getrandbits(64):x}"
        await store.add([a_task(task_id, inputs={"text": random.randbytes(random.choice(SIZES)).hex()})])
        added.append(task_id)

    with a_small_disk(48) as disk:
        url = f"duckdb:///{disk / 'filled.duckdb'}"
        async with DuckDBStore(url) as store:
            while sum(each.stat().st_size for each in disk.iterdir()) < 12_000_000:
                for _ in range(random.randint(1, 60)):
                    await add(store)
                fill(disk / "ballast")
                adding = asyncio.gather(
                    *(add(store) for _ in range(random.randint(1, 200))), return_exceptions=True
                )
                await asyncio.sleep(random.random() / 2)
                (disk / "ballast").unlink()
                async with asyncio.timeout(TIMEOUT_SECONDS):
                    await until_added(lambda: add(store))
                    await adding
            assert len(await store.get(added)) == len(added)
        async with DuckDBStore(url) as store:
            assert len(await store.get(added)) == len(added)


async def until_added(add: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            return await add()
        except StoreUnavailableError:
            await asyncio.sleep(0.02)


def test_callers_that_wait_are_told_of_a_full_disk(tmp_path: Path):
    with served_by_duckdb(tmp_path) as (server, disk), httpx.Client(timeout=TIMEOUT_SECONDS) as http:
        answers: list[Any] = []
        body = {
            "jsonrpc": "2.0", "id": 1, "method": "tasks.execute",
            "params": {"tasks": tree("waited", 3, seconds=3.0), "wait": True},
        }  # fmt: skip
        waiting = threading.Thread(
            target=lambda: answers.append(
                httpx.post(f"{server.url}/tasks", json=body, timeout=TIMEOUT_SECONDS)
            )
        )
        told: list[str] = []
        waiting.start()
        wait_for(lambda: statuses_of(http, server.url, "waited") == "in_progress", TIMEOUT_SECONDS)
        following = threading.Thread(target=follow, args=(server.url, "waited", told))
        following.start()
        wait_for(lambda: bool(told), TIMEOUT_SECONDS)
        fill(disk / "ballast")
        assert until_ready(server.url, 503) == {
            "status": "store unavailable", "reason": "No space left on device",
        }  # fmt: skip
        waiting.join(TIMEOUT_SECONDS)
        error = answers[0].json()["error"]
        assert "No space left on device" in error["message"], error
        assert error["data"]["type"] == "StoreUnavailableError"
        wait_for(lambda: any("No space left on device" in line for line in told), TIMEOUT_SECONDS)
        (disk / "ballast").unlink()
        wait_for(lambda: statuses_of(http, server.url, "waited") == "completed", TIMEOUT_SECONDS)
        following.join(TIMEOUT_SECONDS)
        assert any("tree_completed" in line for line in told)


def statuses_of(http: httpx.Client, url: str, root_id: str) -> str:
    answer = call(http, url, "tasks.running.status", task_ids=[root_id])
    return answer["result"][0]["status"] if "result" in answer else "unknown"


def follow(url: str, root_id: str, told: list[str]) -> None:
    with (
        httpx.Client(timeout=TIMEOUT_SECONDS) as http,
        http.stream("GET", f"{url}/tasks/{root_id}/events") as answer,
    ):
        for line in answer.iter_lines():
            if line:
                told.append(line)  # noqa: PERF401 - another thread reads the list meanwhile


@contextmanager
def served_by_postgres(folder: Path, server: Server) -> Iterator[Process]:
    (folder / "pauses.py").write_text(MODULE)
    environment = {
        "APFLOW_DATABASE_URL": server.url(), "APFLOW_LEASE_SECONDS": "2",
        "APFLOW_MAX_INTERRUPTIONS": "1000", "PYTHONPATH": str(folder),
    }  # fmt: skip
    with serve_process(folder, "--import", "pauses", environment=environment) as served:
        yield served


def postgres_campaign(folder: Path, times: int) -> None:
    with a_small_disk(256 + 64 * times) as disk:  # what the load stores has room; the log alone takes 64 MB
        settings = "max_wal_size = 64MB\nmin_wal_size = 32MB\n"
        with a_server(disk / "data", settings) as server, served_by_postgres(folder, server) as served:

            def repair() -> None:  # PostgreSQL ends when it cannot write its log during its own recovery
                if not server.is_running():
                    server.start()

            fill_and_empty(served, disk, times, repair=repair, size=20_000)


@pytest.mark.faults
def test_a_full_disk_of_a_postgresql_loses_no_tree(tmp_path: Path):
    postgres_campaign(tmp_path, 3)


@pytest.mark.faults
def test_twenty_full_disks_of_a_postgresql_lose_no_tree(tmp_path: Path):
    postgres_campaign(tmp_path, 20)
