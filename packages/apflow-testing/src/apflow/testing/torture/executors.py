"""What the workers run: bodies that write down each start and each end.

A worker imports this module (`--import`). The history is a file outside the store: one line for each start
and end, handed to the operating system before the body continues.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from apflow.core import BaseTask, executor_register, get_default_session, register_task_tree_hook
from apflow.core.engine.active_runs import owner_id
from apflow.core.errors import ApflowError
from apflow.core.events.bus import bus_of
from apflow.core.events.subscription import Subscription
from apflow.core.extensions.approval import ask_approval
from apflow.core.model.approval import ApprovalRequest, OnTimeout
from apflow.core.model.event import LIVE
from apflow.core.model.task import Task
from apflow.testing.torture.history import History

LEASES = "apflow.core.engine.leases"  # the logger of what renews leases
BELONGS = "belongs to another process"  # in what it logs where that is not because this process was held up

_watchers: set[asyncio.Task[None]] = set()


@cache
def history() -> History:
    """Return the history of this worker, whose file its environment names."""
    return History(Path(os.environ["FAULTS_HISTORY"]), os.getpid())


def note(kind: str, **facts: Any) -> None:
    """Write a line into the history."""
    history().append(kind, time=time.monotonic(), **facts)


class Noted(BaseTask):
    """Takes so many seconds."""

    id = "noted"
    name = "Noted"
    description = "Writes down when it starts and ends"

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Write down the start, take the time, and write down the end."""
        facts = _facts(self)
        note("started", **facts)
        await asyncio.sleep(inputs.get("seconds", 0.0))
        fails = inputs.get("fails", 0)
        note("ended", fails=self.attempts <= fails, **facts)
        if self.attempts <= fails:
            raise RuntimeError(f"attempt {self.attempts} of {self.task_id} fails")
        found: dict[str, Any] = {"owner": owner_id(), "of": [*self.dependency_results]}
        if "rows" in inputs:
            found["rows"] = list(range(inputs["rows"]))
        return found | ({"item": inputs["item"]} if "item" in inputs else {})


class Asking(BaseTask):
    """Waits for an approval, and completes however it is decided."""

    id = "asking"
    name = "Asking"
    description = "Writes down when it asks and when that is decided"
    only_waits = True

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Write down the start, wait for the decision, and write down the end."""
        facts = _facts(self)
        note("started", **facts)
        approval = await ask_approval(request_of(inputs["decide"], inputs["timeout"]))
        note("ended", fails=False, **facts)
        if approval.decision is None:
            raise RuntimeError("The wait has ended without a decision.")
        return {"owner": owner_id(), "decision": approval.decision.to_json()}


def request_of(decide: str, timeout: float) -> ApprovalRequest:
    """Return what is asked. The question says how it will be decided: see `trees.DECISIONS`."""
    has_timeout = decide in ("default", "race")
    return ApprovalRequest(
        question=decide, timeout=timeout if has_timeout else None, on_timeout=OnTimeout.APPROVE
    )


def _facts(task: BaseTask) -> dict[str, Any]:
    generation = int(str(task.idempotency_key).rpartition(":")[2])
    facts: dict[str, Any] = {"task_id": task.task_id, "root_id": task.root_task_id}
    return facts | {"generation": generation, "attempt": task.attempts}


executor_register()(Noted)
executor_register()(Asking)


class HeldUp(logging.Handler):
    """Writes down that this process, or its database, was too slow to renew leases."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line for a record of the log."""
        if record.levelno >= logging.WARNING and BELONGS not in record.getMessage():
            note("held_up", pid=os.getpid())


logging.getLogger(LEASES).addHandler(HeldUp())


async def watch(root: Task) -> None:
    """Write down the events that a subscriber in this process receives."""
    if "FAULTS_WATCH" in os.environ:
        task = asyncio.create_task(_told(root.id), name=f"watch:{root.id}")
        _watchers.add(task)
        task.add_done_callback(_watchers.discard)


async def _told(root_id: str) -> None:
    db = get_default_session()
    with suppress(ApflowError):  # the store is closed with its process, and the server may be down
        async for event in Subscription(bus_of(db), db, root_id, after=0):
            if event.type not in LIVE:
                facts = {"sequence": event.sequence, "type": event.type, "task_id": event.task_id}
                note("told", root_id=root_id, **facts)


register_task_tree_hook("on_tree_started", watch)


async def ended(root: Task, _: Any) -> None:
    """Write down that a tree has ended."""
    note("tree_ended", root_id=root.id)


for _event in ("on_tree_completed", "on_tree_failed", "on_tree_cancelled"):
    register_task_tree_hook(_event, ended)
