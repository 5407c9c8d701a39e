"""What a message asks for: a run of new or stored tasks, a cancellation, or an operation. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, cast

from a2a.types.a2a_pb2 import Message, Part

from apflow.core.errors import InvalidInputError
from apflow.core.model.task import Json
from apflow.core.service.operations import OPERATIONS, unknown_operation
from apflow.server.a2a.values import read_value

EXECUTE: Final = "tasks.execute"
FAMILIES: Final = ("tasks", "system", "config")  # skills that stand for all operations of a family
OPTIONS: Final = ("user_id", "on_conflict", "idempotency_key", "force")  # of a run, in the metadata
EMPTY: Final[tuple[Json, ...]] = (None, {}, [], "", {"tasks": []})  # parts that carry nothing
HINT: Final = (
    'Send a data part {"tasks": [...]}, or one task per data part; or name a stored task in '
    "metadata.task_id, or an operation in metadata.method."
)


@dataclass(frozen=True)
class RunRequest:
    """A run of new tasks, or of a stored one."""

    tasks: Json = None  # to create; None: run `task_id`
    task_id: str | None = None
    copies: bool = False  # run a copy of `task_id`
    copy_children: bool | None = None
    options: Mapping[str, Json] = field(default_factory=dict[str, Json])  # other parameters of the operation


@dataclass(frozen=True)
class CancelRequest:
    """A cancellation, as a message without parts expresses it."""

    task_id: str
    error_message: str | None = None
    force: bool = False


@dataclass(frozen=True)
class OperationRequest:
    """A call of an operation, which is answered with one message."""

    name: str
    parameters: Mapping[str, Json]


Request = RunRequest | CancelRequest | OperationRequest


def read_request(
    message: Message, metadata: Mapping[str, Json], is_executor: Callable[[str], bool]
) -> Request:
    """Return what a message asks for.

    Args:
        metadata: of the request and of the message.
        is_executor: whether an executor of this ID is known.

    Raises:
        InvalidInputError: the message asks for nothing, or for something that does not exist.
    """
    if not message.parts and metadata.get("copy_execution") is not True:
        return _read_cancel(message, metadata)
    contents = contents_of(message)
    method = _text(metadata, "method") or _text(metadata, "skill_id")
    if method is not None and method not in FAMILIES:
        return _read_method(method, contents, metadata, is_executor)
    tasks = _read_tasks(contents)
    if tasks is not None:
        return RunRequest(tasks=tasks, options=_options(metadata))
    task_id = _text(metadata, "task_id") or next(iter(message.reference_task_ids), None)
    if task_id is None:
        task_id = message.task_id or None if metadata.get("copy_execution") is True else None
    if contents or task_id is None:
        raise InvalidInputError("Invalid message.", [f"message.parts: They contain no tasks. {HINT}"])
    return RunRequest(
        task_id=task_id,
        copies=_flag(metadata, "copy_execution"),
        copy_children=_flag(metadata, "copy_children") if "copy_children" in metadata else None,
        options=_options(metadata),
    )


def contents_of(message: Message) -> list[Json]:
    """Return the JSON of the parts of a message that carry something."""
    return [each for each in map(_content, message.parts) if each not in EMPTY]


def metadata_of(message: Message, more: Mapping[str, Json]) -> dict[str, Json]:
    """Return the metadata of a request and of its message, which wins."""
    return {**more, **cast("dict[str, Json]", read_value(message.metadata))}


def _read_cancel(message: Message, metadata: Mapping[str, Json]) -> CancelRequest:
    places = (
        message.task_id,
        message.context_id,
        _text(metadata, "task_id"),
        _text(metadata, "context_id"),
    )
    task_id = next((each for each in places if each), None)
    if task_id is None:
        raise InvalidInputError("Invalid message.", [f"message.parts: There are none. {HINT}"])
    return CancelRequest(task_id, _text(metadata, "error_message"), _flag(metadata, "force"))


def _read_method(
    method: str,
    contents: list[Json],
    metadata: Mapping[str, Json],
    is_executor: Callable[[str], bool],
) -> Request:
    if len(contents) > 1:
        raise InvalidInputError("Invalid message.", [f"message.parts: {method} takes one data part."])
    content: Json = contents[0] if contents else {}
    if method not in OPERATIONS and is_executor(method):
        if not isinstance(content, dict):
            raise InvalidInputError(
                "Invalid message.", [f"message.parts: The inputs of {method} are an object, in a data part."]
            )
        return RunRequest(tasks=[{"name": method, "inputs": content}], options=_options(metadata))
    if method not in OPERATIONS:
        raise InvalidInputError("Invalid message.", [f"metadata.method: {unknown_operation(method)}"])
    operation = OPERATIONS[method]
    if isinstance(content, list) and operation.shorthand is not None:
        content = {operation.shorthand.parameter: cast("Json", content)}
    if not isinstance(content, dict):
        raise InvalidInputError(
            "Invalid message.", [f"message.parts: The parameters of {method} are an object, in a data part."]
        )
    parameters = cast("dict[str, Json]", content)
    if method != EXECUTE:
        return OperationRequest(method, parameters)
    return RunRequest(
        tasks=parameters.get("tasks"),
        task_id=parameters.get("task_id") or parameters.get("id"),
        copies=parameters.get("copy_execution") is True,
        copy_children=parameters.get("copy_children"),
        options={
            name: value
            for name, value in parameters.items()
            if name not in ("tasks", "task_id", "id", "copy_execution", "copy_children", "wait")
        },
    )


def _read_tasks(contents: list[Json]) -> Json:
    """Return the tasks in the parts of a message; None if there are none."""
    if len(contents) == 1 and isinstance(contents[0], list):
        return cast("Json", contents[0])
    objects = [cast("dict[str, Json]", each) for each in contents if isinstance(each, dict)]
    if not objects or len(objects) != len(contents):
        return None
    if len(objects) == 1 and "tasks" in objects[0]:
        return objects[0]["tasks"] or None
    return list(objects) if all("name" in each for each in objects) else None


def _content(part: Part) -> Json:
    """Return the JSON of a part: its data, or its text, which may itself be JSON."""
    kind = part.WhichOneof("content")
    if kind == "data":
        return read_value(part.data)
    if kind != "text":
        return None if kind is None else {"unsupported": kind}
    text = part.text.strip()
    if text[:1] in ("{", "["):
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text


def _options(metadata: Mapping[str, Json]) -> dict[str, Json]:
    return {name: metadata[name] for name in OPTIONS if name in metadata}


def _text(metadata: Mapping[str, Json], name: str) -> str | None:
    value = metadata.get(name)
    if value is None or (isinstance(value, str) and value):
        return value
    raise InvalidInputError("Invalid message.", [f"metadata.{name}: It must be a string that is not empty."])


def _flag(metadata: Mapping[str, Json], name: str) -> bool:
    value = metadata.get(name, False)
    if isinstance(value, bool):
        return value
    raise InvalidInputError("Invalid message.", [f"metadata.{name}: It must be true or false."])
