"""Runs of trees as tasks of the protocol: what a client polls instead of waiting for the result of a call.

The store of trees is the only truth: the record of such a task holds which run it stands for, and never
changes. Its state is computed from the tree and its events, so that any process on the same database answers.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple, cast

from apflow.core.model.event import FINAL, EventType, TaskEvent
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json, Task, to_json
from apflow.core.model.tree import tree_status
from apflow.core.planning.run_start import has_unended_run
from apflow.core.service.access import may_see
from apflow.core.service.run_outcome import run_outcome
from apflow.core.store.base import TaskStore
from apflow.server.http.api_error import ApiError
from apflow.server.mcp.approvals import decide, open_for, requests_of
from apflow.server.mcp.calls import Calls, error_text, events_of
from apflow.server.mcp.changes import batched
from apflow.server.mcp.exchange import INVALID_PARAMS, Exchange, ProtocolError
from apflow.server.mcp.runs import Runs, outcome_of
from apflow.server.mcp.tool_results import result_of

KIND: Final = "mcp.task"  # of records; key: the ID of the task
RANDOM_BYTES: Final = 16  # of an ID, which cannot be guessed
EXPIRED_AT_ONCE: Final = 20  # records that are removed with each one that is added
MIN_POLL_SECONDS: Final = 0.5
MAX_POLL_SECONDS: Final = 5.0
POLLS: Final = 10  # the interval is the age of the task divided by this, within its bounds
PAGE: Final = 500  # events
ENDED: Final = ("completed", "cancelled")


@dataclass(frozen=True)
class RunTask:
    """A task of the protocol, as its record keeps it."""

    root_id: str
    tool: str  # that was called, which decides what the result looks like
    executed: dict[str, Json]  # the result of the request of the run
    requested_at: str | None  # identifies the run while it lasts
    after: int  # sequence number of an event of the run
    created_at: str
    ttl_ms: int

    @property
    def is_expired(self) -> bool:
        """Whether its time is over."""
        return self._age * 1000 > self.ttl_ms

    @property
    def poll_ms(self) -> int:
        """Milliseconds until the client should ask again: the older the task, the longer."""
        return int(1000 * min(MAX_POLL_SECONDS, max(MIN_POLL_SECONDS, self._age / POLLS)))

    @property
    def _age(self) -> float:
        return (datetime.now(UTC) - datetime.fromisoformat(self.created_at)).total_seconds()


class RunTasks:
    """The tasks of the protocol that stand for runs.

    Args:
        calls_of: returns what the sender of a request may call.
        runs: requests and cancels the runs.
        ttl_seconds: for how long a task is kept after its creation.
    """

    def __init__(self, calls_of: Callable[[Exchange], Calls], runs: Runs, ttl_seconds: float) -> None:
        self._calls_of, self._runs, self._ttl_seconds = calls_of, runs, ttl_seconds

    async def start(self, calls: Calls, tool: str, arguments: Mapping[str, Json]) -> dict[str, Json]:
        """Request a run and return the task that stands for it; if the run has ended already, its result.

        Cancelling the call cancels the run.

        Raises:
            ApiError: the run cannot be requested.
        """
        async with self._runs.requested(calls, arguments) as executed:
            db, root_id = calls.service.db, executed["root_task_id"]
            root = (await db.get([root_id])).get(root_id)
            if root is None or not has_unended_run(root):
                return result_of(tool, await outcome_of(calls, executed))
            task = RunTask(
                root_id,
                tool,
                executed,
                to_json(root.run_requested_at),
                root.last_event,
                datetime.now(UTC).isoformat(),
                int(self._ttl_seconds * 1000),
            )
            task_id = f"{time.time_ns():016x}{secrets.token_hex(RANDOM_BYTES)}"
            await db.put_record(KIND, task_id, asdict(task), version=0)
        await _remove_expired(db)
        return {"resultType": "task"} | _shown(task_id, task, "working", "The run is requested.")

    async def get(self, exchange: Exchange, task_id: str) -> dict[str, Json] | None:
        """Return the state of a task, with its result at the end; None where the caller has no such task."""
        calls = self._calls_of(exchange)
        found = await _find(calls, task_id)
        if found is None:
            return None
        state = await _state(calls, task_id, found)
        asked = await _asked(calls, found) if exchange.can_elicit else []
        if asked:
            question = f"The run waits for an approval: {asked[0]['question']}"
            state |= {"status": "input_required", "statusMessage": question}
            state |= {"inputRequests": requests_of(asked)}
        return state

    async def follow(self, exchange: Exchange, task_id: str) -> AsyncGenerator[dict[str, Json], None]:
        """Yield the state of a task, now and after changes, until it has ended or is there no longer."""
        calls = self._calls_of(exchange)
        found = await _find(calls, task_id)
        if found is None:
            return
        shown = await self.get(exchange, task_id)
        if shown is None:
            return
        yield shown
        if not found.is_running:
            return
        events = events_of(calls, found.task.root_id, found.task.after)
        async with aclosing(batched(events)) as changes:
            async for _ in changes:
                state = await self.get(exchange, task_id)
                if state is None:
                    return
                if any(state[name] != shown[name] for name in ("status", "statusMessage")):
                    shown = state
                    yield shown
                if state["status"] in ENDED:
                    return

    async def update(self, exchange: Exchange, task_id: str, responses: Mapping[str, Json]) -> bool:
        """Decide the approvals that a run waits for, as responses to the requests of its task say.

        Responses that belong to no request are ignored. Later states ask again for what was not decided.

        Returns:
            whether the caller has this task.

        Raises:
            ProtocolError: the answers break the form.
        """
        calls = self._calls_of(exchange)
        found = await _find(calls, task_id)
        if found is None:
            return False
        waiting = {str(each["task_id"]) for each in await _asked(calls, found)}
        for key, response in responses.items():
            if key in waiting and isinstance(response, dict):
                try:
                    await decide(calls, key, cast("dict[str, Json]", response))
                except ApiError as error:
                    raise ProtocolError(INVALID_PARAMS, error_text(error)) from error
        return True

    async def cancel(self, exchange: Exchange, task_id: str) -> bool:
        """Cancel the run of a task if it has not ended; return whether the caller has this task."""
        calls = self._calls_of(exchange)
        found = await _find(calls, task_id)
        if found is None:
            return False
        if found.is_running:
            await self._runs.cancel(calls, found.task.executed["task_id"])
        return True


class _Found(NamedTuple):
    task: RunTask
    root: Task
    tree: Sequence[Task]

    @property
    def is_running(self) -> bool:
        """Whether the run has not ended: another one may have been requested since."""
        return has_unended_run(self.root) and to_json(self.root.run_requested_at) == self.task.requested_at


async def _find(calls: Calls, task_id: str) -> _Found | None:
    """Return a task with its tree; None where the caller may not see it, or there is none."""
    if not calls.has_store or not _is_id(task_id):
        return None
    record = await calls.service.db.record(KIND, task_id)
    if record is None:
        return None
    task = RunTask(**cast("dict[str, Json]", record.value))
    if task.is_expired:
        return None
    tree = await calls.service.db.tree(task.root_id)
    root = next((each for each in tree if each.id == task.root_id), None)
    return _Found(task, root, tree) if root is not None and may_see(calls.service, root.user_id) else None


async def _asked(calls: Calls, found: _Found) -> list[dict[str, Json]]:
    """Return the approvals that a run waits for, and that the caller may decide."""
    return await open_for(calls, found.root.id) if found.is_running else []


async def _state(calls: Calls, task_id: str, found: _Found) -> dict[str, Json]:
    """Return the state of a task, with its result at the end."""
    task, root = found.task, found.root
    if found.is_running:
        tree = tree_status(found.tree, root.id)
        message = f"The run is {tree.status}; {tree.progress:.0%} of it is done."
        updated_at = max((each.updated_at for each in found.tree if each.updated_at), default=None)
        return _shown(task_id, task, "working", message, to_json(updated_at))
    ended, is_latest = await _end_of(calls.service.db, task)
    if ended is None or is_latest:
        outcome = await outcome_of(calls, task.executed)
    else:
        outcome = _earlier_outcome(task, ended)
    moment = to_json(ended.timestamp if ended is not None else root.updated_at)
    if outcome["status"] == TaskStatus.CANCELLED:  # the root's error says who has cancelled it
        return _shown(task_id, task, "cancelled", root.error or outcome["message"], moment)
    shown = _shown(task_id, task, "completed", outcome["message"], moment)
    return shown | {"result": result_of(task.tool, outcome)}


def _is_id(task_id: str) -> bool:
    return task_id.isascii() and task_id.isalnum() and len(task_id) == 16 + 2 * RANDOM_BYTES


async def _remove_expired(db: TaskStore) -> None:
    """Remove expired records: their keys begin with the time, so that the oldest come first."""
    for record in await db.records(KIND, limit=EXPIRED_AT_ONCE):
        if not RunTask(**cast("dict[str, Json]", record.value)).is_expired:
            break
        await db.remove_record(KIND, record.key)


async def _end_of(db: TaskStore, task: RunTask) -> tuple[TaskEvent | None, bool]:
    """Return the event by which the run of a task ended, if it is kept, and whether no run followed it."""
    ended: TaskEvent | None = None
    async for event in _events_after(db, task.root_id, task.after):
        if ended is None and event.type in FINAL:
            ended = event
        elif ended is not None and event.type is EventType.TREE_STARTED:
            return ended, False
    return ended, True


async def _events_after(db: TaskStore, root_id: str, after: int) -> AsyncGenerator[TaskEvent, None]:
    while events := await db.events(root_id, after, PAGE):
        for event in events:
            yield event
        after = events[-1].sequence


def _earlier_outcome(task: RunTask, ended: TaskEvent) -> dict[str, Json]:
    """Return the outcome of a run from its last event, because the tree has been run again since."""
    return {
        **task.executed,
        **run_outcome(str(ended.status), ended.progress, ended.error, ended.result),
    }


def _shown(
    task_id: str, task: RunTask, status: str, message: str, updated_at: str | None = None
) -> dict[str, Json]:
    return {
        "taskId": task_id,
        "status": status,
        "statusMessage": message,
        "createdAt": task.created_at,
        "lastUpdatedAt": updated_at or task.created_at,
        "ttlMs": task.ttl_ms,
        "pollIntervalMs": task.poll_ms,
    }
