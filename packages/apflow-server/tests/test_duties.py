"""A part of the server that ends too early is logged and restarted; the probes report it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager

import httpx
import pytest
from serving import Served, serving, wait_for
from trees import steps, tree

from apflow.core import MemoryStore, Task
from apflow.core.concurrency import supervision


class Panic(BaseException):
    """As libraries written in Rust raise."""


class FailingStore(MemoryStore):
    """Raises `error` where the worker looks for requested trees."""

    error: BaseException | None = None
    loop: asyncio.AbstractEventLoop

    async def reserve(self, owner: str, limit: int, without: Collection[str] = ()) -> Sequence[Task]:
        self.loop = asyncio.get_running_loop()
        if self.error is not None:
            raise self.error
        return await super().reserve(owner, limit, without)

    def cancel_task(self, name: str) -> None:
        """Cancel an asyncio task of the server."""
        tasks = [task for task in asyncio.all_tasks(self.loop) if task.get_name() == name]
        assert tasks
        for task in tasks:
            self.loop.call_soon_threadsafe(task.cancel)


@contextmanager
def served_store() -> Generator[tuple[Served, FailingStore, httpx.Client]]:
    db = FailingStore()
    with serving(db=db) as served, httpx.Client(base_url=served.url) as http:
        wait_for(lambda: hasattr(db, "loop"))
        yield served, db, http


def status_of(http: httpx.Client, path: str) -> tuple[int, str]:
    answer = http.get(path)
    return answer.status_code, answer.json()["status"]


def run_tree(http: httpx.Client) -> None:
    """Run a tree: the worker that has been restarted does its work."""
    with steps():
        params = {"tasks": tree("t", 3), "wait": True}
        call = {"jsonrpc": "2.0", "id": 1, "method": "tasks.execute", "params": params}
        answer = http.post("/tasks", json=call, timeout=30).json()
    assert answer["result"]["status"] == "completed"


def restarts(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if "started again" in record.getMessage()]


@pytest.mark.parametrize("error", [Panic("broken"), SystemExit(3), GeneratorExit()], ids=repr)
def test_the_probes_report_a_worker_that_fails_until_it_runs_again(
    error: BaseException, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(supervision, "MAX_PAUSE_SECONDS", 0.5)
    with served_store() as (_, db, http):
        assert status_of(http, "/health") == (200, "ok")
        db.error = error
        problem = 503, "no trees are run: the worker has failed and is being restarted"
        wait_for(lambda: status_of(http, "/health") == problem)
        wait_for(lambda: status_of(http, "/ready") == problem)
        db.error = None
        wait_for(lambda: status_of(http, "/health") == (200, "ok"))
        run_tree(http)
    records = restarts(caplog)
    assert records
    for record in records:
        assert record.levelno == logging.ERROR
        assert record.exc_info is not None
        assert record.exc_info[1] is error
        assert record.exc_info[2] is not None  # the log has the traceback


PARTS = {
    "apflow:worker:sweep": "apflow:worker:sweep ended unexpectedly",
    "apflow:server:worker": "apflow:server:worker ended unexpectedly",
    "apflow:server:worker:supervision": "apflow:server:worker was cancelled by other code",
    "apflow:server:webhooks": "apflow:server:webhooks ended unexpectedly",
    "apflow:server:webhooks:supervision": "apflow:server:webhooks was cancelled by other code",
    "apflow:server:observation": "apflow:server:observation ended unexpectedly",
    "apflow:server:observation:supervision": "apflow:server:observation was cancelled by other code",
    "apflow:server:end": "apflow:server:end ended unexpectedly",
    "apflow:server:end:supervision": "apflow:server:end was cancelled by other code",
}


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_other_code_cancels_goes_on(part: str, caplog: pytest.LogCaptureFixture):
    with served_store() as (_, db, http):
        db.cancel_task(part)
        wait_for(lambda: PARTS[part] in caplog.text)
        wait_for(lambda: status_of(http, "/ready") == (200, "ok"))
        run_tree(http)
    records = [record for record in caplog.records if PARTS[part] in record.getMessage()]
    assert records[0].levelno == logging.ERROR


@pytest.mark.parametrize("part", PARTS)
def test_a_server_whose_parts_were_cancelled_ends_as_it_should(part: str, caplog: pytest.LogCaptureFixture):
    with served_store() as (served, db, _):
        db.cancel_task(part)
        wait_for(lambda: PARTS[part] in caplog.text)
        served.app.state.drain.begin()
    # `serving` asserts that the server ends.
