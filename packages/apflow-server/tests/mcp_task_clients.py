"""A client of the extension for tasks: the official one, with the extension as it lets its users add some."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, ClassVar, Literal

import httpx
from mcp import ClientSession
from mcp.client.extension import ResultClaim
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp_types import CallToolResult, Result
from pydantic import BaseModel, ConfigDict, RootModel

TASKS = "io.modelcontextprotocol/tasks"
ENDED = ("completed", "failed", "cancelled")


class CreateTaskResult(Result):
    """A task instead of the result of a call."""

    model_config = ConfigDict(extra="allow")
    result_type: Literal["task"]


class TaskRequest(BaseModel):
    """A request for a task."""

    name_param: ClassVar[str] = "taskId"
    method: str
    params: dict[str, Any]


class Raw(RootModel[dict[str, Any]]):
    """A result as it is on the wire."""


async def _unused(created: CreateTaskResult, context: object) -> CallToolResult:
    raise AssertionError("the tests follow tasks by themselves")


CLAIM = ResultClaim(result_type="task", model=CreateTaskResult, resolve=_unused)


class TaskClient:
    """One client. Results are as they are on the wire."""

    def __init__(self, session: Any) -> None:
        self.session = session

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Call a tool; return the task, or the result where the server answers with that."""
        found = await self.session.call_tool(tool, dict(arguments), allow_claimed=True)
        plain: dict[str, Any] = found.model_dump(mode="json", by_alias=True, exclude_none=True)
        return plain

    async def request(self, method: str, task_id: str, **more: Any) -> dict[str, Any]:
        """Send a request for a task."""
        request: Any = TaskRequest(method=method, params={"taskId": task_id} | more)
        found = await self.session.send_request(request, Raw)
        content: dict[str, Any] = found.root
        return content

    async def get(self, task_id: str) -> dict[str, Any]:
        """Return the state of a task."""
        return await self.request("tasks/get", task_id)

    async def until(self, task_id: str, *statuses: str) -> dict[str, Any]:
        """Return the state of a task once it has ended, or has one of these statuses."""
        while (found := await self.get(task_id))["status"] not in (statuses or ENDED):
            await asyncio.sleep(0.02)
        return found


@asynccontextmanager
async def task_client(
    url: str, headers: Mapping[str, str] | None = None, *, declares: bool = True, elicit: Any = None
) -> AsyncGenerator[TaskClient]:
    """Connect with the endpoint of a server, by the protocol of 2026-07-28.

    Args:
        elicit: asks the user; None: the client cannot.
    """
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(create_mcp_http_client(headers=dict(headers or {})))
        streams = await stack.enter_async_context(streamable_http_client(f"{url}/mcp", http_client=http))
        more: dict[str, Any] = (
            {"extensions": {TASKS: {}}, "result_claims": {TASKS: [CLAIM]}} if declares else {}
        )
        session: Any = await stack.enter_async_context(
            ClientSession(streams[0], streams[1], elicitation_callback=elicit, **more)
        )
        await session.discover()
        yield TaskClient(session)


@asynccontextmanager
async def listening(
    url: str, task_ids: Sequence[str], headers: Mapping[str, str] | None = None, *, declares: bool = True
) -> AsyncGenerator[AsyncIterator[dict[str, Any]]]:
    """Subscribe to tasks by a raw request, because the official client cannot; yield what the stream has."""
    method = "subscriptions/listen"
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {"extensions": {TASKS: {}}} if declares else {},
    }
    params = {"notifications": {"taskIds": list(task_ids)}, "_meta": meta}
    sent = {
        "Accept": "application/json, text/event-stream",
        "Mcp-Method": method,
        "Mcp-Protocol-Version": "2026-07-28",
    }
    async with (
        httpx.AsyncClient(timeout=30) as client,
        client.stream(
            "POST",
            f"{url}/mcp",
            json={"jsonrpc": "2.0", "id": "listen-1", "method": method, "params": params},
            headers=sent | dict(headers or {}),
        ) as answer,
    ):
        yield _messages(answer)


async def _messages(answer: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    if answer.headers["content-type"].startswith("application/json"):
        yield json.loads(await answer.aread())
        return
    async for line in answer.aiter_lines():
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))
