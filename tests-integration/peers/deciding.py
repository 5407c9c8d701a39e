"""Decisions about approvals over each interface of a server, by the client that its users have."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import httpx
from a2a.types import GetTaskRequest, TaskState
from a2a.utils.errors import A2AError
from a2a_clients import agent, calling, message, replies
from mcp_clients import ERAS, connected
from peers.apflowserver import ApflowServer
from peers.shell import Shell
from serving import bearer

from apflow.client import Client
from apflow.core.errors import ApflowError

# Approves, as a user, the approval of a task with answers.
Decide = Callable[[ApflowServer, str, str, Mapping[str, Any]], Awaitable[None]]


class RefusedError(Exception):
    """The server has refused a decision; the message is what the client gets."""


def call(server: ApflowServer, user: str, method: str, **params: Any) -> dict[str, Any]:
    """Call an operation by JSON-RPC and return the response."""
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    posted = httpx.post(f"{server.url}/tasks", json=request, headers=bearer(user), timeout=30)
    found: dict[str, Any] = posted.json()
    return found


def token(user: str) -> str:
    """Return a token of a user."""
    return bearer(user)["Authorization"].removeprefix("Bearer ")


async def by_json_rpc(server: ApflowServer, user: str, task_id: str, answers: Mapping[str, Any]) -> None:
    found = await asyncio.to_thread(
        call, server, user, "approvals.approve", task_id=task_id, answers=dict(answers)
    )
    if "error" in found:
        raise RefusedError(str(found["error"]))


async def by_http(server: ApflowServer, user: str, task_id: str, answers: Mapping[str, Any]) -> None:
    async with httpx.AsyncClient(timeout=30, headers=bearer(user)) as client:
        body = {"task_id": task_id, "answers": dict(answers)}
        found = await client.post(f"{server.url}/call/approvals.approve", json=body)
    if found.is_error:
        raise RefusedError(found.text)


async def by_client(server: ApflowServer, user: str, task_id: str, answers: Mapping[str, Any]) -> None:
    async with Client(server.url, token=token(user)) as client:
        try:
            await client.approvals_approve(task_id, answers=dict(answers))
        except ApflowError as error:
            raise RefusedError(str(error)) from error


async def by_command(server: ApflowServer, user: str, task_id: str, answers: Mapping[str, Any]) -> None:
    given = ("approvals", "approve", task_id, "--answers", json.dumps(dict(answers)))
    code, _, said = await asyncio.to_thread(Shell(server), *given, APFLOW_API_TOKEN=token(user))
    if code:
        raise RefusedError(said)


async def by_tool(server: ApflowServer, user: str, task_id: str, answers: Mapping[str, Any]) -> None:
    async with connected(server.url, bearer(user), era=ERAS[-1]) as client:
        found = await client.call("approvals_approve", {"task_id": task_id, "answers": dict(answers)})
    if found.get("isError"):
        raise RefusedError(str(found["content"]))


async def by_message(server: ApflowServer, user: str, task_id: str, answers: Mapping[str, Any]) -> None:
    """Send a message to the A2A task of a tree that has one task."""
    context = calling(bearer(user))
    async with agent(server.url, headers=bearer(user)) as client:
        try:
            task = await client.get_task(GetTaskRequest(id=task_id), context=context)
            assert task.status.state == TaskState.TASK_STATE_INPUT_REQUIRED
            decision = message(
                {"approved": True, "answers": dict(answers)}, task_id=task.id, context_id=task.context_id
            )
            await replies(client.send_message(decision, context=context))
        except A2AError as error:
            raise RefusedError(str(error)) from error


INTERFACES: Mapping[str, Decide] = {
    "json-rpc": by_json_rpc,
    "http": by_http,
    "python-client": by_client,
    "command": by_command,
    "mcp-tool": by_tool,
    "a2a-message": by_message,
}
