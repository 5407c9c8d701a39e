"""The operations of A2A on trees, for all transports.

Each call has the service of its caller, which decides what the caller may see. Every error is converted, so
that no transport shows the text of an unexpected one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Final, cast

from a2a.server.context import ServerCallContext
from a2a.server.request_handlers.request_handler import RequestHandler
from a2a.types.a2a_pb2 import (
    AgentCard,
    CancelTaskRequest,
    DeleteTaskPushNotificationConfigRequest,
    GetExtendedAgentCardRequest,
    GetTaskPushNotificationConfigRequest,
    GetTaskRequest,
    ListTaskPushNotificationConfigsRequest,
    ListTaskPushNotificationConfigsResponse,
    ListTasksRequest,
    ListTasksResponse,
    Message,
    SendMessageRequest,
    SubscribeToTaskRequest,
    TaskPushNotificationConfig,
)
from a2a.types.a2a_pb2 import Task as A2ATask
from a2a.utils.errors import (
    InvalidParamsError,
    TaskNotCancelableError,
    TaskNotFoundError,
    UnsupportedOperationError,
)
from a2a.utils.proto_utils import validate_proto_required_fields

from apflow.core.model.task import Json
from apflow.server.a2a import executions, push
from apflow.server.a2a.calls import Call, call_of
from apflow.server.a2a.errors import as_a2a_errors
from apflow.server.a2a.executions import Execution
from apflow.server.a2a.history import with_history
from apflow.server.a2a.listing import list_tasks
from apflow.server.a2a.projection import TERMINAL
from apflow.server.a2a.reading import Event, current_task, ended_task, follow
from apflow.server.a2a.sending import Continued, cancel, start
from apflow.server.a2a.values import data_part, read_value

END_SECONDS: Final = 5.0  # seconds that the answer to a cancellation waits for the end of the run
NO_CONFIG: Final = "The task has no push notification configuration with this ID."


class TreeHandler(RequestHandler):
    """Serves trees as A2A tasks.

    Args:
        card: returns the extended card of the agent.
    """

    def __init__(self, card: Callable[[Call], Awaitable[AgentCard]]) -> None:
        self._card = card

    async def on_message_send(
        self, params: SendMessageRequest, context: ServerCallContext
    ) -> A2ATask | Message:
        """Do what a message asks for. Wait until the run that it starts or continues ends or requires input.

        With `return_immediately` in the configuration of the message, do not wait.
        """
        with as_a2a_errors():
            _check_history(params.configuration.history_length)
            call = call_of(context)
            started = await start(call, params)
            if isinstance(started, Continued):
                started = started.execution
            if not isinstance(started, Execution):
                return started
            at_once = params.configuration.return_immediately
            task = await (current_task(call, started) if at_once else ended_task(call, started))
            return await with_history(call, started, task, params.configuration)

    async def on_message_send_stream(
        self, params: SendMessageRequest, context: ServerCallContext
    ) -> AsyncGenerator[Event | Message, None]:
        """Do what a message asks for, and yield the task and its updates, or one message."""
        with as_a2a_errors():
            _check_history(params.configuration.history_length)
            call = call_of(context)
            call.streams.check(call.caller)
            started = await start(call, params)
            is_new = not isinstance(started, Continued)
            if isinstance(started, Continued):
                started = started.execution
            if not isinstance(started, Execution):
                yield started
                return
            async with aclosing(follow(call, started, is_new=is_new)) as events:
                async for event in events:
                    if isinstance(event, A2ATask):
                        event = await with_history(call, started, event, params.configuration)
                    yield event

    async def on_subscribe_to_task(
        self, params: SubscribeToTaskRequest, context: ServerCallContext
    ) -> AsyncGenerator[Event, None]:
        """Yield a task that has not ended, and its updates."""
        with as_a2a_errors():
            call = call_of(context)
            call.streams.check(call.caller)
            execution = await _found(call, params.id)
            now = await current_task(call, execution, has_artifacts=False)
            if now.status.state in TERMINAL:
                raise UnsupportedOperationError(f"Task {params.id} has ended. Use GetTask.")
            async with aclosing(follow(call, execution)) as events:
                async for event in events:
                    if isinstance(event, A2ATask):
                        event = await with_history(call, execution, event)
                    yield event

    async def on_get_task(self, params: GetTaskRequest, context: ServerCallContext) -> A2ATask:
        """Return a task as it is now."""
        with as_a2a_errors():
            validate_proto_required_fields(params)
            _check_history(params.history_length)
            call = call_of(context)
            execution = await _found(call, params.id)
            return await with_history(call, execution, await current_task(call, execution), params)

    async def on_list_tasks(self, params: ListTasksRequest, context: ServerCallContext) -> ListTasksResponse:
        """Return a page of the tasks of the caller."""
        with as_a2a_errors():
            _check_history(params.history_length)
            return await list_tasks(call_of(context), params)

    async def on_cancel_task(self, params: CancelTaskRequest, context: ServerCallContext) -> A2ATask:
        """Cancel a task, wait until its executors have stopped, and return it."""
        with as_a2a_errors():
            validate_proto_required_fields(params)
            call = call_of(context)
            execution = await _found(call, params.id)
            now = await current_task(call, execution, has_artifacts=False)
            if now.status.state in TERMINAL:
                raise TaskNotCancelableError(f"Task {params.id} has ended.")
            metadata = cast("dict[str, Json]", read_value(params.metadata))
            message = metadata.get("error_message")
            (row,) = await cancel(
                call,
                [execution.root.id],
                message if isinstance(message, str) else None,
                force=metadata.get("force") is True,
            )
            if row["status"] == "failed":
                raise TaskNotCancelableError(str(row.get("message")))
            return await with_history(call, execution, await _cancelled(call, execution, row))

    async def on_create_task_push_notification_config(
        self, params: TaskPushNotificationConfig, context: ServerCallContext
    ) -> TaskPushNotificationConfig:
        """Store a push notification configuration of a task."""
        with as_a2a_errors():
            validate_proto_required_fields(params)
            call = call_of(context)
            execution = await _found(call, params.task_id)
            return await push.register(call, execution, params, await push.check(call, params))

    async def on_get_task_push_notification_config(
        self, params: GetTaskPushNotificationConfigRequest, context: ServerCallContext
    ) -> TaskPushNotificationConfig:
        """Return a push notification configuration of a task."""
        with as_a2a_errors():
            call = call_of(context)
            execution = await _found(call, params.task_id)
            config_id = params.id or execution.task_id
            for each in await push.configurations(call, execution):
                if each.id == config_id:
                    return each
            raise TaskNotFoundError(NO_CONFIG)

    async def on_list_task_push_notification_configs(
        self, params: ListTaskPushNotificationConfigsRequest, context: ServerCallContext
    ) -> ListTaskPushNotificationConfigsResponse:
        """Return all push notification configurations of a task."""
        with as_a2a_errors():
            call = call_of(context)
            execution = await _found(call, params.task_id)
            found = await push.configurations(call, execution)
            return ListTaskPushNotificationConfigsResponse(configs=found)

    async def on_delete_task_push_notification_config(
        self, params: DeleteTaskPushNotificationConfigRequest, context: ServerCallContext
    ) -> None:
        """Delete a push notification configuration of a task."""
        with as_a2a_errors():
            call = call_of(context)
            execution = await _found(call, params.task_id)
            await push.delete(call, execution, params.id or execution.task_id)

    async def on_get_extended_agent_card(
        self,
        params: GetExtendedAgentCardRequest,  # noqa: ARG002 - part of the interface
        context: ServerCallContext,
    ) -> AgentCard:
        """Return the card with everything that an identified caller may know."""
        with as_a2a_errors():
            return await self._card(call_of(context))


async def _found(call: Call, task_id: str) -> Execution:
    execution = await executions.find(call.service, task_id, call.tenant) if task_id else None
    if execution is None:
        raise TaskNotFoundError(f"Task {task_id} does not exist.")
    return execution


async def _cancelled(call: Call, execution: Execution, row: dict[str, Json]) -> A2ATask:
    """Return a task whose cancellation was requested, with what its executors left behind."""
    try:
        async with asyncio.timeout(END_SECONDS):
            task = await ended_task(call, execution)
    except TimeoutError:  # code does not stop; the request stands
        task = await current_task(call, execution)
    kept = {name: row[name] for name in ("token_usage", "result", "message") if row.get(name) is not None}
    if kept and task.status.HasField("message"):
        given = cast("dict[str, Json]", read_value(task.status.message.parts[0].data))
        task.status.message.parts[0].CopyFrom(data_part(given | kept))
    return task


def _check_history(length: int) -> None:
    if length < 0:
        raise InvalidParamsError("history_length must not be negative.")
