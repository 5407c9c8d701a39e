"""The history of an A2A task: the messages that its clients have sent, and what the agent has replied.

The messages of clients are records beside the tree, so that they are there after a restart; they are
deleted with it. The final message of the agent is not stored: it is computed from the tree, and comes last.
Secrets are masked, as wherever inputs of tasks are shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, cast

from a2a.types.a2a_pb2 import Message
from a2a.types.a2a_pb2 import Task as A2ATask
from a2a.utils.task import HistoryLengthConfig, apply_history_length
from google.protobuf.json_format import MessageToDict, ParseDict

from apflow.core.model.task import Json
from apflow.core.payload.json_value import dumps
from apflow.core.payload.secrets import mask
from apflow.core.store.base import Record
from apflow.core.store.tree_records import KIND, keys_of
from apflow.server.a2a.calls import Call
from apflow.server.a2a.executions import Execution, created_at
from apflow.server.a2a.values import MAX_DEPTH

MAX_MESSAGES: Final = 100  # of one task; then, the oldest are dropped
MAX_MESSAGE_BYTES: Final = 64 << 10  # of JSON; the parts of a larger message are left out
MAX_BYTES: Final = 512 << 10  # of all messages of one task


async def keep(call: Call, execution: Execution, *messages: Message) -> None:
    """Add messages to the history of a task. One that is there already is not added again."""
    db, key = call.service.db, _key(execution)
    added = [_stored(each, execution) for each in messages]
    is_kept = False
    while not is_kept:  # until no other writer came first
        record = await db.record(KIND, key)
        known = _messages(record, execution)
        ids = {each["messageId"] for each in known}
        value: dict[str, Json] = {
            "root_id": execution.root.id,
            "created_at": created_at(execution.root),
            "messages": list(_latest([*known, *(each for each in added if each["messageId"] not in ids)])),
        }
        version = 0 if record is None else record.version
        is_kept = await db.put_record(KIND, key, value, version=version) is not None


async def with_history(
    call: Call, execution: Execution, task: A2ATask, asked: HistoryLengthConfig | None = None
) -> A2ATask:
    """Add its history to a task: all of it, or as many of the latest messages as a client asks for."""
    if asked is not None and asked.HasField("history_length") and asked.history_length == 0:
        return task
    record = await call.service.db.record(KIND, _key(execution))
    for each in _messages(record, execution):
        task.history.append(ParseDict(each, Message(), max_recursion_depth=MAX_DEPTH))
    final = task.status.message
    if task.status.HasField("message") and final.ByteSize() <= MAX_MESSAGE_BYTES:
        task.history.append(final)
    return apply_history_length(task, asked)


def _stored(message: Message, execution: Execution) -> dict[str, Json]:
    """Return the JSON of a message, with the IDs of its task, and without what is too large to keep."""
    kept = Message()
    kept.CopyFrom(message)
    kept.task_id, kept.context_id = execution.task_id, execution.context_id
    shown = cast("dict[str, Json]", mask(MessageToDict(kept)))
    size = len(dumps(shown))
    if size > MAX_MESSAGE_BYTES:
        said = f"The parts and metadata of this message are not kept: it has {size} bytes."
        shown = {name: shown[name] for name in ("messageId", "contextId", "taskId", "role")}
        shown["parts"] = [{"text": said, "mediaType": "text/plain"}]
    return shown


def _latest(messages: list[dict[str, Json]]) -> Iterator[dict[str, Json]]:
    """Yield the latest messages, of those that have room, in order."""
    sizes = [len(dumps(each)) for each in messages]
    for at, each in enumerate(messages):
        if len(messages) - at <= MAX_MESSAGES and sum(sizes[at:]) <= MAX_BYTES:
            yield each


def _messages(record: Record | None, execution: Execution) -> list[dict[str, Json]]:
    """Return the messages of a record; none if it belongs to a deleted tree with the same ID."""
    value = cast("dict[str, Json]", {} if record is None else record.value)
    return value["messages"] if value and value["created_at"] == created_at(execution.root) else []


def _key(execution: Execution) -> str:
    """Return the key of the record of an execution."""
    return f"{keys_of(execution.root.id)}a2a/history/{execution.run.number:09d}"
