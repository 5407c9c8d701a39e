"""What a message starts: a run of a tree, a cancellation, or a call of an operation."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from a2a.types.a2a_pb2 import Message, Part, Role, SendMessageRequest, TaskState, TaskStatus
from a2a.types.a2a_pb2 import Task as A2ATask
from a2a.utils.errors import (
    ContentTypeNotSupportedError,
    InvalidParamsError,
    TaskNotFoundError,
    UnsupportedOperationError,
)
from a2a.utils.proto_utils import validate_proto_required_fields

from apflow.core.engine.approvals import open_approvals
from apflow.core.errors import NotFoundError
from apflow.core.extensions.registry import executor_is_known
from apflow.core.model.task import Json, Task, utc_now
from apflow.server.a2a import executions, push
from apflow.server.a2a.approvals import chosen, read_decision
from apflow.server.a2a.calls import Call, operate
from apflow.server.a2a.card import MODES
from apflow.server.a2a.executions import Execution
from apflow.server.a2a.history import keep
from apflow.server.a2a.message import (
    EXECUTE,
    CancelRequest,
    OperationRequest,
    RunRequest,
    contents_of,
    metadata_of,
    read_request,
)
from apflow.server.a2a.projection import PROTOCOL, TERMINAL, kept_end, timestamp
from apflow.server.a2a.reading import current_task
from apflow.server.a2a.values import data_part, read_value
from apflow.server.http.api_error import TooManyRequestsError


@dataclass(frozen=True)
class Continued:
    """An execution that continues, because a message has decided what it asked."""

    execution: Execution


async def start(call: Call, params: SendMessageRequest) -> Execution | Continued | Message | A2ATask:
    """Do what a message asks for. Return the execution that it starts or continues, or what answers it.

    A run for which the server has no room is a rejected task. It is not stored.

    Raises:
        A2AError: the message is invalid, or names a task that does not exist or that still runs.
        ApflowError: the request is refused; nothing is created.
        ApiError: likewise.
    """
    check_required(params)
    message = params.message
    check_media_types(message)
    more = cast("dict[str, Json]", read_value(params.metadata))
    asking = await _asking(call, message, more)
    if asking is not None:
        return await _decide(call, message, asking)
    request = read_request(message, metadata_of(message, more), executor_is_known)
    if isinstance(request, OperationRequest):
        return answer(message, await operate(call, request.name, request.parameters))
    if isinstance(request, CancelRequest):
        return await _cancel(call, message, request)
    config = params.configuration.task_push_notification_config
    has_config = params.configuration.HasField("task_push_notification_config")
    checked = await push.check(call, config) if has_config else None
    try:
        execution = await _run(call, message, request)
    except TooManyRequestsError as error:
        return _rejected(message, error.message)
    await keep(call, execution, message)
    if checked is not None:
        await push.register(call, execution, config, checked)
    return execution


def check_required(params: SendMessageRequest) -> None:
    """Check the required fields of a request. A message without parts may be a cancellation.

    Raises:
        InvalidParamsError: a field is missing.
    """
    try:
        validate_proto_required_fields(params)
    except InvalidParamsError as error:
        data = cast("dict[str, list[dict[str, str]]]", error.data)  # pyright: ignore[reportUnknownMemberType]
        others = [each for each in data["errors"] if each["field"] != "message.parts"]
        if others or not params.HasField("message"):
            raise


def check_media_types(message: Message) -> None:
    """Check the media types that the parts of a message name. Parameters of a media type do not count.

    Raises:
        ContentTypeNotSupportedError: the card does not name one of them (section 3.1.1).
    """
    for part in message.parts:
        if part.media_type and part.media_type.partition(";")[0].strip().lower() not in MODES:
            raise ContentTypeNotSupportedError(
                f"Media type {part.media_type!r} is not supported. Send {' or '.join(MODES)}."
            )


async def _asking(call: Call, message: Message, more: Mapping[str, Json]) -> Execution | None:
    """Return the execution that a message names, if it waits for an approval that the message may decide.

    A message without parts cancels, and one that names an operation calls it.
    """
    metadata = metadata_of(message, more)
    if not message.task_id or not message.parts or metadata.get("method") or metadata.get("skill_id"):
        return None
    found = await executions.find(call.service, message.task_id, call.tenant)
    if found is None or not found.is_latest:
        return None
    task = await current_task(call, found, has_artifacts=False)
    return found if task.status.state == TaskState.TASK_STATE_INPUT_REQUIRED else None


async def _decide(call: Call, message: Message, execution: Execution) -> Continued:
    """Decide an approval as a message says.

    Raises:
        InvalidInputError: the message decides nothing, or it is not clear which of several approvals.
        InvalidParamsError: the task is in another context.
        ApiError: the caller may not decide, the answers break the form, or another one was first.
    """
    if message.context_id and message.context_id != execution.context_id:
        raise InvalidParamsError(
            f"Task {message.task_id} is in context {execution.context_id}, not in context "
            f"{message.context_id}."
        )
    decision = read_decision(contents_of(message))
    approvals = await open_approvals(call.service.db, execution.root.id)
    parameters: dict[str, Json] = {"task_id": chosen(decision, approvals)}
    parameters |= {name: decision[name] for name in ("answers", "reason") if name in decision}
    if not decision["approved"]:
        parameters.pop("answers", None)
    await operate(call, "approvals.approve" if decision["approved"] else "approvals.reject", parameters)
    await keep(call, execution, message)
    return Continued(execution)


def answer(message: Message, result: Json) -> Message:
    """Return the message that answers a message with a result."""
    return Message(
        message_id=str(uuid.uuid4()),
        role=Role.ROLE_AGENT,
        context_id=message.context_id,
        parts=[data_part(result)],
    )


def _rejected(message: Message, said: str) -> A2ATask:
    task_id, context_id = str(uuid.uuid4()), message.context_id or str(uuid.uuid4())
    reply = Message(
        message_id=f"{task_id}:final",
        role=Role.ROLE_AGENT,
        task_id=task_id,
        context_id=context_id,
        parts=[Part(text=said, media_type="text/plain")],
    )
    status = TaskStatus(state=TaskState.TASK_STATE_REJECTED, message=reply, timestamp=timestamp(utc_now()))
    return A2ATask(id=task_id, context_id=context_id, status=status)


async def _run(call: Call, message: Message, request: RunRequest) -> Execution:
    base = await _base(call, message)
    stored = None if request.task_id is None else await _stored(call, request.task_id)
    context_id = message.context_id or (base.context_id if base is not None else "")
    if stored is not None and not context_id:
        context_id = stored.context_id
    if request.tasks is not None or request.copies:
        return await _run_new(call, request, stored, context_id)
    return await _run_again(call, request, stored, context_id)


async def _base(call: Call, message: Message) -> Execution | None:
    """Return the execution that a message follows up, by its task or by the first reference.

    Raises:
        TaskNotFoundError: it does not exist.
        UnsupportedOperationError: the task still runs, and takes no messages.
        InvalidParamsError: the task is in another context.
    """
    task_id = message.task_id or next(iter(message.reference_task_ids), "")
    if not task_id:
        return None
    base = await executions.find(call.service, task_id, call.tenant)
    if base is None:
        raise TaskNotFoundError(f"Task {task_id} does not exist.")
    if not message.task_id:
        return base
    if message.context_id and message.context_id != base.context_id:
        raise InvalidParamsError(
            f"Task {task_id} is in context {base.context_id}, not in context {message.context_id}."
        )
    if (await current_task(call, base, has_artifacts=False)).status.state not in TERMINAL:
        raise UnsupportedOperationError(
            f"Task {task_id} runs and takes no messages. Follow it with SubscribeToTask, or end it with "
            "CancelTask; a message without task_id starts another task."
        )
    return base


async def _stored(call: Call, task_id: str) -> Execution | None:
    """Return the latest execution of the tree that a stored task belongs to, by any ID of it."""
    found = await executions.find(call.service, task_id, call.tenant)
    if found is None:
        shown = await call.service.get(task_id)
        found = await executions.find(call.service, shown["root_id"], call.tenant)
    return found


async def _run_new(call: Call, request: RunRequest, stored: Execution | None, context_id: str) -> Execution:
    parameters: dict[str, Json] = dict(request.options)
    if request.tasks is not None:
        parameters["tasks"] = request.tasks
    else:
        parameters |= {"task_id": _task_id(request, stored), "copy_execution": True}
        if request.copy_children is not None:
            parameters["copy_children"] = request.copy_children
    result = await operate(call, EXECUTE, parameters)
    root = await _root(call, result)
    return await executions.begin_first(call.service, root, context_id, call.tenant)


async def _run_again(call: Call, request: RunRequest, stored: Execution | None, context_id: str) -> Execution:
    if stored is None:
        raise TaskNotFoundError(f"Task {request.task_id} does not exist.")
    if context_id != stored.context_id:
        raise InvalidParamsError(
            f"Task {request.task_id} is in context {stored.context_id}, not in context {context_id}."
        )
    tasks = await call.service.db.existing_tree(stored.root.id)
    root = next(each for each in tasks if each.id == stored.root.id)
    was_run = root.run_requested_at is not None or root.run_ended_at is not None
    end = kept_end(root, tasks) if was_run else None
    parameters = {"task_id": _task_id(request, stored), **request.options}
    await operate(call, EXECUTE, parameters)
    return await executions.begin_next(call.service, root, end)


def _task_id(request: RunRequest, stored: Execution | None) -> str:
    """Return the ID of the stored task that a request names: that of an A2A task is its root."""
    given = request.task_id or ""
    return stored.root.id if stored is not None and given == stored.task_id else given


async def _root(call: Call, result: Mapping[str, Json]) -> Task:
    root_id: str = result["root_task_id"]
    root = (await call.service.db.get([root_id])).get(root_id)
    if root is None:
        raise NotFoundError(root_id)
    return root


async def _cancel(call: Call, message: Message, request: CancelRequest) -> Message:
    """Cancel what a message without parts names, and return the outcome as a message."""
    found = await executions.find(call.service, request.task_id, call.tenant)
    if found is not None:
        ids = [found.root.id]
    else:
        found_in = await executions.of_context(call.service, request.task_id, call.tenant)
        ids = [root.id for root, _ in found_in] or [request.task_id]
    rows = await cancel(call, ids, request.error_message, force=request.force)
    if all(each["status"] == "not_found" for each in rows):
        raise TaskNotFoundError(f"Task {request.task_id} does not exist.")
    done = next((each for each in rows if each["status"] == "cancelled"), rows[0])
    reply = answer(message, {"protocol": PROTOCOL, **done} | ({"tasks": rows} if len(rows) > 1 else {}))
    if found is not None:
        await keep(call, found, reply)
    return reply


async def cancel(
    call: Call, ids: list[str], error_message: str | None, *, force: bool
) -> list[dict[str, Json]]:
    """Cancel tasks and wait until their code has ended, for a limited time."""
    parameters: dict[str, Json] = {"task_ids": ids, "force": force}
    if error_message is not None:
        parameters["error_message"] = error_message
    return cast("list[dict[str, Json]]", await operate(call, "tasks.cancel", parameters))
