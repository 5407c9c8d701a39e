"""The tools that the conformance suite expects to answer with tasks.

Those that compute are executors: their tasks are runs of trees in our store. apflow itself asks clients
nothing, so that the tasks which do are of a separate source.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

from starlette.requests import Request

from apflow.core import BaseTask, executor_register
from apflow.server.mcp.calls import HttpCalls
from apflow.server.mcp.exchange import Exchange, missing_extension
from apflow.server.mcp.handlers import selection_of
from apflow.server.mcp.tasks import EXTENSION
from apflow.server.mcp.tool_calls import Tools

Params = Mapping[str, Any]
Wire = dict[str, Any]
Call = Callable[[Exchange, Params], Awaitable[Wire]]


def text(value: str) -> Wire:
    return {"type": "text", "text": value}


def content(*blocks: Wire) -> Wire:
    return {"content": list(blocks)}


@executor_register()
class SlowCompute(BaseTask):
    """Takes as many seconds as it is given."""

    id = "slow_compute"
    name = "Slow"
    description = "Sleeps."
    cancelable = True

    def get_input_schema(self) -> dict[str, Any]:
        return {"type": "object", "properties": {"seconds": {"type": "number"}, "label": {"type": "string"}}}

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(inputs["seconds"])
        return {"label": inputs["label"]}


@executor_register()
class FailingJob(BaseTask):
    """Fails after a moment."""

    id = "failing_job"
    name = "Failing"
    description = "Fails."

    def get_input_schema(self) -> dict[str, Any]:
        return {"type": "object", "properties": {}}

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(0.5)
        raise ValueError("as expected")


def _calls_of(exchange: Exchange) -> HttpCalls:
    request = cast("Request", exchange.request)
    return HttpCalls(request.state.mcp_service, request)


RUNNING = Tools(selection_of(["executors"]), _calls_of, task_seconds=3600)


def runs(executor: str, *, only_as_task: bool = False) -> Call:
    """Return a tool that runs an executor, as the tool of the executor itself does."""

    async def call(exchange: Exchange, params: Params) -> Wire:
        if only_as_task and EXTENSION not in exchange.extensions:
            raise missing_extension(EXTENSION)
        return await RUNNING.call(exchange, {**params, "name": f"run_{executor}"})

    return call


async def greet(exchange: Exchange, params: Params) -> Wire:
    return content(text(f"Hello, {params['arguments']['name']}!"))


@dataclass
class Asking:
    """A task that asks the client, or that has failed."""

    asks: Wire
    answers: Wire = field(default_factory=dict[str, Any])
    error: Wire | None = None
    is_cancelled: bool = False
    created_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat())

    def state(self, task_id: str) -> Wire:
        shown = {"taskId": task_id, "createdAt": self.created_at, "lastUpdatedAt": self.created_at}
        shown |= {"ttlMs": None, "pollIntervalMs": 100}
        if self.is_cancelled:
            return shown | {"status": "cancelled"}
        if self.error is not None:
            return shown | {"status": "failed", "error": self.error}
        waiting = {key: each for key, each in self.asks.items() if key not in self.answers}
        if waiting:
            return shown | {"status": "input_required", "inputRequests": waiting}
        return shown | {"status": "completed", "result": content(text(str(self.answers)))}


class AskingTasks:
    """A source of such tasks."""

    def __init__(self) -> None:
        self._tasks: dict[str, Asking] = {}

    def start(self, task: Asking) -> Wire:
        task_id = secrets.token_hex(16)
        self._tasks[task_id] = task
        hidden = ("inputRequests", "result", "error")
        shown = {name: each for name, each in task.state(task_id).items() if name not in hidden}
        return {"resultType": "task"} | shown | {"status": "working"}

    async def get(self, exchange: Exchange, task_id: str) -> Wire | None:
        task = self._tasks.get(task_id)
        return None if task is None else task.state(task_id)

    async def follow(self, exchange: Exchange, task_id: str) -> AsyncGenerator[Wire, None]:
        state = await self.get(exchange, task_id)
        if state is not None:
            yield state

    async def update(self, exchange: Exchange, task_id: str, responses: Params) -> bool:
        task = self._tasks.get(task_id)
        if task is not None:
            task.answers |= {key: each for key, each in responses.items() if key in task.asks}
        return task is not None

    async def cancel(self, exchange: Exchange, task_id: str) -> bool:
        task = self._tasks.get(task_id)
        if task is not None:
            task.is_cancelled = True
        return task is not None


ASKING = AskingTasks()


def question(message: str, name: str) -> Wire:
    schema = {"type": "object", "properties": {name: {"type": "string"}}, "required": [name]}
    return {
        "method": "elicitation/create",
        "params": {"mode": "form", "message": message, "requestedSchema": schema},
    }


def asks(error: Wire | None = None, **questions: Wire) -> Call:
    async def call(exchange: Exchange, params: Params) -> Wire:
        if EXTENSION not in exchange.extensions:
            raise missing_extension(EXTENSION)
        return ASKING.start(Asking(questions, error=error))

    return call


async def asks_before(exchange: Exchange, params: Params) -> Wire:
    """Ask first, and answer with a task that knows the response."""
    given = params.get("inputResponses") or {}
    if "user_name" not in given:
        asked = {"user_name": question("What is your name?", "name")}
        return {"resultType": "input_required", "inputRequests": asked}
    return ASKING.start(Asking({}, answers=given))


CONFIRM = question("Delete it?", "confirm")
TASK_TOOLS: dict[str, Call] = {
    "greet": greet,
    "slow_compute": runs("slow_compute"),
    "failing_job": runs("failing_job", only_as_task=True),
    "protocol_error_job": asks(error={"code": -32603, "message": "It broke."}),
    "confirm_delete": asks(confirm=CONFIRM),
    "multi_input": asks(first=CONFIRM, second=CONFIRM),
    "test_tool_with_task": asks_before,
}
