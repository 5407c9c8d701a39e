"""A tree of calls of a model under one budget, on PostgreSQL with three workers, one of which is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from apflow.core import create_session, submit
from apflow.core.service.task_service import TaskService
from apflow.core.store.base import TaskStore
from apflow.testing.modelserver import ModelServer, Reply, model_server

TASKS = 50
BUDGET = 700  # tokens
MOST = 30  # tokens of an answer that a call may have
IN_FLIGHT = 8  # calls of one worker at once
USED = 15  # tokens that the server counts for a call


@contextmanager
def workers(folder: Path, url: str, count: int) -> Iterator[list[subprocess.Popen[str]]]:
    """Run workers until the test ends."""
    own = {
        "APFLOW_DATABASE_URL": url,
        "APFLOW_LEASE_SECONDS": "2",
        "APFLOW_MAX_CONCURRENCY": str(IN_FLIGHT),
        "APFLOW_ISOLATION_SECONDS": "0",
        "HOME": str(folder),
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("APFLOW_")}
    command = [sys.executable, "-m", "apflow.cli", "worker"]
    running = [
        subprocess.Popen(command, env=kept | own, cwd=folder, stderr=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    try:
        for each in running:
            assert each.stderr is not None
            assert each.stderr.readline().startswith("Running")
        yield running
    finally:
        for each in running:
            each.kill()
        for each in running:
            each.wait()
            assert each.stderr is not None
            each.stderr.close()


def tree(server: ModelServer) -> list[dict[str, Any]]:
    inputs = {
        "model": "openai/gpt-4o",
        "api_base": server.openai_url,
        "api_key": "key-of-test",
        "prompt": "Hello?",
        "max_tokens": MOST,
    }
    root = {"id": "r", "name": "all", "budget": {"tokens": BUDGET}}
    return [
        root,
        *({"id": f"t{n}", "name": "llm_executor", "parent_id": "r", "inputs": inputs} for n in range(TASKS)),
    ]


async def owner(db: TaskStore) -> int:
    """Return the process that runs the tree."""
    async with asyncio.timeout(60):
        while True:
            root = (await db.get(["r"]))["r"]
            if root.run_owner is not None:
                return int(root.run_owner.split(":")[1])
            await asyncio.sleep(0.05)


async def requested(server: ModelServer, count: int) -> None:
    """Wait until the server has received so many calls.

    The first ones import LiteLLM, which takes long.
    """
    async with asyncio.timeout(300):
        while len(server.requests) < count:  # noqa: ASYNC110 - the server sets no event
            await asyncio.sleep(0.01)


async def ended(db: TaskStore) -> None:
    async with asyncio.timeout(300):
        while True:
            if (await db.get(["r"]))["r"].run_ended_at is not None:
                return
            await asyncio.sleep(0.1)


async def test_a_budget_holds_when_the_worker_that_spends_it_is_killed(tmp_path: Path, postgres_url: str):
    pytest.importorskip("litellm")
    with model_server() as server, workers(tmp_path, postgres_url, 3) as running:
        soon = Reply("one two", prompt_tokens=10, completion_tokens=USED - 10, first_after=0.3)
        server.default = soon
        async with create_session(postgres_url) as db:
            service = TaskService(db)
            await service.create(tree(server))
            await submit(db, "r")
            await requested(server, 2 * IN_FLIGHT)
            server.default = replace(soon, first_after=300.0)  # the next calls are in flight until the kill
            await requested(server, len(server.requests) + IN_FLIGHT)
            pid = await owner(db)  # not before: on a busy machine, the first worker may lose its lease
            [killed] = [each for each in running if each.pid == pid]
            in_flight = server.answering
            server.default = soon
            killed.send_signal(signal.SIGKILL)
            before = len(server.requests)
            await ended(db)
            assert await owner_of_end(db) != pid
            account, usage = await service.budget("r"), (await service.get("r"))["usage"]
            tasks = await db.tree("r")
    answered, requests = account["spent"]["calls"], len(server.requests)
    assert in_flight == IN_FLIGHT
    assert requests > before  # another worker continued
    # What the account says of calls that ended is what the server counted for them.
    assert account["spent"]["tokens"] == usage["total_tokens"] == USED * answered
    assert usage["calls"] == answered
    # The others were in flight at the kill, and are charged with what they may have used.
    assert answered <= requests <= answered + account["lost"]["calls"]
    assert account["lost"]["calls"] <= IN_FLIGHT
    assert USED * requests <= BUDGET
    assert account["spent"]["tokens"] + account["lost"]["tokens"] <= BUDGET
    assert (account["open_calls"], account["reserved"]["tokens"]) == (0, 0)
    failed = [task.result["error_type"] for task in tasks if task.status == "failed" and task.id != "r"]
    assert set(failed) == {"BudgetExceededError"}
    assert len(failed) == TASKS - sum(task.status == "completed" for task in tasks)


async def owner_of_end(db: TaskStore) -> int:
    """Return the process that ended the last task."""
    tasks = [task for task in await db.tree("r") if task.id != "r" and task.owner is not None]
    last = max(tasks, key=lambda task: str(task.completed_at))
    return int(str(last.owner).split(":")[1])
