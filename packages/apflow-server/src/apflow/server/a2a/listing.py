"""Lists of A2A tasks, read from the trees of the caller, the latest change first."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from a2a.types.a2a_pb2 import ListTasksRequest, ListTasksResponse, TaskState
from a2a.types.a2a_pb2 import Task as A2ATask
from a2a.utils.errors import InvalidParamsError

from apflow.core.engine.approvals import open_approvals
from apflow.core.model.tally import TreeTally
from apflow.core.model.task import Task
from apflow.core.model.tree import tree_status
from apflow.core.store.base import TaskQuery
from apflow.server.a2a import executions
from apflow.server.a2a.calls import Call
from apflow.server.a2a.executions import Execution
from apflow.server.a2a.history import with_history
from apflow.server.a2a.projection import (
    TERMINAL,
    earlier_task,
    state_of,
    status_of,
    task_of,
    time_of,
)
from apflow.server.a2a.reading import current_task, with_approvals

DEFAULT_SIZE: Final = 50
MAX_SIZE: Final = 100
SCAN: Final = 500  # roots that are read at once
ORDER: Final = "-updated_at"


@dataclass(frozen=True)
class Filters:
    """Which tasks a list shows."""

    state: TaskState | None
    since: datetime | None

    @property
    def is_empty(self) -> bool:
        """Whether the list shows every task."""
        return self.state is None and self.since is None

    def takes(self, state: TaskState, moment: datetime | None) -> bool:
        """Return whether the list shows a task."""
        if self.state is not None and state != self.state:
            return False
        return self.since is None or (moment is not None and moment >= self.since)


@dataclass(frozen=True)
class Place:
    """The last task of a page. It stays valid if the task changes or is deleted."""

    moment: datetime | None
    position: int
    root_id: str
    number: int = 1  # of the execution

    @property
    def key(self) -> tuple[datetime, int, str, int]:
        """The place in a list that is sorted in memory."""
        moment = self.moment or datetime.min.replace(tzinfo=UTC)
        return moment, self.position, self.root_id, self.number

    def token(self) -> str:
        """Return the page token."""
        moment = self.moment.isoformat() if self.moment else None
        text = json.dumps([moment, self.position, self.root_id, self.number])
        return base64.urlsafe_b64encode(text.encode()).decode()

    @classmethod
    def read(cls, token: str) -> Place:
        """Return the place that a page token names.

        Raises:
            InvalidParamsError: the token is not one that the server has returned.
        """
        try:
            moment, position, root_id, number = json.loads(base64.urlsafe_b64decode(token.encode()))
            read = None if moment is None else datetime.fromisoformat(moment)
            return cls(read, int(position), str(root_id), int(number))
        except (ValueError, TypeError) as error:
            raise InvalidParamsError("page_token is not a token that ListTasks has returned.") from error

    def root(self) -> Task:
        """Return a root at this place in the order of the store."""
        return Task(
            id=self.root_id,
            name="",
            root_id=self.root_id,
            position=self.position,
            updated_at=self.moment,
        )


async def list_tasks(call: Call, params: ListTasksRequest) -> ListTasksResponse:
    """Return a page of the tasks of the caller.

    With a context or a tenant, the tasks of all executions; otherwise, the latest execution of each tree.

    Raises:
        InvalidParamsError: a parameter is invalid.
    """
    size = params.page_size if params.HasField("page_size") else DEFAULT_SIZE
    if not 1 <= size <= MAX_SIZE:
        raise InvalidParamsError(f"page_size must be from 1 to {MAX_SIZE}.")
    since = params.status_timestamp_after
    filters = Filters(
        params.status or None, since.ToDatetime(UTC) if params.HasField("status_timestamp_after") else None
    )
    place = Place.read(params.page_token) if params.page_token else None
    find = _of_context if params.context_id or call.tenant else _of_store
    found, total = await find(call, params.context_id, filters, place, size + 1)
    token = _place(found[size - 1]).token() if len(found) > size else ""
    tasks = [await _shown(call, each, params) for each in found[:size]]
    return ListTasksResponse(tasks=tasks, next_page_token=token, page_size=size, total_size=total)


async def _shown(call: Call, execution: Execution, params: ListTasksRequest) -> A2ATask:
    """Return a task as the list shows it: with its history only if that was asked for."""
    if not params.history_length:
        return await _task(call, execution, has_artifacts=params.include_artifacts)
    task = await current_task(call, execution, has_artifacts=params.include_artifacts)
    return await with_history(call, execution, task, params)


async def _of_context(
    call: Call, context_id: str, filters: Filters, place: Place | None, limit: int
) -> tuple[list[Execution], int]:
    """Return executions of a context, or of a tenant, after a place; and the number of all that match."""
    found: list[Execution] = []
    for root, known in await executions.of_context(call.service, context_id, call.tenant):
        for run in known.runs:
            execution = Execution(known, run, root)
            task = await _task(call, execution, has_artifacts=False)
            if filters.takes(task.status.state, _moment(execution)):
                found.append(execution)
    found.sort(key=lambda each: _place(each).key, reverse=True)
    after = [each for each in found if place is None or _place(each).key < place.key]
    return after[:limit], len(found)


async def _of_store(
    call: Call, _: str, filters: Filters, place: Place | None, limit: int
) -> tuple[list[Execution], int]:
    """Return the latest executions of trees after a place, and the number of all that match."""
    db = call.service.db
    user_id = None if call.service.is_admin else call.service.user_id
    roots: list[Task] = []
    at = None if place is None else place.root()
    page = limit if filters.is_empty else SCAN
    async for root in _matching(call, filters, at, page):
        roots.append(root)
        if len(roots) == limit:
            break
    if filters.is_empty:
        total = sum((await db.count(TaskQuery(user_id=user_id, root_only=True))).values())
    else:
        total = 0
        async for _root in _matching(call, filters, None, SCAN):
            total += 1
    known = [await executions.read(db, root) for root in roots]
    return [Execution(each, each.runs[-1], root) for each, root in zip(known, roots, strict=True)], total


async def _matching(
    call: Call, filters: Filters, after: Task | None, page: int
) -> AsyncGenerator[Task, None]:
    """Yield the roots that match, the latest change first."""
    db, service = call.service.db, call.service
    user_id = None if service.is_admin else service.user_id
    while True:
        query = TaskQuery(user_id=user_id, root_only=True, order=ORDER, limit=page, after=after)
        roots = await db.find(query)
        tallies = {} if filters.state is None else await db.tallies([each.id for each in roots])
        asked = set[str]() if filters.state is None else {each.root_id for each in await open_approvals(db)}
        for root in roots:
            state = TaskState.TASK_STATE_UNSPECIFIED
            if filters.state is not None:
                state = await _state(call, root, tallies.get(root.id))
                if root.id in asked and state not in TERMINAL:
                    state = TaskState.TASK_STATE_INPUT_REQUIRED
            if filters.takes(state, time_of(root)):
                yield root
        if len(roots) < page:
            return
        after = roots[-1]


async def _state(call: Call, root: Task, tally: TreeTally | None) -> TaskState:
    status = None if tally is None else tally.status(root)
    if status is None:
        tasks = await call.service.db.tree(root.id)
        status = tree_status(tasks, root.id).status if tasks else root.status
    return state_of(root, status)


async def _task(call: Call, execution: Execution, *, has_artifacts: bool) -> A2ATask:
    """Return the task of an execution, without its final message unless its artifacts are shown, too."""
    db, root = call.service.db, execution.root
    if not execution.is_latest:
        return earlier_task(execution, has_artifacts=has_artifacts)
    if has_artifacts and (tasks := await db.tree(root.id)):
        return await with_approvals(call, execution, task_of(execution, tasks))
    state = await _state(call, root, (await db.tallies([root.id])).get(root.id))
    status = status_of(execution, state, time_of(root))
    shown = A2ATask(id=execution.task_id, context_id=execution.context_id, status=status)
    return await with_approvals(call, execution, shown)


def _moment(execution: Execution) -> datetime | None:
    if execution.is_latest:
        return time_of(execution.root)
    at = (execution.run.end or {}).get("at")
    return datetime.fromisoformat(at) if at else None


def _place(execution: Execution) -> Place:
    root = execution.root
    return Place(_moment(execution), root.position, root.id, execution.run.number)
