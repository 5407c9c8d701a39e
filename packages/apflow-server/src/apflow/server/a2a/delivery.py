"""Requests that deliver the events of a tree to the webhook of an A2A task. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import httpx
from a2a.compat.v0_3 import conversions
from a2a.types.a2a_pb2 import Artifact, TaskState, TaskStatusUpdateEvent
from a2a.types.a2a_pb2 import Task as A2ATask
from a2a.utils.proto_utils import to_stream_response
from google.protobuf.json_format import MessageToDict

from apflow.core.model.event import TaskEvent
from apflow.core.model.task import Json, Task
from apflow.core.payload.json_value import dumps
from apflow.core.webhooks.webhook import Webhook
from apflow.server.a2a.calls import LEGACY
from apflow.server.a2a.executions import Execution, Executions, Run
from apflow.server.a2a.updates import Update, single_update

TOKEN_HEADER = "X-A2A-Notification-Token"  # noqa: S105 - a name


def request_of(webhook: Webhook, event: TaskEvent, hidden: Mapping[str, str | None]) -> httpx.Request:
    """Return the request that delivers an event, in the version that the configuration was registered in.

    Args:
        hidden: `token` and `credentials`, decrypted.

    Raises:
        ValueError: a header cannot be sent.
    """
    stored = cast("dict[str, Any]", webhook.a2a)
    execution = execution_of(webhook, stored)
    update = single_update(execution, event, stored["task_count"])
    body = _legacy(execution, update) if stored["version"] == LEGACY else MessageToDict(_response(update))
    headers = {"content-type": "application/json"}
    if hidden.get("token"):
        headers[TOKEN_HEADER] = str(hidden["token"])
    if stored["scheme"] and hidden.get("credentials"):
        headers["authorization"] = f"{stored['scheme']} {hidden['credentials']}"
    return httpx.Request("POST", webhook.url, headers=headers, content=dumps(body))


def execution_of(webhook: Webhook, stored: Mapping[str, Json]) -> Execution:
    """Return the execution that a webhook was registered for."""
    root = Task(id=webhook.root_id, name="", root_id=webhook.root_id)
    root.original_task_id = stored["original_task_id"]
    return Execution(Executions(root.id, stored["context_id"]), Run(stored["number"]), root)


def _response(update: Update) -> Any:
    return to_stream_response(update)


def _legacy(execution: Execution, update: Update) -> dict[str, Json]:
    """Return a task as version 0.3 notifies: with its status, or with the artifact that is new."""
    task = A2ATask(id=execution.task_id, context_id=execution.context_id)
    if isinstance(update, TaskStatusUpdateEvent):
        task.status.CopyFrom(update.status)
        task.metadata.CopyFrom(update.metadata)
    else:
        artifact: Artifact = update.artifact
        task.artifacts.append(artifact)
        task.status.state = TaskState.TASK_STATE_WORKING
    converted: Any = conversions.to_compat_task(task)
    shown: dict[str, Json] = converted.model_dump(mode="json", by_alias=True, exclude_none=True)
    return shown
