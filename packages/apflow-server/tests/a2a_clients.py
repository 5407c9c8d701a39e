"""Clients of the A2A SDK for tests, over every transport and version, and the messages that they send."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import httpx
from a2a.client import ClientCallContext, ClientConfig, ClientFactory
from a2a.client.card_resolver import A2ACardResolver
from a2a.client.client import Client
from a2a.helpers import new_data_part, new_text_part
from a2a.types import (
    AgentCard,
    GetTaskRequest,
    Message,
    Role,
    SendMessageRequest,
    StreamResponse,
    Task,
    TaskState,
)
from google.protobuf.json_format import MessageToDict

COMPLETED = TaskState.TASK_STATE_COMPLETED
FAILED = TaskState.TASK_STATE_FAILED
CANCELED = TaskState.TASK_STATE_CANCELED
TERMINAL = {COMPLETED, FAILED, CANCELED, TaskState.TASK_STATE_REJECTED}
TRANSPORTS = ("JSONRPC", "HTTP+JSON", "GRPC")


@asynccontextmanager
async def agent(
    url: str, *, transport: str = "JSONRPC", version: str = "1.0", headers: Mapping[str, str] | None = None
) -> AsyncGenerator[Client]:
    """Yield a client of the agent at a URL."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=400, trust_env=False, headers=headers, limits=limits) as http:
        card = await A2ACardResolver(http, url).get_agent_card()
        chosen = AgentCard()
        chosen.CopyFrom(card)
        del chosen.supported_interfaces[:]
        chosen.supported_interfaces.extend(
            each
            for each in card.supported_interfaces
            if (each.protocol_binding, each.protocol_version) == (transport, version)
        )
        config = ClientConfig(
            httpx_client=http,
            supported_protocol_bindings=[transport],
            grpc_channel_factory=grpc.aio.insecure_channel,
        )
        client = ClientFactory(config).create(chosen)
        try:
            yield client
        finally:
            await client.close()


def calling(headers: Mapping[str, str]) -> ClientCallContext:
    """Return a context that carries a token, over HTTP and gRPC."""
    token = headers.get("Authorization", "")
    return ClientCallContext(service_parameters={"authorization": token} if token else None)


def message(
    data: Any = None, *, text: str | None = None, metadata: Mapping[str, Any] | None = None, **more: Any
) -> SendMessageRequest:
    """Return a request with one message: a data part, a text part, or none."""
    parts = [new_data_part(data)] if data is not None else []
    parts += [new_text_part(text)] if text is not None else []
    made = Message(message_id=uuid.uuid4().hex, role=Role.ROLE_USER, parts=parts, **more)
    if metadata is not None:
        made.metadata.update(dict(metadata))
    return SendMessageRequest(message=made)


def tree(*tasks: Mapping[str, Any], **more: Any) -> SendMessageRequest:
    """Return a request that runs tasks."""
    return message({"tasks": list(tasks)}, **more)


async def replies(stream: AsyncIterator[StreamResponse]) -> list[StreamResponse]:
    """Return everything that a stream sends."""
    return [each async for each in stream]


async def run_task(client: Client, request: SendMessageRequest) -> Task:
    """Send a request, and return the task that it has run, as it is then."""
    first = (await replies(client.send_message(request)))[0]
    return await client.get_task(GetTaskRequest(id=first.task.id))


def state_of(each: StreamResponse) -> int | None:
    """Return the state that an item of a stream reports."""
    kind = each.WhichOneof("payload")
    if kind == "task":
        return each.task.status.state
    return each.status_update.status.state if kind == "status_update" else None


def last_state(found: Sequence[StreamResponse]) -> int | None:
    """Return the state that a stream reports last."""
    return [state for each in found if (state := state_of(each)) is not None][-1]


def data_of(part_holder: Any) -> Any:
    """Return the JSON of the first part of a message or an artifact."""
    return MessageToDict(part_holder.parts[0].data)


def final_of(found: Sequence[StreamResponse]) -> Any:
    """Return the data of the final message of a stream."""
    last = found[-1]
    status = last.task.status if last.HasField("task") else last.status_update.status
    return data_of(status.message)


def artifacts_of(found: Sequence[StreamResponse]) -> dict[str, Any]:
    """Return the data of the artifacts that a stream has sent as updates, by name, in order."""
    made = [each.artifact_update.artifact for each in found if each.HasField("artifact_update")]
    return {each.name: data_of(each) for each in made if each.parts[0].HasField("data")}


def names(task: Task) -> list[str]:
    """Return the names of a task's artifacts."""
    return [each.name for each in task.artifacts]
